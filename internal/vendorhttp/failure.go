package vendorhttp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	"github.com/covey-run/covey/internal/apikey"
	"github.com/covey-run/covey/messages"
)

// Call is what a failure's text needs of a call.
type Call struct {
	// Source is "provider/model", Base the server's address.
	Source, Base string
	// Pieces is how many chunks were delivered.
	Pieces int
	// Key must not be in any text.
	Key apikey.Key
	// Table classifies what the server says.
	Table Table
	// Hint is what to do when nobody answers at the address; "" for nothing.
	Hint string
	// Seen is the call's exchange.
	Seen *Exchange
}

// Failure returns why a call failed: the caller's leaving, a bound, a connection,
// an error's status and body. err is what the vendor's client returned. nil is
// for everything else, as an error inside a stream.
func (c *Call) Failure(ctx context.Context, err error) *messages.Error {
	if own := ctx.Err(); own != nil {
		return messages.Errorf(messages.ClassOf(own), c.Source, "called off after %d chunks from %s: %w", c.Pieces, c.Base, own)
	}
	var limit *LimitError
	var redirect *RedirectError
	var content *ContentError
	var transport *url.Error
	var e *messages.Error
	switch {
	case errors.As(c.Seen.Broke, &limit) || errors.As(err, &limit):
		e = messages.Errorf(messages.Malformed, c.Source, "%s: after %d chunks: %w", c.Base, c.Pieces, limit)
	case errors.Is(err, bufio.ErrTooLong): // the vendor's own bound was the smaller
		e = messages.Errorf(messages.Malformed, c.Source, "%s: after %d chunks: the server sent a line that is too long", c.Base, c.Pieces)
	case errors.As(err, &redirect):
		e = messages.Errorf(messages.Invalid, c.Source, "%s: %s", c.Base, c.Key.Redact(Clip(redirect.Error())))
	case errors.As(err, &content):
		if e = c.page(content); e == nil {
			e = messages.Errorf(messages.Transient, c.Source, "%s: %s", c.Base, c.Key.Redact(content.Error()))
		}
	case errors.As(err, &transport):
		e = messages.Errorf(ClassOfTransport(err), c.Source, "no answer from %s: %w%s", c.Base, transport.Err, c.Hint)
	case c.Seen.Status >= 400:
		return c.Said(c.Seen.Status, c.Seen.Error)
	case c.Seen.Broke != nil:
		e = messages.Errorf(brokenClass(c.Seen.Broke), c.Source, "the stream from %s broke off after %d chunks: %w", c.Base, c.Pieces, c.Seen.Broke)
	default:
		return nil
	}
	e.RetryAfter = c.Seen.RetryAfter
	return e
}

// page reads an error that came with a status of success.
func (c *Call) page(p *ContentError) *messages.Error {
	var v struct {
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(p.Body, &v) != nil || len(v.Error) == 0 || string(v.Error) == "null" {
		return nil
	}
	return c.Said(200, p.Body)
}

// brokenClass is a reading that failed: a deadline of the HTTP client's own, or
// else a connection.
func brokenClass(err error) messages.Class {
	if ClassOfTransport(err) == messages.Timeout {
		return messages.Timeout
	}
	return messages.Transient
}

// Said returns the failure that a server named in an error's body, in any of
// the vendors' shapes: {"error": {"type", "code", "message"}}, {"error": "…"},
// {"message": "…"}, or plain text.
func (c *Call) Said(status int, body []byte) *messages.Error {
	text, codes := read(body)
	if text == "" {
		text = "it gives no reason"
	}
	text = c.Key.Redact(Clip(text))
	if status == 200 {
		e := messages.Errorf(c.Table.Class(status, text, codes...), c.Source, "%s, after %d chunks: %s", c.Base, c.Pieces, text)
		e.RetryAfter = c.Seen.RetryAfter
		return e
	}
	e := messages.Errorf(c.Table.Class(status, text, codes...), c.Source, "%s: %d: %s", c.Base, status, text)
	e.Status, e.RetryAfter = status, c.Seen.RetryAfter
	return e
}

// read returns the text and the codes of an error's body, as far as it has any.
func read(body []byte) (text string, codes []string) {
	type detail struct {
		Message string          `json:"message"`
		Type    string          `json:"type"`
		Code    json.RawMessage `json:"code"` // a text or, with some servers, a number
	}
	var v struct {
		Error json.RawMessage `json:"error"`
		detail
	}
	body = firstOf(body)
	if json.Unmarshal(body, &v) != nil {
		return strings.TrimSpace(string(body)), nil
	}
	d := v.detail
	if len(v.Error) > 0 {
		if json.Unmarshal(v.Error, &text) == nil {
			return text, nil
		}
		d = detail{}
		_ = json.Unmarshal(v.Error, &d)
	}
	var code string
	_ = json.Unmarshal(d.Code, &code)
	text = d.Message
	for _, s := range []string{code, d.Type} {
		if s != "" && s != "error" {
			codes = append(codes, s)
		}
	}
	if len(codes) > 0 {
		text = strings.TrimSpace(codes[0] + ": " + text)
	}
	return text, codes
}

// firstOf unwraps a list of one error, as Google's compatible endpoint sends.
func firstOf(body []byte) []byte {
	var list []json.RawMessage
	if json.Unmarshal(body, &list) == nil && len(list) > 0 {
		return list[0]
	}
	return body
}

// Ended returns the failure of a stream that ended without its last chunk.
func (c *Call) Ended() *messages.Error {
	if c.Pieces == 0 {
		return messages.Errorf(messages.Transient, c.Source, "the server at %s ended the stream before its first chunk", c.Base)
	}
	return messages.Errorf(messages.Transient, c.Source, "the server at %s ended the stream after %d chunks, before its last one", c.Base, c.Pieces)
}

// Garbled returns the failure of a piece of a stream that cannot be read.
func (c *Call) Garbled(piece []byte, err error) *messages.Error {
	return messages.Errorf(messages.Transient, c.Source, "%s: after %d chunks: a piece that cannot be read (%w): %s",
		c.Base, c.Pieces, err, c.Key.Redact(Clip(strings.TrimSpace(string(piece)))))
}

// Clip bounds a text that a server chose.
func Clip(text string) string {
	const most = 500
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// Unsent is [Call.Failure] for a call that has no stream yet. What no server and
// no connection had a part in is the request's fault: class invalid.
func (c *Call) Unsent(ctx context.Context, err error) *messages.Error {
	if e := c.Failure(ctx, err); e != nil {
		return e
	}
	if err == nil {
		return c.Ended()
	}
	class := messages.Transient
	if c.Seen.Status == 0 {
		class = messages.Invalid
	}
	return messages.Errorf(class, c.Source, "%s: %s", c.Base, c.Key.Redact(Clip(err.Error())))
}

// Redacted returns an address without its password.
func Redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an address that cannot be read"
	}
	return u.Redacted()
}

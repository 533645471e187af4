// Package vendorhttp is what the clients of model servers share: a transport
// that sees what the vendors' SDKs do not pass on and that bounds what a server
// may send, and the classes of what can go wrong on the way.
package vendorhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/covey-run/covey/actors/provider"
)

// Exchange is what one HTTP exchange was like.
type Exchange struct {
	// Status is the answer's, 0 if there was none.
	Status int
	// RetryAfter is the wait that the server asked for; 0 if it named none.
	RetryAfter time.Duration
	// Error is the beginning of the body where the status is 400 or more.
	Error []byte
	// Broke is why reading the body failed: some clients take a broken stream
	// for one that ended.
	Broke error
}

type exchangeKey struct{}

// Watch returns a context under which one request fills e.
func Watch(ctx context.Context, e *Exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, e)
}

// The bounds of what a server may send. A 200,000 token reply is under 1 MiB.
const (
	// MaxBody is for a whole answer, in bytes, after decompression.
	MaxBody = 64 << 20
	// MaxLine is for one line of a stream, in bytes.
	MaxLine = 8 << 20
	// MaxError is for the body of an error, in bytes; the rest is not read.
	MaxError = 64 << 10
)

// LimitError is an answer beyond a bound.
type LimitError struct {
	// What is "answer" or "line"; Limit is its bound in bytes.
	What  string
	Limit int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("the server sent a %s of more than %d bytes", e.What, e.Limit)
}

// RedirectError is an answer that points elsewhere. It is not followed: the
// request carries a key that the other place must not see.
type RedirectError struct {
	Status   int
	Location string
}

func (e *RedirectError) Error() string {
	return fmt.Sprintf("the server redirects (%d) to %s, which is not followed: set base_url to the right address", e.Status, e.Location)
}

// ContentError is a successful answer that is no stream.
type ContentError struct {
	Type string // the media type
	Body []byte // its beginning
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("the server answered with %s, not with a stream: %s", e.Type, Clip(string(e.Body)))
}

// Transport fills the [Exchange] of a request's context and enforces the
// bounds. A redirect fails with a [RedirectError], and with Events set an answer
// that is JSON or a web page with a [ContentError].
type Transport struct {
	// Next makes the requests. nil: [Shared].
	Next http.RoundTripper
	// Events: successful answers are event streams.
	Events bool
	// MaxBody and MaxLine, in bytes. Zero: the constants of the same name.
	MaxBody, MaxLine int
}

// Shared is the transport of clients that were given none: connections to one
// server are kept for all of them, 64 at most.
var Shared http.RoundTripper = func() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = 64
	return t
}()

// Client returns a copy of hc (nil: a new one) with t around its transport.
func (t Transport) Client(hc *http.Client) *http.Client {
	var c http.Client
	if hc != nil {
		c = *hc
	}
	if c.Transport != nil {
		t.Next = c.Transport
	}
	c.Transport = t
	return &c
}

// RoundTrip makes one request.
func (t Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	next := t.Next
	if next == nil {
		next = Shared
	}
	e, ok := req.Context().Value(exchangeKey{}).(*Exchange)
	if !ok {
		e = &Exchange{} // the bounds hold all the same
	}
	res, err := next.RoundTrip(req)
	if err != nil {
		return res, err
	}
	e.Status, e.RetryAfter = res.StatusCode, retryAfter(res.Header)
	b := &body{ReadCloser: res.Body, e: e, left: t.MaxBody, line: t.MaxLine}
	if b.left == 0 {
		b.left = MaxBody
	}
	if b.line == 0 {
		b.line = MaxLine
	}
	b.maxBody, b.maxLine = b.left, b.line
	res.Body = b
	switch {
	case res.StatusCode >= 400:
		b.left, b.quiet = MaxError, true
		e.Error, err = io.ReadAll(b)
		if err != nil && req.Context().Err() != nil { // else what came is all there is
			b.Close()
			return nil, err
		}
		b.Close()
		res.Body = io.NopCloser(bytes.NewReader(e.Error))
	case res.StatusCode >= 300:
		res.Body.Close()
		return nil, &RedirectError{res.StatusCode, res.Header.Get("Location")}
	case t.Events && req.Method == http.MethodPost:
		kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
		if kind == "application/json" || kind == "text/html" {
			begin, _ := io.ReadAll(io.LimitReader(res.Body, MaxError))
			res.Body.Close()
			return nil, &ContentError{kind, begin}
		}
	}
	return res, nil
}

// retryAfter reads the headers: OpenAI and Anthropic have one in milliseconds.
func retryAfter(h http.Header) time.Duration {
	if v := h.Get("Retry-After-Ms"); v != "" {
		if d := provider.RetryAfter(v, time.Time{}); d > 0 {
			return d / 1000
		}
	}
	return provider.RetryAfter(h.Get("Retry-After"), time.Now())
}

// body bounds an answer and remembers why it broke off.
type body struct {
	io.ReadCloser
	e                *Exchange
	left, line       int // bytes that may yet come, and before the line's end
	maxBody, maxLine int
	quiet            bool // beyond the bound it just ends
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		if b.quiet {
			return 0, io.EOF
		}
		b.e.Broke = &LimitError{"answer", b.maxBody}
		return 0, b.e.Broke
	}
	p = p[:min(len(p), b.left)]
	n, err := b.ReadCloser.Read(p)
	b.left -= n
	for rest := p[:n]; len(rest) > 0 && b.line >= 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			b.line -= len(rest)
			break
		}
		if b.line -= i; b.line >= 0 {
			b.line = b.maxLine
		}
		rest = rest[i+1:]
	}
	if b.line < 0 && !b.quiet {
		err = &LimitError{"line", b.maxLine}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.e.Broke = err
	}
	return n, err
}

// Drain reads what is left of an answer whose last part has come, so that its
// connection can serve the next call: at most 4 KiB, and for at most 100 ms;
// then cancel must end the request.
func Drain(answer io.Reader, cancel func()) {
	late := time.AfterFunc(100*time.Millisecond, cancel)
	defer late.Stop()
	_, _ = io.CopyN(io.Discard, answer, 4<<10)
}

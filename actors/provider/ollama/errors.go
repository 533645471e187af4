package ollama

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/ollama/ollama/api"

	"github.com/covey-run/covey/messages"
)

// said classifies by what the server says, where the status alone would
// mislead or there is none: most errors of a runner come as a line inside a 200
// stream. The first match counts.
var said = []struct {
	text  string
	class messages.Class
}{
	{"exceeds the context length", messages.ContextLength},
	{"exceeds maximum context length", messages.ContextLength},
	{"exceeds the available context size", messages.ContextLength},
	{"error parsing tool call", messages.Malformed},
	{"failed to parse JSON", messages.Malformed},
	{"failed to create grammar", messages.Invalid}, // a format that does not parse, a 500
	{"invalid JSON schema in format", messages.Invalid},
	{"invalid format", messages.Invalid},
	{"does not support", messages.Invalid}, // tools, thinking, chat
	{"try pulling it first", messages.Invalid},
	{"unauthorized", messages.Unauthorized},
}

// classOfStatus classifies by the HTTP status, 200 being an error inside a
// stream.
func classOfStatus(status int) messages.Class {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return messages.Unauthorized
	case http.StatusPaymentRequired:
		return messages.Quota
	case http.StatusRequestTimeout:
		return messages.Timeout
	case http.StatusTooManyRequests, 529:
		return messages.Throttled
	case http.StatusNotImplemented:
		return messages.Invalid
	case 499: // the server thinks that the caller left, who did not
		return messages.Transient
	}
	if status >= 400 && status < 500 {
		return messages.Invalid
	}
	return messages.Transient
}

// classify returns the class of a failure that has a status and a text.
func classify(status int, text string) messages.Class {
	for _, s := range said {
		if strings.Contains(text, s.text) {
			return s.class
		}
	}
	return classOfStatus(status)
}

// classOfTransport classifies a request that got no answer. Almost all of it
// may pass (refused, reset, no such host); a certificate does not.
func classOfTransport(err error) messages.Class {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var network net.Error
	switch {
	case errors.As(err, &cert), errors.As(err, &record):
		return messages.Invalid
	case errors.As(err, &network) && network.Timeout():
		return messages.Timeout
	}
	return messages.Transient
}

// failure makes the one error of a call. err is what Ollama's client returned,
// nil for a stream that ended without its last line.
func (m *Model) failure(ctx context.Context, err error, seen *exchange, pieces int) error {
	if own := ctx.Err(); own != nil {
		return messages.Errorf(messages.ClassOf(own), m.source, "called off after %d chunks from %s: %w", pieces, m.base, own)
	}
	var status api.StatusError
	var auth api.AuthorizationError
	var transport *url.Error
	var e *messages.Error
	switch {
	case err == nil && seen.broke != nil:
		e = messages.Errorf(messages.Transient, m.source, "the stream from %s broke off after %d chunks: %w", m.base, pieces, seen.broke)
	case err == nil && pieces > 0:
		// Ollama ends a stream like this when the model says the same token 30
		// times over: the same call would end the same way.
		e = messages.Errorf(messages.Malformed, m.source, "the server ended the stream after %d chunks without a last one: the model repeats itself", pieces)
	case err == nil:
		e = messages.Errorf(messages.Transient, m.source, "the server at %s ended the stream before its first chunk", m.base)
	case errors.As(err, &auth):
		e = messages.Errorf(messages.Unauthorized, m.source, "%s: %s%s", m.base, auth.Error(), signIn(auth.SigninURL))
		e.Status = auth.StatusCode
	case errors.As(err, &status):
		e = messages.Errorf(classify(status.StatusCode, status.ErrorMessage), m.source, "%s: %w", m.base, status)
		e.Status = status.StatusCode
		if status.StatusCode == http.StatusNotFound {
			e = messages.Errorf(messages.Invalid, m.source, "%s: %w; get it with: ollama pull %s", m.base, status, m.model)
			e.Status = status.StatusCode
		}
	case errors.As(err, &transport):
		e = messages.Errorf(classOfTransport(err), m.source, "no answer from %s: %w; if no server runs there, start it with: ollama serve", m.base, transport.Err)
	default: // a line of the stream, or one that is not JSON
		e = messages.Errorf(classify(http.StatusOK, err.Error()), m.source, "%s, after %d chunks: %w", m.base, pieces, clipped(err))
	}
	e.RetryAfter = seen.retryAfter
	return e
}

func signIn(at string) string {
	if at == "" {
		return ""
	}
	return "; sign in at " + at
}

// clipped bounds a text that the server chose.
func clipped(err error) error {
	const most = 500
	text := err.Error()
	if len(text) <= most {
		return err
	}
	return fmt.Errorf("%s… (%d bytes)", strings.ToValidUTF8(text[:most], ""), len(text))
}

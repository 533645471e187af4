package ollama

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/covey-run/covey/internal/vendorhttp"
	"github.com/covey-run/covey/messages"
)

// table classifies by what the server says, where the status alone would
// mislead or there is none: most errors of a runner come as a line inside a 200
// stream. Then by the status.
var table = slices.Concat(vendorhttp.Table{
	{Text: "exceeds the context length", Class: messages.ContextLength},
	{Text: "exceeds maximum context length", Class: messages.ContextLength},
	{Text: "exceeds the available context size", Class: messages.ContextLength},
	{Text: "error parsing tool call", Class: messages.Malformed},
	{Text: "failed to parse JSON", Class: messages.Malformed},
	{Text: "failed to create grammar", Class: messages.Invalid}, // a format that does not parse, a 500
	{Text: "invalid JSON schema in format", Class: messages.Invalid},
	{Text: "invalid format", Class: messages.Invalid},
	{Text: "does not support", Class: messages.Invalid}, // tools, thinking, chat
	{Text: "try pulling it first", Class: messages.Invalid},
	{Text: "unauthorized", Class: messages.Unauthorized},
}, vendorhttp.Statuses)

// failure makes the one error of a call. err is what Ollama's client returned,
// nil for a stream that ended without its last line.
func (m *Model) failure(ctx context.Context, err error, seen *vendorhttp.Exchange, pieces int) error {
	call := &vendorhttp.Call{
		Source: m.source, Base: m.base, Pieces: pieces, Table: table, Seen: seen,
		Hint: "; if no server runs there, start it with: ollama serve",
	}
	var auth struct {
		SigninURL string `json:"signin_url"`
	}
	_ = json.Unmarshal(seen.Error, &auth)
	e := call.Failure(ctx, err)
	switch {
	case e != nil && e.Status == http.StatusNotFound:
		e.Message += "; get it with: ollama pull " + m.model
	case e != nil && e.Status == http.StatusUnauthorized && auth.SigninURL != "":
		e.Message += "; sign in at " + vendorhttp.Clip(auth.SigninURL)
	case e != nil:
	case err == nil && pieces > 0:
		// Ollama ends a stream like this when the model says the same token 30
		// times over: the same call would end the same way.
		e = messages.Errorf(messages.Malformed, m.source, "the server ended the stream after %d chunks without a last one: the model repeats itself", pieces)
	case err == nil:
		e = call.Ended()
	default: // a line of the stream, or one that is not JSON
		e = call.Said(http.StatusOK, []byte(err.Error()))
	}
	return e
}

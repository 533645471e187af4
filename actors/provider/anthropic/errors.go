package anthropic

import (
	"slices"

	"github.com/covey-run/covey/internal/vendorhttp"
	"github.com/covey-run/covey/messages"
)

// table classifies what a server says: in words where the API has no code of
// its own for it, then by the error's type, which is all that an error inside a
// stream has, then by the status.
var table = slices.Concat(vendorhttp.Table{
	{Text: "prompt is too long", Class: messages.ContextLength},
	{Text: "exceed context limit", Class: messages.ContextLength}, // input and max_tokens together
	{Text: "exceeds the context length", Class: messages.ContextLength},
	{Text: "exceeds the available context size", Class: messages.ContextLength},
	{Text: "credit balance is too low", Class: messages.Quota}, // a 400
	{Text: "reached your specified API usage limits", Class: messages.Quota},
	{Text: "error parsing tool call", Class: messages.Malformed}, // Ollama
	{Code: "billing_error", Class: messages.Quota},
	{Code: "authentication_error", Class: messages.Unauthorized},
	{Code: "permission_error", Class: messages.Unauthorized},
	{Code: "request_too_large", Class: messages.ContextLength},
	{Code: "not_found_error", Class: messages.Invalid},
	{Code: "invalid_request_error", Class: messages.Invalid},
	{Status: 503, Class: messages.Transient}, // Ollama says overloaded_error when its queue is full
	{Code: "rate_limit_error", Class: messages.Throttled},
	{Code: "overloaded_error", Class: messages.Throttled},
	{Code: "timeout_error", Class: messages.Timeout},
	{Status: 200, Code: "api_error", Class: messages.Transient},
}, vendorhttp.Statuses)

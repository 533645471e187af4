package openai

import (
	"slices"

	"github.com/covey-run/covey/internal/vendorhttp"
	"github.com/covey-run/covey/messages"
)

// table classifies what a server says: OpenAI's codes and types, then what
// compatible servers say in words only, then the status.
var table = slices.Concat(vendorhttp.Table{
	{Code: "insufficient_quota", Class: messages.Quota}, // a 429 that no wait cures
	{Code: "billing_hard_limit_reached", Class: messages.Quota},
	{Code: "billing_not_active", Class: messages.Quota},
	{Code: "context_length_exceeded", Class: messages.ContextLength},
	{Code: "string_above_max_length", Class: messages.ContextLength},
	{Code: "exceed_context_size_error", Class: messages.ContextLength}, // llama.cpp
	{Text: "maximum context length", Class: messages.ContextLength},    // vLLM
	{Text: "exceeds the context length", Class: messages.ContextLength},
	{Text: "exceeds the available context size", Class: messages.ContextLength},
	{Status: 413, Class: messages.ContextLength}, // Groq: more tokens than a minute allows
	{Code: "rate_limit_exceeded", Class: messages.Throttled},
	{Code: "slow_down", Class: messages.Throttled},
	{Status: 498, Class: messages.Throttled},                         // Groq: flex capacity
	{Code: "json_validate_failed", Class: messages.Malformed},        // Groq: the model missed the format
	{Code: "tool_use_failed", Class: messages.Malformed},             // Groq: or the tool's
	{Text: "error parsing tool call", Class: messages.Malformed},     // Ollama
	{Text: "failed to create grammar", Class: messages.Invalid},      // Ollama, a 500
	{Text: "invalid JSON schema in format", Class: messages.Invalid}, // Ollama, a 500
	{Text: "invalid format", Class: messages.Invalid},                // Ollama, a 500
	{Code: "invalid_api_key", Class: messages.Unauthorized},
	{Code: "model_not_found", Class: messages.Invalid},
	{Code: "content_filter", Class: messages.Invalid}, // Azure: the prompt was refused
	{Status: 200, Code: "server_error", Class: messages.Transient},
	{Status: 200, Code: "rate_limit_error", Class: messages.Throttled},
	{Status: 200, Code: "invalid_request_error", Class: messages.Invalid},
}, vendorhttp.Statuses)

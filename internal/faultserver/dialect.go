package faultserver

import (
	"encoding/json"
	"fmt"

	"github.com/covey-run/covey/internal/modeltest"
)

// Dialect is a vendor's protocol, as its documentation and a real server's
// answers have it.
type Dialect struct {
	// Name is the vendor's; Base is what its client's base URL ends with.
	Name, Base  string
	path        string
	contentType string
	// The parts of a stream.
	start func() string
	text  func(string) string
	end   func() string
	call  func(n int32) string // the tool call, and the end
	// wrong is a part whose types are wrong, broken one that is no JSON, failed an
	// error inside the stream.
	wrong, broken, failed string
	// frame begins a line, pad is one that says nothing and never ends.
	frame string
	// refusal is the body of an error.
	refusal func(status int, text string) string
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// Ollama is its own API.
var Ollama = Dialect{
	Name: "ollama", path: "/api/chat", contentType: "application/x-ndjson",
	start: func() string { return "" },
	text: func(t string) string {
		return fmt.Sprintf(`{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":%s},"done":false}`+"\n", quoted(t))
	},
	end: func() string { return ollamaEnd },
	call: func(n int32) string {
		return fmt.Sprintf(`{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_%d","function":{"index":0,"name":%q,"arguments":%s}}]},"done":false}`+"\n",
			n, modeltest.ToolName, modeltest.Arguments) + ollamaEnd
	},
	wrong:   `{"model":"m","message":{"role":"assistant","content":["x"]},"done":false}` + "\n",
	broken:  `{"model":` + "\n",
	failed:  `{"error":"an error was encountered while running the model: unexpected EOF"}` + "\n",
	frame:   `{"model":"`,
	refusal: func(_ int, text string) string { return fmt.Sprintf(`{"error":%s}`, quoted(text)) },
}

const ollamaEnd = `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":174560334,"load_duration":101397084,"prompt_eval_count":11,"prompt_eval_duration":13074791,"eval_count":4,"eval_duration":52479709}` + "\n"

// Anthropic is the Messages API.
var Anthropic = Dialect{
	Name: "anthropic", path: "/v1/messages", contentType: "text/event-stream; charset=utf-8",
	start: func() string {
		return sse("message_start", `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-test","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":11,"cache_creation_input_tokens":2,"cache_read_input_tokens":3,"output_tokens":1}}}`) +
			sse("ping", `{"type": "ping"}`) +
			sse("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
	},
	text: func(t string) string {
		return sse("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%s}}`, quoted(t)))
	},
	end: func() string {
		return sse("content_block_stop", `{"type":"content_block_stop","index":0}`) + anthropicEnd("end_turn")
	},
	call: func(n int32) string {
		args := modeltest.Arguments
		return sse("content_block_stop", `{"type":"content_block_stop","index":0}`) +
			sse("content_block_start", fmt.Sprintf(`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_%d","name":%q,"input":{}}}`, n, modeltest.ToolName)) +
			sse("content_block_delta", `{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}`) +
			sse("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":%s}}`, quoted(args[:5]))) +
			sse("content_block_delta", fmt.Sprintf(`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":%s}}`, quoted(args[5:]))) +
			sse("content_block_stop", `{"type":"content_block_stop","index":1}`) + anthropicEnd("tool_use")
	},
	wrong:  sse("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":["x"]}}`),
	broken: sse("content_block_delta", `{"type":"content_block_delta",`),
	failed: sse("error", `{"type":"error","error":{"type":"api_error","message":"Internal server error"}}`),
	frame:  "event: content_block_delta\ndata: {\"type\":\"",
	refusal: func(status int, text string) string {
		kind := map[int]string{
			400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
			413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error",
		}[status]
		if kind == "" {
			kind = "api_error"
		}
		return fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%s},"request_id":"req_011CSHoEeqs5C35K2UUqR7Fy"}`, kind, quoted(text))
	},
}

func anthropicEnd(reason string) string {
	return sse("message_delta", fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":%q,"stop_sequence":null},"usage":{"output_tokens":4}}`, reason)) +
		sse("message_stop", `{"type":"message_stop"}`)
}

func sse(event, data string) string {
	if event == "" {
		return "data: " + data + "\n\n"
	}
	return "event: " + event + "\ndata: " + data + "\n\n"
}

// OpenAI is chat completions.
var OpenAI = Dialect{
	Name: "openai", Base: "/v1", path: "/chat/completions", contentType: "text/event-stream",
	start: func() string { return openAI(`{"role":"assistant","content":"","refusal":null}`, "null") },
	text:  func(t string) string { return openAI(fmt.Sprintf(`{"content":%s}`, quoted(t)), "null") },
	end:   func() string { return openAI("{}", `"stop"`) + openAIEnd },
	call: func(n int32) string {
		args := modeltest.Arguments
		return openAI(fmt.Sprintf(`{"tool_calls":[{"index":0,"id":"call_%d","type":"function","function":{"name":%q,"arguments":""}}]}`, n, modeltest.ToolName), "null") +
			openAI(fmt.Sprintf(`{"tool_calls":[{"index":0,"function":{"arguments":%s}}]}`, quoted(args[:5])), "null") +
			openAI(fmt.Sprintf(`{"tool_calls":[{"index":0,"function":{"arguments":%s}}]}`, quoted(args[5:])), "null") +
			openAI("{}", `"tool_calls"`) + openAIEnd
	},
	wrong:  openAI(`{"content":["x"]}`, "null"),
	broken: sse("", `{"id":`),
	failed: sse("", `{"error":{"message":"The server had an error while processing your request. Sorry about that!","type":"server_error","param":null,"code":null}}`),
	frame:  `data: {"id":"`,
	refusal: func(status int, text string) string {
		kind, code := "invalid_request_error", "null"
		switch status {
		case 401:
			code = `"invalid_api_key"`
		case 402:
			kind, code = "insufficient_quota", `"insufficient_quota"`
		case 404:
			code = `"model_not_found"`
		case 429:
			kind, code = "requests", `"rate_limit_exceeded"`
		default:
			if status >= 500 {
				kind = "server_error"
			}
		}
		return fmt.Sprintf(`{"error":{"message":%s,"type":%q,"param":null,"code":%s}}`, quoted(text), kind, code)
	},
}

func openAI(delta, finish string) string {
	return sse("", fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"gpt-test","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}],"usage":null}`, delta, finish))
}

var openAIEnd = sse("", `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"gpt-test","service_tier":"default","system_fingerprint":"fp_1","choices":[],"usage":{"prompt_tokens":16,"completion_tokens":4,"total_tokens":20,"prompt_tokens_details":{"cached_tokens":3,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}`) +
	"data: [DONE]\n\n"

package openai

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/openai/openai-go/v3/packages/ssestream"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/internal/vendorhttp"
	"github.com/covey-run/covey/messages"
)

// piece is one event of a stream, as far as it is used. The SDK's own type
// would turn a field of a wrong type into an empty one.
type piece struct {
	Model   string          `json:"model"`
	Error   json.RawMessage `json:"error"`
	Choices []struct {
		Index int `json:"index"`
		Delta struct {
			Content          string  `json:"content"`
			Refusal          string  `json:"refusal"`
			Reasoning        string  `json:"reasoning"`         // Ollama, Groq, OpenRouter
			ReasoningContent string  `json:"reasoning_content"` // vLLM, llama.cpp, DeepSeek
			ToolCalls        []delta `json:"tool_calls"`
		} `json:"delta"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		PromptTokens        int `json:"prompt_tokens"`
		CompletionTokens    int `json:"completion_tokens"`
		PromptTokensDetails struct {
			CachedTokens int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
}

// delta is a part of a tool call.
type delta struct {
	Index    int    `json:"index"`
	ID       string `json:"id"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// tool is a tool call under construction.
type tool struct {
	index     int
	id, name  string
	arguments []byte
}

// reading is one stream on its way to chunks.
type reading struct {
	call    *vendorhttp.Call
	model   string
	start   time.Time
	yield   func(provider.Chunk, error) bool
	drain   func() // reads the answer's rest, if it comes at once
	tools   []*tool
	finish  string // the finish reason, once it came
	refused bool
	usage   messages.Usage
}

// all reads a stream to its end and returns its failure; nil when its last
// chunk was delivered or the caller left.
func (r *reading) all(events ssestream.Decoder) error {
	for events.Next() {
		data := bytes.TrimSpace(events.Event().Data)
		if len(data) == 0 {
			continue
		}
		if bytes.HasPrefix(data, []byte("[DONE]")) {
			if r.finish == "" && r.call.Pieces > 0 {
				r.finish = "none"
			}
			r.drain()
			break
		}
		var p piece
		if err := json.Unmarshal(data, &p); err != nil {
			return r.call.Garbled(data, err)
		}
		if len(p.Error) > 0 && string(p.Error) != "null" {
			return r.call.Said(200, data)
		}
		if !r.take(&p) {
			return nil
		}
	}
	if r.finish == "" {
		return r.call.Ended()
	}
	return r.last()
}

// take delivers what a piece holds; false when the caller left.
func (r *reading) take(p *piece) bool {
	if p.Model != "" {
		r.model = p.Model
	}
	if u := p.Usage; u != nil {
		r.usage.InputTokens, r.usage.OutputTokens = u.PromptTokens, u.CompletionTokens
		r.usage.CachedTokens = u.PromptTokensDetails.CachedTokens
	}
	for _, c := range p.Choices {
		if c.Index != 0 {
			continue
		}
		if c.FinishReason != "" {
			r.finish = c.FinishReason
		}
		for _, d := range c.Delta.ToolCalls {
			r.add(d)
		}
		r.refused = r.refused || c.Delta.Refusal != ""
		chunk := provider.Chunk{
			Attempt: 1, Text: c.Delta.Content + c.Delta.Refusal, Thinking: c.Delta.Reasoning + c.Delta.ReasoningContent,
		}
		if chunk.Text == "" && chunk.Thinking == "" {
			continue
		}
		r.call.Pieces++
		if !r.yield(chunk, nil) {
			return false
		}
	}
	return true
}

// add adds a part of a tool call to the one that it belongs to. Some servers
// number all calls 0: a part with an id of its own begins a new one.
func (r *reading) add(d delta) {
	var t *tool
	for _, known := range r.tools {
		if known.index == d.Index && (d.ID == "" || known.id == "" || known.id == d.ID) {
			t = known
		}
	}
	if t == nil {
		t = &tool{index: d.Index}
		r.tools = append(r.tools, t)
	}
	if d.ID != "" {
		t.id = d.ID
	}
	if t.name == "" {
		t.name = d.Function.Name
	}
	t.arguments = append(t.arguments, d.Function.Arguments...)
}

// last delivers the tool calls and the last chunk.
func (r *reading) last() error {
	chunk := provider.Chunk{Attempt: 1, Stop: stop(r.finish, len(r.tools) > 0, r.refused), Usage: r.usage, Model: r.model}
	for _, t := range r.tools {
		if len(bytes.TrimSpace(t.arguments)) == 0 {
			t.arguments = []byte("{}")
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(t.arguments, &object); err != nil || t.name == "" {
			return messages.Errorf(messages.Malformed, r.call.Source, "the model's call of tool %q has arguments that are no JSON object (finish reason %q): %s",
				t.name, r.finish, vendorhttp.Clip(string(t.arguments)))
		}
		if t.id == "" {
			t.id = "call_" + rand.Text()[:12]
		}
		chunk.ToolCalls = append(chunk.ToolCalls, messages.ToolCall{ID: t.id, Name: t.name, Arguments: t.arguments})
	}
	chunk.Usage.Calls = 1
	chunk.Usage.Duration = time.Since(r.start)
	r.yield(chunk, nil)
	return nil
}

// stop names a finish reason.
func stop(reason string, called, refused bool) messages.StopReason {
	switch {
	case reason == "content_filter" || refused:
		return messages.StopFiltered
	case reason == "length":
		return messages.StopLength
	case reason == "tool_calls" || reason == "function_call" || called:
		return messages.StopTools
	case reason == "stop":
		return messages.StopEnd
	}
	return messages.StopOther
}

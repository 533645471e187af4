package anthropic

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/anthropics/anthropic-sdk-go/packages/ssestream"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/internal/vendorhttp"
	"github.com/covey-run/covey/messages"
)

// event is one event of a stream, as far as it is used. The SDK's own type
// would turn a field of a wrong type into an empty one.
type event struct {
	Type    string `json:"type"`
	Index   int    `json:"index"`
	Message struct {
		Model string `json:"model"`
		Usage usage  `json:"usage"`
	} `json:"message"`
	ContentBlock struct {
		Type     string          `json:"type"`
		ID       string          `json:"id"`
		Name     string          `json:"name"`
		Text     string          `json:"text"`
		Thinking string          `json:"thinking"`
		Data     string          `json:"data"` // of redacted thinking
		Input    json.RawMessage `json:"input"`
	} `json:"content_block"`
	Delta struct {
		Type        string `json:"type"`
		Text        string `json:"text"`
		Thinking    string `json:"thinking"`
		Signature   string `json:"signature"`
		PartialJSON string `json:"partial_json"`
		StopReason  string `json:"stop_reason"`
	} `json:"delta"`
	Usage usage `json:"usage"`
}

// usage has what the API counts; what is absent does not change.
type usage struct {
	Input      *int `json:"input_tokens"`
	Output     *int `json:"output_tokens"`
	CacheRead  *int `json:"cache_read_input_tokens"`
	CacheWrite *int `json:"cache_creation_input_tokens"`
}

// block is a content block under construction.
type block struct {
	kind, id, name      string
	input               []byte // a tool's arguments
	thinking, signature string
	data                string
	whole               bool
}

// reading is one stream on its way to chunks.
type reading struct {
	call   *vendorhttp.Call
	model  string
	start  time.Time
	yield  func(provider.Chunk, error) bool
	drain  func() // reads the answer's rest, if it comes at once
	blocks []*block
	index  map[int]*block
	reason string // the stop reason, once it came
	usage  usage
}

// all reads a stream to its end and returns its failure; nil when its last
// chunk was delivered or the caller left.
func (r *reading) all(events ssestream.Decoder) error {
	r.index = map[int]*block{}
	for events.Next() {
		data := bytes.TrimSpace(events.Event().Data)
		if len(data) == 0 {
			continue
		}
		if events.Event().Type == "error" {
			return r.call.Said(200, data)
		}
		var e event
		if err := json.Unmarshal(data, &e); err != nil {
			return r.call.Garbled(data, err)
		}
		switch e.Type {
		case "error":
			return r.call.Said(200, data)
		case "message_stop":
			if r.reason == "" {
				return r.call.Ended()
			}
			r.drain()
			return r.last()
		}
		if !r.take(&e) {
			return nil
		}
	}
	if r.reason == "" {
		return r.call.Ended()
	}
	return r.last()
}

// take delivers what an event holds; false when the caller left.
func (r *reading) take(e *event) bool {
	var chunk provider.Chunk
	switch e.Type {
	case "message_start":
		if e.Message.Model != "" {
			r.model = e.Message.Model
		}
		r.count(e.Message.Usage)
	case "content_block_start":
		c := e.ContentBlock
		b := &block{kind: c.Type, id: c.ID, name: c.Name, thinking: c.Thinking, data: c.Data}
		if in := bytes.TrimSpace(c.Input); len(in) > 0 && string(in) != "{}" && string(in) != "null" {
			b.input, b.whole = in, true
		}
		r.blocks, r.index[e.Index] = append(r.blocks, b), b
		chunk.Text, chunk.Thinking = c.Text, c.Thinking
	case "content_block_delta":
		b := r.index[e.Index]
		if b == nil {
			b = &block{kind: "text"} // a server that announces no blocks
			r.blocks, r.index[e.Index] = append(r.blocks, b), b
		}
		d := e.Delta
		b.thinking += d.Thinking
		b.signature += d.Signature
		if !b.whole {
			b.input = append(b.input, d.PartialJSON...)
		}
		chunk.Text, chunk.Thinking = d.Text, d.Thinking
	case "message_delta":
		if e.Delta.StopReason != "" {
			r.reason = e.Delta.StopReason
		}
		r.count(e.Usage)
	}
	if chunk.Text == "" && chunk.Thinking == "" {
		return true
	}
	chunk.Attempt = 1
	r.call.Pieces++
	return r.yield(chunk, nil)
}

// count keeps the newest counts: those of message_delta are of the whole call.
func (r *reading) count(u usage) {
	for _, f := range []struct{ to, from **int }{
		{&r.usage.Input, &u.Input}, {&r.usage.Output, &u.Output},
		{&r.usage.CacheRead, &u.CacheRead}, {&r.usage.CacheWrite, &u.CacheWrite},
	} {
		// Zero in message_delta, after a count in message_start, is "not counted".
		if v := *f.from; v != nil && (*v != 0 || *f.to == nil) {
			*f.to = v
		}
	}
}

// last delivers the tool calls and the last chunk.
func (r *reading) last() error {
	chunk := provider.Chunk{Attempt: 1, Model: r.model, Usage: messages.Usage{
		Calls: 1, OutputTokens: value(r.usage.Output), CachedTokens: value(r.usage.CacheRead),
		// The API counts what it read from or wrote to its cache apart.
		InputTokens: value(r.usage.Input) + value(r.usage.CacheRead) + value(r.usage.CacheWrite),
		Duration:    time.Since(r.start),
	}}
	var signed []any
	for _, b := range r.blocks {
		switch b.kind {
		case "tool_use":
			call, err := r.tool(b)
			if err != nil {
				return err
			}
			chunk.ToolCalls = append(chunk.ToolCalls, call)
		case "thinking":
			if b.signature != "" {
				signed = append(signed, thinkingBlock{Type: b.kind, Thinking: b.thinking, Signature: b.signature})
			}
		case "redacted_thinking":
			signed = append(signed, redactedBlock{Type: b.kind, Data: b.data})
		}
	}
	if len(signed) > 0 {
		raw, err := json.Marshal(signed)
		if err != nil {
			return r.call.Garbled(nil, err)
		}
		chunk.ThinkingRaw = raw
	}
	chunk.Stop = stop(r.reason, len(chunk.ToolCalls) > 0)
	r.yield(chunk, nil)
	return nil
}

// The blocks that go back as they came, with the results of tools.
type (
	thinkingBlock struct {
		Type      string `json:"type"`
		Thinking  string `json:"thinking"`
		Signature string `json:"signature"`
	}
	redactedBlock struct {
		Type string `json:"type"`
		Data string `json:"data"`
	}
)

func (r *reading) tool(b *block) (messages.ToolCall, error) {
	if len(bytes.TrimSpace(b.input)) == 0 {
		b.input = []byte("{}")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b.input, &object); err != nil || b.name == "" {
		return messages.ToolCall{}, messages.Errorf(messages.Malformed, r.call.Source,
			"the model's call of tool %q has arguments that are no JSON object (stop reason %q): %s", b.name, r.reason, vendorhttp.Clip(string(b.input)))
	}
	if b.id == "" {
		b.id = "toolu_" + rand.Text()[:12]
	}
	return messages.ToolCall{ID: b.id, Name: b.name, Arguments: b.input}, nil
}

func value(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

// stop names a stop reason.
func stop(reason string, called bool) messages.StopReason {
	switch reason {
	case "max_tokens", "model_context_window_exceeded":
		return messages.StopLength
	case "refusal":
		return messages.StopFiltered
	case "tool_use":
		return messages.StopTools
	case "end_turn", "stop_sequence":
		if called {
			return messages.StopTools
		}
		return messages.StopEnd
	}
	return messages.StopOther // pause_turn, and what comes
}

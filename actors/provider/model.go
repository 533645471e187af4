// Package provider is everything around one call to a model: the [Model]
// interface with its one streaming method, [Collect] for who wants the whole
// reply at once, and middlewares (cache, single-flight, queue, limiter, breaker,
// retry; all of them: [Stack]) that wrap a Model and
// are Models themselves. Each works without actors; the provider actor of
// package actors composes them and owns their state.
//
// The clients are in packages of their own: anthropic, ollama, openai, scripted.
package provider

import (
	"context"
	"encoding/json"
	"iter"

	"github.com/covey-run/covey/messages"
)

// Model is something that continues a conversation.
//
// Stream makes one call. It yields chunks in order; the last one has a Stop
// reason. An error is yielded at most once and ends the sequence; its class
// ([messages.ClassOf]) says whether the call may be made again. Nothing is sent
// before the sequence is ranged over, ranging twice makes two calls, and
// breaking out of the loop or ending ctx abandons the call. Implementations are
// safe for concurrent use and do not retain or change req.
type Model interface {
	Stream(ctx context.Context, req *Request) iter.Seq2[Chunk, error]
}

// Func makes a Model of a plain function.
type Func func(ctx context.Context, req *Request) iter.Seq2[Chunk, error]

// Stream calls f.
func (f Func) Stream(ctx context.Context, req *Request) iter.Seq2[Chunk, error] { return f(ctx, req) }

// Middleware wraps a model in another.
type Middleware func(Model) Model

// Request is one call: a conversation and how to continue it.
type Request struct {
	// Messages is the conversation, oldest first; at least one.
	Messages []messages.Message `json:"messages"`
	// Tools are the tools that the model may ask for.
	Tools []messages.ToolSpec `json:"tools,omitempty"`
	// Format is a JSON schema that the reply's text shall satisfy; nil for free
	// text. A provider that cannot promise it fails with class invalid.
	Format json.RawMessage `json:"format,omitempty"`
	// Options tune the sampling.
	Options Options `json:"options,omitzero"`
	// Key identifies the call: two requests with one key are the same call, and
	// share one while it is under way. Who changes a request changes its key. ""
	// for none.
	Key string `json:"key,omitempty"`
	// Kind is the type of call, which names settings of its own: "chat",
	// "summary", any word. "": the default settings.
	Kind string `json:"kind,omitempty"`
	// Session names the conversation that the call belongs to, for logs, events
	// and exemplars; never a metric's label.
	Session string `json:"session,omitempty"`
	// Priority orders callers that wait: a lower number goes first, and equal
	// ones in the order in which they came. Zero is normal; it may be negative.
	Priority int `json:"priority,omitempty"`
	// Fresh refuses a reply that a cache kept and a call that another has begun;
	// the new reply replaces the kept one.
	Fresh bool `json:"fresh,omitempty"`
	// Override changes settings of the stack for this call alone. nil: none.
	Override *Override `json:"-"`
}

// Options tune a call. The zero value leaves everything to the server.
type Options struct {
	// Temperature and TopP as the provider defines them; nil: its default.
	Temperature *float64 `json:"temperature,omitempty"`
	TopP        *float64 `json:"top_p,omitempty"`
	// Seed makes sampling repeatable where the provider can; nil: random.
	Seed *int `json:"seed,omitempty"`
	// MaxTokens bounds the reply, in tokens; 0: the provider's default.
	MaxTokens int `json:"max_tokens,omitempty"`
	// ContextTokens is the window to reserve, in tokens, where the server lets
	// the caller choose (Ollama's num_ctx); 0: the server's default.
	ContextTokens int `json:"context_tokens,omitempty"`
	// Stop ends the reply before any of these texts.
	Stop []string `json:"stop,omitempty"`
	// Think turns reasoning on or off for models that can; nil: off.
	Think *bool `json:"think,omitempty"`
}

// Chunk is a piece of a reply.
type Chunk struct {
	// Text and Thinking continue the reply.
	Text     string
	Thinking string
	// ThinkingRaw is [messages.Message.ThinkingRaw], whole, in one chunk.
	ThinkingRaw json.RawMessage
	// ToolCalls are whole calls; each appears in one chunk.
	ToolCalls []messages.ToolCall
	// Attempt counts from 1. When it grows, everything delivered under a smaller
	// number belongs to a broken attempt and must be discarded. 0 is 1.
	Attempt int
	// Broken is set on the first chunk of a new attempt that follows a partly
	// delivered one, and says why. That chunk has no content and comes as soon as
	// the break is known, before the wait for the attempt.
	Broken error
	// Stop is set on the last chunk, with Usage and the Model that spoke.
	Stop  messages.StopReason
	Usage messages.Usage
	Model string
	// Origin is set on the last chunk of a reply that was not simply the first
	// choice's; nil else.
	Origin *messages.Origin
}

// Reply is a whole reply.
type Reply struct {
	Message messages.Message
	Usage   messages.Usage
	Stop    messages.StopReason
	// Model is the model that spoke, as the provider names it.
	Model string
	// Attempts is how many tries it took, at least 1.
	Attempts int
	// Origin says where it came from if not from the first choice; nil else.
	Origin *messages.Origin
}

// Collect ranges over a stream and returns the whole reply, text of broken
// attempts left out. A stream that ends without a stop reason is an error of
// class transient: the reply is cut off. each, if not nil, sees every chunk as
// it comes.
func Collect(seq iter.Seq2[Chunk, error], each func(Chunk)) (*Reply, error) {
	r := &Reply{Message: messages.Message{Role: messages.Assistant}, Attempts: 1}
	var text, thinking []byte
	for c, err := range seq {
		if err != nil {
			return nil, err
		}
		if c.Attempt > r.Attempts {
			text, thinking, r.Message.ToolCalls, r.Message.ThinkingRaw = nil, nil, nil, nil
			r.Attempts = c.Attempt
		}
		if each != nil {
			each(c)
		}
		text = append(text, c.Text...)
		thinking = append(thinking, c.Thinking...)
		r.Message.ToolCalls = append(r.Message.ToolCalls, c.ToolCalls...)
		if c.ThinkingRaw != nil {
			r.Message.ThinkingRaw = c.ThinkingRaw
		}
		if c.Stop != "" {
			r.Stop, r.Usage, r.Model, r.Origin = c.Stop, c.Usage, c.Model, c.Origin
		}
	}
	r.Message.Content, r.Message.Thinking = string(text), string(thinking)
	if r.Stop == "" {
		return nil, messages.Errorf(messages.Transient, "", "the stream ended before its last chunk, after %d bytes of text", len(text))
	}
	return r, nil
}

// Call makes one call and returns the whole reply.
func Call(ctx context.Context, m Model, req *Request) (*Reply, error) {
	return Collect(m.Stream(ctx, req), nil)
}

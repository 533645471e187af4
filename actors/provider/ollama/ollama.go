// Package ollama is a provider.Model on an Ollama server, over its own Go
// client. It streams, calls tools, asks for structured output, and never
// retries: that is package provider's part.
//
// Two of its settings differ from the server's defaults. Models that can think
// do not, unless the request says so. And a conversation that does not fit the
// model's context is an error of class context_length, where the server would
// silently drop its oldest messages.
package ollama

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/envconfig"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/internal/vendorhttp"
	"github.com/covey-run/covey/messages"
)

// Config says which model on which server.
type Config struct {
	// Model is its name on the server, as "llama3.2" or "qwen3:0.6b". Needed.
	Model string
	// BaseURL is the server's address, as "http://127.0.0.1:11434". "": what the
	// environment variable OLLAMA_HOST says, as Ollama itself reads it, else
	// http://127.0.0.1:11434.
	BaseURL string
	// HTTP makes the requests. nil: a client that all models share, with 64 idle
	// connections a server and no timeout but the context's. Its Transport is
	// wrapped, not changed.
	HTTP *http.Client
	// MaxBytes bounds one answer, in bytes; a longer one fails with class
	// malformed. Zero: 64 MiB. A line of it has at most 8 MiB in any case.
	MaxBytes int
	// KeepAlive is how long the server keeps the model loaded after a call. Zero:
	// the server's default, 5 minutes if it was not told otherwise. Negative: for
	// ever.
	KeepAlive time.Duration
}

// Check returns an error of class invalid that names the first field which
// cannot work.
func (c Config) Check() error {
	if c.Model == "" {
		return messages.Errorf(messages.Invalid, "ollama", `config: model: "" is not allowed: use a name as "llama3.2"`)
	}
	if c.BaseURL != "" {
		u, err := url.Parse(c.BaseURL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return messages.Errorf(messages.Invalid, "ollama", `config: base_url: %q is not allowed: use an address as "http://127.0.0.1:11434"`, vendorhttp.Redacted(c.BaseURL))
		}
	}
	if c.MaxBytes < 0 {
		return messages.Errorf(messages.Invalid, "ollama", "config: max_bytes: %d is not allowed: use a positive number, or 0 for 64 MiB", c.MaxBytes)
	}
	return nil
}

// Model is one model on one Ollama server.
type Model struct {
	model     string
	source    string // for errors: "ollama/<model>"
	base      string
	keepAlive *api.Duration
	client    *api.Client
	url       string // of /api/chat; "" where the client must sign requests
	http      *http.Client
}

// New fails only with cfg's Check. It makes no call; see [Model.Ping].
func New(cfg Config) (*Model, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	base := envconfig.Host()
	if cfg.BaseURL != "" {
		base, _ = url.Parse(cfg.BaseURL)
	}
	hc := vendorhttp.Transport{MaxBody: cfg.MaxBytes}.Client(cfg.HTTP)
	m := &Model{
		model: cfg.Model, source: "ollama/" + cfg.Model, base: base.Redacted(),
		client: api.NewClient(base, hc), http: hc,
	}
	if !envconfig.UseAuth() && base.Hostname() != "ollama.com" {
		m.url = base.JoinPath("/api/chat").String()
	}
	if cfg.KeepAlive != 0 {
		m.keepAlive = &api.Duration{Duration: cfg.KeepAlive}
	}
	return m, nil
}

// Factory makes models of one server for a provider.Registry; cfg.Model is the
// one that a reference without a model means.
func Factory(cfg Config) provider.Factory {
	return func(model string) (provider.Model, error) {
		c := cfg
		if model != "" {
			c.Model = model
		}
		return New(c)
	}
}

// errAbandoned ends a call whose caller broke out of the loop.
var errAbandoned = errors.New("abandoned")

// Stream makes one call to /api/chat.
func (m *Model) Stream(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
	return func(yield func(provider.Chunk, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(provider.Chunk{}, messages.AsError(err, messages.Canceled, m.source))
			return
		}
		r, err := m.request(req)
		if err != nil {
			yield(provider.Chunk{}, err)
			return
		}
		start := time.Now()
		seen := &vendorhttp.Exchange{}
		var last provider.Chunk
		pieces, called := 0, false
		err = m.chat(vendorhttp.Watch(ctx, seen), r, func(res *api.ChatResponse) error {
			c := chunk(res)
			called = called || len(c.ToolCalls) > 0
			if res.Done { // held until the connection is free for the next call
				last = c
				last.Stop = stop(res.DoneReason, called)
				last.Model = res.Model
				last.Usage = messages.Usage{
					Calls: 1, InputTokens: res.PromptEvalCount, OutputTokens: res.EvalCount, Duration: time.Since(start),
				}
				return nil
			}
			if c.Text == "" && c.Thinking == "" && len(c.ToolCalls) == 0 {
				return nil
			}
			pieces++
			if !yield(c, nil) {
				return errAbandoned
			}
			return nil
		})
		switch {
		case err == errAbandoned:
		case err == nil && last.Stop != "":
			yield(last, nil)
		default:
			yield(provider.Chunk{}, m.failure(ctx, err, seen, pieces))
		}
	}
}

// request puts a request into the server's words.
func (m *Model) request(req *provider.Request) (*api.ChatRequest, error) {
	invalid := func(format string, args ...any) error {
		return messages.Errorf(messages.Invalid, m.source, "request: "+format, args...)
	}
	if len(req.Messages) == 0 {
		return nil, invalid("messages: none is not allowed: use at least one")
	}
	if req.Format != nil && !json.Valid(req.Format) {
		return nil, invalid("format: it is not JSON: use a JSON schema")
	}
	no := false
	r := &api.ChatRequest{
		Model: m.model, KeepAlive: m.keepAlive, Format: req.Format, Options: options(req.Options),
		Messages: make([]api.Message, len(req.Messages)),
		Think:    &api.ThinkValue{Value: req.Options.Think != nil && *req.Options.Think},
		Truncate: &no, Shift: &no,
	}
	for i, msg := range req.Messages {
		out := api.Message{
			Role: string(msg.Role), Content: msg.Content, Thinking: msg.Thinking,
			ToolCallID: msg.ToolCallID, ToolName: msg.ToolName,
		}
		for _, img := range msg.Images {
			out.Images = append(out.Images, img.Data)
		}
		for _, c := range msg.ToolCalls {
			call := api.ToolCall{ID: c.ID, Function: api.ToolCallFunction{Name: c.Name}}
			if len(c.Arguments) > 0 {
				if err := json.Unmarshal(c.Arguments, &call.Function.Arguments); err != nil {
					return nil, invalid("message %d: the arguments of tool call %s are not a JSON object: %w", i, c.Name, err)
				}
			}
			out.ToolCalls = append(out.ToolCalls, call)
		}
		r.Messages[i] = out
	}
	for _, t := range req.Tools {
		tool := api.Tool{Type: "function", Function: api.ToolFunction{Name: t.Name, Description: t.Description}}
		tool.Function.Parameters.Type = "object"
		if len(t.Parameters) > 0 {
			if err := json.Unmarshal(t.Parameters, &tool.Function.Parameters); err != nil {
				return nil, invalid("the parameters of tool %s are not a JSON schema that Ollama takes: %w", t.Name, err)
			}
		}
		if tool.Function.Parameters.Properties == nil {
			tool.Function.Parameters.Properties = api.NewToolPropertiesMap()
		}
		r.Tools = append(r.Tools, tool)
	}
	return r, nil
}

// options returns the server's options, nil if all are left to it.
func options(o provider.Options) map[string]any {
	var m map[string]any
	set := func(name string, given bool, value func() any) {
		if !given {
			return
		}
		if m == nil {
			m = map[string]any{}
		}
		m[name] = value()
	}
	set("temperature", o.Temperature != nil, func() any { return *o.Temperature })
	set("top_p", o.TopP != nil, func() any { return *o.TopP })
	set("seed", o.Seed != nil, func() any { return *o.Seed })
	set("num_predict", o.MaxTokens != 0, func() any { return o.MaxTokens })
	set("num_ctx", o.ContextTokens != 0, func() any { return o.ContextTokens })
	set("stop", len(o.Stop) > 0, func() any { return o.Stop })
	return m
}

// chunk reads the pieces of one line.
func chunk(res *api.ChatResponse) provider.Chunk {
	c := provider.Chunk{Attempt: 1, Text: res.Message.Content, Thinking: res.Message.Thinking}
	for _, t := range res.Message.ToolCalls {
		call := messages.ToolCall{ID: t.ID, Name: t.Function.Name, Arguments: json.RawMessage(t.Function.Arguments.String())}
		if call.ID == "" {
			call.ID = fmt.Sprintf("call_%s", rand.Text()[:12])
		}
		c.ToolCalls = append(c.ToolCalls, call)
	}
	return c
}

// stop names the server's done_reason; servers before 0.1.45 give none.
func stop(reason string, called bool) messages.StopReason {
	switch {
	case reason == "length":
		return messages.StopLength
	case reason != "stop" && reason != "":
		return messages.StopOther // load, unload: nothing was generated
	case called:
		return messages.StopTools
	}
	return messages.StopEnd
}

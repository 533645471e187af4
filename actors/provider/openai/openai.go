// Package openai is a provider.Model on OpenAI's chat completions or on any
// server that speaks them (vLLM, LiteLLM, llama.cpp, Groq, Ollama's /v1), over
// OpenAI's own Go SDK. It streams, calls tools, asks for structured output,
// sends images, and never retries: the SDK's retries are off.
//
// Pieces of a stream are read strictly: one whose types are wrong fails the call
// rather than being skipped.
package openai

import (
	"context"
	"iter"
	"net/http"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/internal/apikey"
	"github.com/covey-run/covey/internal/vendorhttp"
	"github.com/covey-run/covey/messages"
)

const (
	officialURL = "https://api.openai.com/v1"
	officialEnv = "OPENAI_API_KEY"
)

// Config says which model on which server.
type Config struct {
	// Model is its name on the server, as "gpt-5.1". Needed.
	Model string
	// Name is the provider's, in errors and events. "": "openai".
	Name string
	// BaseURL is the server's address with its version, as
	// "http://127.0.0.1:8000/v1". "": the environment variable OPENAI_BASE_URL,
	// else https://api.openai.com/v1.
	BaseURL string
	// KeyEnv names the environment variable that holds the key, and KeyFile a
	// file of mode 0600; the file counts if both are given. Both "":
	// OPENAI_API_KEY where BaseURL is "" or OpenAI's, and no key for any other
	// server: a key is only sent where it was meant for.
	KeyEnv, KeyFile string
	// MaxTokensKey is the field that carries a request's MaxTokens. "":
	// "max_completion_tokens" at api.openai.com, and "max_tokens", which every
	// compatible server knows, elsewhere.
	MaxTokensKey string
	// Effort is how hard a model thinks that is told to think: "low", "medium",
	// "high", or what else the server knows; "server" sends nothing, for servers
	// whose models think unless told not to (Ollama's /v1). "": "medium". A request
	// that says nothing of thinking leaves it to the server, too.
	Effort string
	// MaxBytes bounds one answer, in bytes; a longer one fails with class
	// malformed. Zero: 64 MiB. A line of it has at most 8 MiB in any case.
	MaxBytes int
	// HTTP makes the requests. nil: a client that all models share, with 64 idle
	// connections a server and no timeout but the context's. Its Transport is
	// wrapped, not changed.
	HTTP *http.Client
}

// Check returns an error of class invalid that names the first field which
// cannot work. It does not look at the key.
func (c Config) Check() error {
	invalid := func(format string, args ...any) error {
		return messages.Errorf(messages.Invalid, c.name(), "config: "+format, args...)
	}
	if c.Model == "" {
		return invalid(`model: "" is not allowed: use a name as "gpt-5.1"`)
	}
	if c.BaseURL != "" && !vendorhttp.IsAddress(c.BaseURL) {
		return invalid(`base_url: %q is not allowed: use an address as "http://127.0.0.1:8000/v1"`, vendorhttp.Redacted(c.BaseURL))
	}
	if c.MaxBytes < 0 {
		return invalid("max_bytes: %d is not allowed: use a positive number, or 0 for 64 MiB", c.MaxBytes)
	}
	switch c.MaxTokensKey {
	case "", "max_tokens", "max_completion_tokens":
	default:
		return invalid(`max_tokens_key: %q is not allowed: use "max_tokens", "max_completion_tokens" or ""`, c.MaxTokensKey)
	}
	return nil
}

func (c Config) name() string {
	if c.Name == "" {
		return "openai"
	}
	return c.Name
}

// Model is one model on one server.
type Model struct {
	cfg    Config
	source string // for errors: "openai/<model>"
	base   string
	key    apikey.Key
	client openai.Client
}

// New fails with cfg's Check, with class invalid for a key file that others can
// read, and with class unauthorized where a key is needed and there is none. It
// makes no call; see [Model.Ping].
func New(cfg Config) (*Model, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	source := cfg.name() + "/" + cfg.Model
	base, key, official, err := vendorhttp.Account{
		Source: source, BaseURL: cfg.BaseURL, KeyEnv: cfg.KeyEnv, KeyFile: cfg.KeyFile,
		Official: officialURL, BaseEnv: "OPENAI_BASE_URL", OfficialEnv: officialEnv, Example: "http://127.0.0.1:8000/v1",
	}.Open()
	if err != nil {
		return nil, err
	}
	if cfg.MaxTokensKey == "" {
		cfg.MaxTokensKey = "max_tokens"
		if official {
			cfg.MaxTokensKey = "max_completion_tokens"
		}
	}
	if cfg.Effort == "" {
		cfg.Effort = "medium"
	}
	opts := []option.RequestOption{
		option.WithBaseURL(base.String()),
		option.WithHTTPClient(vendorhttp.Transport{Events: true, MaxBody: cfg.MaxBytes}.Client(cfg.HTTP)),
		option.WithMaxRetries(0), // package provider's Retry is their one owner
	}
	if !key.Empty() {
		opts = append(opts, option.WithAPIKey(key.Reveal()))
	}
	return &Model{
		cfg: cfg, source: source, base: base.Redacted(), key: key,
		// Not NewClient: that reads options from the environment.
		client: openai.Client{Options: opts},
	}, nil
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

// Stream makes one call to /chat/completions.
func (m *Model) Stream(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
	return func(yield func(provider.Chunk, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(provider.Chunk{}, messages.AsError(err, messages.Canceled, m.source))
			return
		}
		params, err := m.request(req)
		if err != nil {
			yield(provider.Chunk{}, err)
			return
		}
		start := time.Now()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // leaving the loop ends the request
		call := m.call()
		var res *http.Response
		err = m.client.Post(vendorhttp.Watch(ctx, call.Seen), "chat/completions", params, &res, option.WithJSONSet("stream", true))
		if err != nil || res == nil {
			yield(provider.Chunk{}, call.Unsent(ctx, err))
			return
		}
		defer res.Body.Close()
		r := reading{call: call, model: m.cfg.Model, start: start, yield: yield, drain: func() { vendorhttp.Drain(res.Body, cancel) }}
		if err := r.all(ssestream.NewDecoder(res)); err != nil {
			if own := call.Failure(ctx, nil); own != nil {
				err = own
			}
			yield(provider.Chunk{}, err)
		}
	}
}

func (m *Model) call() *vendorhttp.Call {
	return &vendorhttp.Call{Source: m.source, Base: m.base, Key: m.key, Table: table, Seen: &vendorhttp.Exchange{}}
}

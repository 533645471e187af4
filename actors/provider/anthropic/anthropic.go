// Package anthropic is a provider.Model on Anthropic's Messages API, or on a
// server that speaks it, over Anthropic's own Go SDK. It streams, calls tools,
// asks for structured output, sends images, thinks, and never retries: the SDK's
// retries are off, and so are its traces and its search for credentials.
//
// Events of a stream are read strictly: one whose types are wrong fails the call
// rather than being skipped.
package anthropic

import (
	"context"
	"iter"
	"net/http"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/ssestream"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/internal/apikey"
	"github.com/covey-run/covey/internal/vendorhttp"
	"github.com/covey-run/covey/messages"
)

const (
	officialURL = "https://api.anthropic.com"
	officialEnv = "ANTHROPIC_API_KEY"
)

// Config says which model on which server.
type Config struct {
	// Model is its name, as "claude-sonnet-4-5". Needed.
	Model string
	// Name is the provider's, in errors and events. "": "anthropic".
	Name string
	// BaseURL is the server's address without "/v1". "": the environment variable
	// ANTHROPIC_BASE_URL, else https://api.anthropic.com.
	BaseURL string
	// KeyEnv names the environment variable that holds the key, and KeyFile a
	// file of mode 0600; the file counts if both are given. Both "":
	// ANTHROPIC_API_KEY where BaseURL is "" or Anthropic's, and no key for any
	// other server: a key is only sent where it was meant for.
	KeyEnv, KeyFile string
	// MaxTokens bounds replies to requests that set no bound, in tokens: the API
	// wants one. Zero: 8192.
	MaxTokens int
	// ThinkingTokens is how many tokens a model that is told to think may think,
	// at least 1024. It comes on top of the reply's bound. Zero: the model decides
	// (adaptive thinking), which models before Claude 4.6 do not know.
	ThinkingTokens int
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
		return invalid(`model: "" is not allowed: use a name as "claude-sonnet-4-5"`)
	}
	if c.BaseURL != "" && !vendorhttp.IsAddress(c.BaseURL) {
		return invalid(`base_url: %q is not allowed: use an address as "https://api.anthropic.com"`, vendorhttp.Redacted(c.BaseURL))
	}
	if c.MaxBytes < 0 {
		return invalid("max_bytes: %d is not allowed: use a positive number, or 0 for 64 MiB", c.MaxBytes)
	}
	if c.MaxTokens < 0 {
		return invalid("max_tokens: %d is not allowed: use a positive number, or 0 for 8192", c.MaxTokens)
	}
	if c.ThinkingTokens != 0 && c.ThinkingTokens < 1024 {
		return invalid("thinking_tokens: %d is not allowed: use at least 1024, or 0 to leave it to the model", c.ThinkingTokens)
	}
	return nil
}

func (c Config) name() string {
	if c.Name == "" {
		return "anthropic"
	}
	return c.Name
}

// Model is one model on one server.
type Model struct {
	cfg    Config
	source string // for errors: "anthropic/<model>"
	base   string
	key    apikey.Key
	client anthropic.Client
}

// New fails with cfg's Check, with class invalid for a key file that others can
// read, and with class unauthorized where a key is needed and there is none. It
// makes no call; see [Model.Ping].
func New(cfg Config) (*Model, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	source := cfg.name() + "/" + cfg.Model
	base, key, _, err := vendorhttp.Account{
		Source: source, BaseURL: cfg.BaseURL, KeyEnv: cfg.KeyEnv, KeyFile: cfg.KeyFile,
		Official: officialURL, BaseEnv: "ANTHROPIC_BASE_URL", OfficialEnv: officialEnv, Example: "https://api.anthropic.com",
	}.Open()
	if err != nil {
		return nil, err
	}
	if cfg.MaxTokens == 0 {
		cfg.MaxTokens = 8192
	}
	opts := []option.RequestOption{
		option.WithBaseURL(base.String()),
		option.WithHTTPClient(vendorhttp.Transport{Events: true, MaxBody: cfg.MaxBytes}.Client(cfg.HTTP)),
		option.WithMaxRetries(0), // package provider's Retry is their one owner
		option.WithoutOpenTelemetry(),
	}
	if !key.Empty() {
		opts = append(opts, option.WithAPIKey(key.Reveal()))
	}
	return &Model{
		cfg: cfg, source: source, base: base.Redacted(), key: key,
		// Not NewClient: that looks for credentials in the environment and in files.
		client: anthropic.Client{Options: opts},
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

// Stream makes one call to /v1/messages.
func (m *Model) Stream(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
	return func(yield func(provider.Chunk, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(provider.Chunk{}, messages.AsError(err, messages.Canceled, m.source))
			return
		}
		params, more, err := m.request(req)
		if err != nil {
			yield(provider.Chunk{}, err)
			return
		}
		start := time.Now()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // leaving the loop ends the request
		call := m.call()
		var res *http.Response
		err = m.client.Post(vendorhttp.Watch(ctx, call.Seen), "v1/messages", params, &res, more...)
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

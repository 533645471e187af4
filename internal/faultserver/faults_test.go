package faultserver_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/anthropic"
	"github.com/covey-run/covey/actors/provider/ollama"
	"github.com/covey-run/covey/actors/provider/openai"
	"github.com/covey-run/covey/internal/faultserver"
	"github.com/covey-run/covey/internal/modeltest"
	"github.com/covey-run/covey/messages"
)

// client is one vendor's.
type client struct {
	dialect faultserver.Dialect
	model   func(t *testing.T, url string) provider.Model
}

const maxBytes = 4 << 20

var clients = []client{
	{faultserver.Ollama, func(t *testing.T, url string) provider.Model {
		return must(ollama.New(ollama.Config{BaseURL: url, Model: "m", MaxBytes: maxBytes}))(t)
	}},
	{faultserver.Anthropic, func(t *testing.T, url string) provider.Model {
		return must(anthropic.New(anthropic.Config{BaseURL: url, Model: "m", MaxBytes: maxBytes}))(t)
	}},
	{faultserver.OpenAI, func(t *testing.T, url string) provider.Model {
		return must(openai.New(openai.Config{BaseURL: url, Model: "m", MaxBytes: maxBytes}))(t)
	}},
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Each client passes the suite against the recorded protocol of its vendor.
func TestConformance(t *testing.T) {
	for _, c := range clients {
		t.Run(c.dialect.Name, func(t *testing.T) {
			s := faultserver.Start(t, c.dialect)
			modeltest.Run(t, func(t *testing.T) provider.Model { return c.model(t, s.URL) })
		})
	}
}

// feed is a clock on which a wait passes as soon as it begins.
type feed struct{ *clockwork.FakeClock }

func (f feed) NewTimer(d time.Duration) clockwork.Timer {
	t := f.FakeClock.NewTimer(d)
	f.Advance(d)
	return t
}

// overrun is the context of an attempt whose time runs out when the server says
// that it holds the caller.
type overrun struct {
	context.Context
	done chan struct{}
}

func (o overrun) Done() <-chan struct{} { return o.done }

func (o overrun) Err() error {
	select {
	case <-o.done:
		return context.DeadlineExceeded
	default:
		return o.Context.Err()
	}
}

// timed gives each call of m such a context.
func timed(m provider.Model, s *faultserver.Server) provider.Model {
	return provider.Func(func(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			o := overrun{ctx, make(chan struct{})}
			over := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				select {
				case <-s.Held():
				case <-ctx.Done():
				case <-over:
				}
				close(o.done)
			})
			m.Stream(o, req)(yield)
			close(over)
			wg.Wait()
		}
	})
}

// calling makes a call through a Retry whose clock the test feeds.
func calling(t *testing.T, s *faultserver.Server, m provider.Model) (r *provider.Reply, waits []time.Duration, err error) {
	t.Helper()
	retry := must(provider.NewRetry(provider.RetryConfig{
		Name: "m", Attempts: 4, Initial: time.Second, Factor: 2, Jitter: -1, Clock: feed{clockwork.NewFakeClock()},
		Observe: func(e messages.Event) {
			if e.Kind == messages.ProviderRetry {
				waits = append(waits, e.Wait.Round(time.Second))
			}
		},
	}))(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// Nothing hangs. No deadline: the waits, which pass at once, would not fit.
	defer time.AfterFunc(20*time.Second, cancel).Stop()
	r, err = provider.Call(ctx, retry.Wrap(timed(m, s)), modeltest.Ask(modeltest.Question))
	if ctx.Err() != nil {
		t.Error("it hung")
	}
	return r, waits, err
}

// TestFaults is the table: fault × client → class, waits, result. A retryable
// fault that comes once is saved by the second attempt; one that stays uses up
// all four and keeps its class. Another one ends the call at its first attempt.
func TestFaults(t *testing.T) {
	const s = time.Second
	var plain = []time.Duration{s, 2 * s, 4 * s}
	var throttled = []time.Duration{2 * s, 4 * s, 8 * s} // longer waits for throttled
	for _, tt := range []struct {
		name   string
		fault  faultserver.Fault
		class  messages.Class
		waits  []time.Duration // nil: not retried
		status int
		text   string // in the error
		but    map[string]messages.Class
	}{
		{name: "429", fault: faultserver.Status(429), class: messages.Throttled, waits: throttled, status: 429},
		{name: "429 with Retry-After in seconds", fault: faultserver.Status(429, "Retry-After", "7"), class: messages.Throttled, waits: []time.Duration{7 * s, 7 * s, 8 * s}, status: 429},
		{name: "429 with Retry-After as a date", fault: faultserver.ThrottledUntil(30 * s), class: messages.Throttled, waits: []time.Duration{30 * s, 30 * s, 30 * s}, status: 429},
		{name: "429 with an hour, which is capped", fault: faultserver.Status(429, "Retry-After", "3600"), class: messages.Throttled, waits: []time.Duration{60 * s, 60 * s}, status: 429},
		{name: "429 with a wait that is none", fault: faultserver.Status(429, "Retry-After", "soon"), class: messages.Throttled, waits: throttled, status: 429},
		{name: "500", fault: faultserver.Status(500), class: messages.Transient, waits: plain, status: 500},
		{name: "502", fault: faultserver.Status(502), class: messages.Transient, waits: plain, status: 502},
		{name: "503", fault: faultserver.Status(503), class: messages.Transient, waits: plain, status: 503},
		{name: "503 with Retry-After", fault: faultserver.Status(503, "Retry-After", "3"), class: messages.Transient, waits: []time.Duration{3 * s, 3 * s, 4 * s}, status: 503},
		{name: "504", fault: faultserver.Status(504), class: messages.Timeout, waits: plain, status: 504},
		{name: "529", fault: faultserver.Status(529), class: messages.Throttled, waits: throttled, status: 529},
		{name: "502 of a proxy", fault: faultserver.Raw(502, "text/html", "<html>Bad Gateway</html>"), class: messages.Transient, waits: plain, status: 502, text: "Bad Gateway"},
		{name: "reset", fault: faultserver.Reset, class: messages.Transient, waits: plain},
		{name: "slow first byte", fault: faultserver.NoAnswer, class: messages.Timeout, waits: plain},
		{name: "slow first piece", fault: faultserver.NoBody, class: messages.Timeout, waits: plain},
		{name: "stall in mid-stream", fault: faultserver.Stalls, class: messages.Timeout, waits: plain},
		{name: "slow drip", fault: faultserver.Drip, class: messages.Timeout, waits: plain},
		{name: "slow drip of an error", fault: faultserver.SlowError, class: messages.Timeout, waits: plain},
		{name: "cut in mid-stream", fault: faultserver.Cut, class: messages.Transient, waits: plain, text: "broke off after 2 chunks"},
		{name: "cut before the first piece", fault: faultserver.CutAtStart, class: messages.Transient, waits: plain},
		{name: "no body", fault: faultserver.Empty, class: messages.Transient, waits: plain},
		{name: "no end", fault: faultserver.Unfinished, class: messages.Transient, waits: plain,
			but: map[string]messages.Class{"ollama": messages.Malformed}}, // so Ollama ends what a model repeats for ever
		{name: "malformed JSON", fault: faultserver.Garbled, class: messages.Transient, waits: plain},
		{name: "wrong types", fault: faultserver.WrongTypes, class: messages.Transient, waits: plain},
		{name: "an error in the stream", fault: faultserver.Failed, class: messages.Transient, waits: plain},
		{name: "a page", fault: faultserver.Raw(200, "text/html", "<html>Log in</html>"), class: messages.Transient, waits: plain, text: "Log in"},
		{name: "huge error", fault: faultserver.HugeError, class: messages.Transient, waits: plain, status: 500},
		{name: "huge line", fault: faultserver.HugeLine, class: messages.Malformed},
		{name: "huge body", fault: faultserver.HugeBody, class: messages.Malformed, text: "more than 4194304 bytes"},
		{name: "redirect", fault: faultserver.Elsewhere, class: messages.Invalid, text: "http://127.0.0.1:9/elsewhere"},
		{name: "400", fault: faultserver.Status(400), class: messages.Invalid, status: 400},
		{name: "401", fault: faultserver.Status(401), class: messages.Unauthorized, status: 401},
		{name: "402", fault: faultserver.Status(402), class: messages.Quota, status: 402},
		{name: "403", fault: faultserver.Status(403), class: messages.Unauthorized, status: 403},
		{name: "404", fault: faultserver.Status(404), class: messages.Invalid, status: 404},
		{name: "413", fault: faultserver.Status(413), class: messages.ContextLength, status: 413},
	} {
		for _, c := range clients {
			class, waits := tt.class, tt.waits
			if other, ok := tt.but[c.dialect.Name]; ok {
				class = other
				if !class.Retryable() {
					waits = nil
				}
			}
			t.Run(fmt.Sprintf("%s/%s", tt.name, c.dialect.Name), func(t *testing.T) {
				t.Run("always", func(t *testing.T) {
					server := faultserver.Always(t, c.dialect, tt.fault)
					_, got, err := calling(t, server, c.model(t, server.URL))
					e := messages.AsError(err, "", "")
					if e == nil {
						t.Fatal("no error")
					}
					attempts := len(waits) + 1
					if e.Class != class || e.Status != tt.status || !strings.Contains(e.Error(), tt.text) || !slices.Equal(got, waits) ||
						server.Requests() != attempts || max(e.Attempts, 1) != attempts || len(e.Others) != attempts-1 {
						t.Errorf("error %v\nclass %s, status %d, waits %v, %d requests, %d attempts, %d others; want class %s, status %d, waits %v, text %q",
							e, e.Class, e.Status, got, server.Requests(), e.Attempts, len(e.Others), class, tt.status, waits, tt.text)
					}
					if len(e.Error()) > 1000 {
						t.Errorf("an error of %d bytes", len(e.Error()))
					}
				})
				t.Run("once", func(t *testing.T) {
					server := faultserver.Start(t, c.dialect, tt.fault)
					r, got, err := calling(t, server, c.model(t, server.URL))
					if waits == nil {
						if messages.ClassOf(err) != class || server.Requests() != 1 {
							t.Errorf("error %v after %d requests, want class %s after one", err, server.Requests(), class)
						}
						return
					}
					if err != nil || strings.TrimSpace(r.Message.Content) != modeltest.Answer || r.Attempts != 2 || !slices.Equal(got, waits[:1]) {
						t.Errorf("reply %+v, waits %v, error %v; want attempt 2 after %v", r, got, err, waits[0])
					}
				})
			})
		}
	}
}

package provider_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// Five calls of four attempts open the breaker; then nothing reaches the client
// and nothing backs off, until a probe does.
func TestStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events sink
		s := must(provider.NewStack(provider.StackConfig{Name: "m", Observe: events.observe}))
		m, calls := play(broken(messages.Transient))
		for range 5 {
			e := classIs(t, call(t, s.Wrap(m)), messages.Transient)
			if e.Attempts != 4 || len(e.Others) != 3 {
				t.Errorf("error %+v", e)
			}
		}
		before := time.Now()
		e := classIs(t, call(t, s.Wrap(m)), messages.Unavailable)
		if calls() != 20 || !time.Now().Equal(before) || e.Others[0].Attempts != 4 {
			t.Errorf("%d calls, waited %v, error %+v", calls(), time.Since(before), e)
		}
		time.Sleep(time.Until(s.Breaker.Until()))
		good, _ := play(fine)
		for range 3 { // a new client behind the same breaker
			if err := call(t, s.Wrap(good)); err != nil {
				t.Error(err)
			}
		}
		if s.Breaker.State() != provider.Closed || s.Queue.InFlight() != 0 {
			t.Errorf("%s, %d in flight", s.Breaker.State(), s.Queue.InFlight())
		}
		n := map[messages.EventKind]int{}
		for _, ev := range events.events() {
			n[ev.Kind]++
			if ev.Name != "m" || ev.Time.IsZero() {
				t.Errorf("event %+v", ev)
			}
		}
		if n[messages.ProviderRetry] != 15 || n[messages.BreakerOpened] != 1 || n[messages.BreakerHalfOpen] != 1 || n[messages.BreakerClosed] != 1 {
			t.Errorf("events %v", n)
		}
	})
}

// With the breaker open, a call fails at once though the queue is busy.
func TestStackOpenDoesNotQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(provider.NewStack(provider.StackConfig{Queue: provider.QueueConfig{Concurrency: 1}, Breaker: provider.BreakerConfig{Failures: 1}}))
		g := newGate()
		go func() { _, _ = provider.Call(t.Context(), s.Wrap(g), request) }()
		synctest.Wait()
		bad, _ := play(broken(messages.Transient))
		_ = call(t, s.Breaker.Wrap(bad))
		start := time.Now()
		good, calls := play(fine)
		m := s.Wrap(good)
		e := classIs(t, call(t, m), messages.Unavailable)
		if !time.Now().Equal(start) || calls() != 0 || e.Until.IsZero() {
			t.Errorf("after %v and %d calls: %+v", time.Since(start), calls(), e)
		}
		close(g.let)
		time.Sleep(time.Minute)
		if err := call(t, m); err != nil {
			t.Error(err)
		}
	})
}

// Each call's end is told once, with what it took.
func TestStackTellsOfCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events sink
		s := must(provider.NewStack(provider.StackConfig{Name: "m", Cache: &provider.CacheConfig{}, Observe: events.observe}))
		req := with(func(r *provider.Request) { r.Kind, r.Session = "chat", "s" })
		m, _ := play(broken(messages.Transient), fine)
		bad, _ := play(broken(messages.Quota))
		last := func() messages.Event {
			es := events.events()
			e := es[len(es)-1]
			if e.Kind != messages.ProviderCall || e.Name != "m" || e.Session != "s" || e.Call != "chat" {
				t.Errorf("event %+v", e)
			}
			return e
		}
		start := time.Now()
		_, _ = provider.Call(t.Context(), s.Wrap(m), req)
		if e := last(); e.Attempt != 2 || e.Class != "" || e.Usage.Calls != 1 || e.Wait != time.Since(start) || e.Wait == 0 || !e.Time.Equal(time.Now()) {
			t.Errorf("event %+v", e)
		}
		_, _ = provider.Call(t.Context(), s.Wrap(m), req)
		if e := last(); e.Attempt != 1 || e.Class != "" || e.Usage.Calls != 0 || e.Wait != 0 {
			t.Errorf("of a hit: %+v", e)
		}
		req.Fresh = true
		_, _ = provider.Call(t.Context(), s.Wrap(bad), req)
		if e := last(); e.Attempt != 1 || e.Class != messages.Quota || e.Error == nil || e.Usage != nil {
			t.Errorf("of a failure: %+v", e)
		}
		for range s.Wrap(m).Stream(t.Context(), req) {
			break
		}
		if e := last(); e.Class != messages.Canceled {
			t.Errorf("of a reader that left: %+v", e)
		}
	})
}

// A kind has retries and a cache of its own; a call may override both.
func TestStackKindsAndOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(provider.NewStack(provider.StackConfig{
			Breaker: provider.BreakerConfig{Off: true},
			Kinds:   map[string]provider.KindConfig{"quick": {Retry: provider.RetryConfig{Attempts: 2}, Cache: &provider.CacheConfig{}}},
		}))
		if s.CacheOf("quick") == nil || s.CacheOf("") != nil || s.CacheOf("other") != nil {
			t.Error("the caches are not where they belong")
		}
		for _, tt := range []struct {
			kind     string
			override *provider.Override
			calls    int
		}{
			{"", nil, 4}, {"quick", nil, 2}, {"other", nil, 4},
			{"quick", &provider.Override{Retry: &provider.RetryConfig{Attempts: 1}}, 1},
			{"quick", &provider.Override{}, 2},
			{"quick", &provider.Override{Retry: &provider.RetryConfig{Attempts: -1}}, 0},
		} {
			m, calls := play(broken(messages.Transient))
			_, err := provider.Call(t.Context(), s.Wrap(m), with(func(r *provider.Request) { r.Kind, r.Override = tt.kind, tt.override }))
			if calls() != tt.calls || err == nil {
				t.Errorf("kind %q, %+v: %d calls, want %d", tt.kind, tt.override, calls(), tt.calls)
			}
		}
		m, _ := counting()
		m = s.Wrap(m)
		quick := func(r *provider.Request) { r.Kind = "quick" }
		fresh := func(r *provider.Request) { r.Kind, r.Fresh = "quick", true }
		bare := func(r *provider.Request) { r.Kind, r.Override = "quick", &provider.Override{NoCache: true} }
		if got := answers(t, m, with(same), with(same), with(quick), with(quick), with(bare), with(quick), with(fresh), with(quick)); got != "1 2 3 3* 4 3* 5 5*" {
			t.Error(got)
		}
	})
}

// Every attempt takes from the limiter; one that would have to wait past the
// deadline is not made, and the provider's failure is what the caller sees.
func TestStackRetriesWithinTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(provider.NewStack(provider.StackConfig{Limiter: provider.LimiterConfig{RequestsPerMinute: 2, RequestBurst: 1}}))
		start := time.Now()
		var at []time.Duration
		m := s.Wrap(provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
			return func(yield func(provider.Chunk, error) bool) {
				at = append(at, time.Since(start).Round(time.Second))
				yield(provider.Chunk{}, messages.Errorf(messages.Transient, "p", "?"))
			}
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 70*time.Second)
		defer cancel()
		_, err := provider.Call(ctx, m, request)
		e := classIs(t, err, messages.Transient)
		if fmt.Sprint(at) != "[0s 30s 1m0s]" || e.Attempts != 3 || e.Others[len(e.Others)-1].Class != messages.Throttled || time.Since(start) > 70*time.Second {
			t.Errorf("attempts at %v, error %+v after %v", at, e, time.Since(start))
		}
	})
}

func TestChecks(t *testing.T) {
	second := time.Second
	for _, tt := range []struct {
		cfg interface{ Check() error }
		bad string // field and value, "" if it is good
	}{
		{provider.RetryConfig{}, ""},
		{provider.RetryConfig{Attempts: -1}, "attempts: -1"},
		{provider.RetryConfig{Initial: -second}, "initial: -1s"},
		{provider.RetryConfig{Factor: 0.5}, "factor: 0.5"},
		{provider.RetryConfig{Factor: math.NaN()}, "factor: NaN"},
		{provider.RetryConfig{Jitter: 2}, "jitter: 2"},
		{provider.RetryConfig{Jitter: -1}, ""},
		{provider.RetryConfig{MaxWait: -second}, "max_wait: -1s"},
		{provider.RetryConfig{MaxTotal: -second}, "max_total: -1s"},
		{provider.RetryConfig{AttemptTimeout: -second}, "attempt_timeout: -1s"},
		{provider.BreakerConfig{}, ""},
		{provider.BreakerConfig{Failures: -1}, "failures: -1"},
		{provider.BreakerConfig{Successes: -1}, "successes: -1"},
		{provider.BreakerConfig{OpenFor: 1}, "open_for: 1ns"},
		{provider.QueueConfig{}, ""},
		{provider.QueueConfig{Concurrency: -1}, "concurrency: -1"},
		{provider.QueueConfig{Waiting: -1}, ""},
		{provider.QueueConfig{AgeEvery: 1}, "age_every: 1ns"},
		{provider.QueueConfig{AgeEvery: -1}, ""},
		{provider.BreakerConfig{Classes: []messages.Class{"odd"}}, "classes: odd"},
		{provider.BreakerConfig{Classes: []messages.Class{messages.Quota, messages.Invalid}}, "classes: invalid"},
		{provider.RetryConfig{Spread: "wide"}, "spread: wide"},
		{provider.RetryConfig{Classes: []messages.Class{messages.Invalid}}, "classes: invalid"},
		{provider.RetryConfig{Longer: map[messages.Class]float64{messages.Throttled: 0.5}}, "longer: throttled: 0.5"},
		{provider.RetryConfig{Longer: map[messages.Class]float64{"odd": 2}}, "longer: odd: 2"},
		{provider.LimiterConfig{RequestsPerMinute: -60}, "requests_per_minute: -60"},
		{provider.LimiterConfig{RequestsPerMinute: 60, RequestBurst: 31}, "request_burst: 31"},
		{provider.LimiterConfig{TokensPerMinute: -1}, "tokens_per_minute: -1"},
		{provider.LimiterConfig{TokensPerMinute: 10, TokenBurst: 6}, "token_burst: 6"},
		{provider.CacheConfig{Size: -1}, "size: -1"},
		{provider.CacheConfig{TTL: -second}, "ttl: -1s"},
		{provider.CacheConfig{Bytes: -1}, "bytes: -1"},
		{provider.AdaptiveConfig{}, ""},
		{provider.AdaptiveConfig{Window: -1}, "window: -1"},
		{provider.AdaptiveConfig{Window: 10, Least: 11}, "least: 11"},
		{provider.AdaptiveConfig{High: 1.1}, "high: 1.1"},
		{provider.AdaptiveConfig{Low: 0.95}, "low: 0.95"},
		{provider.AdaptiveConfig{MostAttempts: -1}, "most_attempts: -1"},
		{provider.AdaptiveConfig{MostInitial: -1}, "most_initial: -1ns"},
		{provider.StackConfig{}, ""},
		{provider.StackConfig{Cache: &provider.CacheConfig{Size: -2}}, "size: -2"},
		{provider.StackConfig{Adaptive: &provider.AdaptiveConfig{Window: -2}}, "window: -2"},
		{provider.StackConfig{Limiter: provider.LimiterConfig{TokensPerMinute: -2}}, "tokens_per_minute: -2"},
		{provider.StackConfig{Kinds: map[string]provider.KindConfig{"chat": {Retry: provider.RetryConfig{Attempts: -2}}}}, "attempts: -2"},
		{provider.StackConfig{Kinds: map[string]provider.KindConfig{"chat": {Cache: &provider.CacheConfig{TTL: -1}}}}, "ttl: -1ns"},
		{provider.StackConfig{Breaker: provider.BreakerConfig{Failures: -2}}, "failures: -2"},
	} {
		err := tt.cfg.Check()
		if tt.bad == "" {
			if err != nil {
				t.Errorf("%+v: %v", tt.cfg, err)
			}
			continue
		}
		if !errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), tt.bad) || !strings.Contains(err.Error(), "use ") {
			t.Errorf("%+v: error %v, want %q and what is allowed", tt.cfg, err, tt.bad)
		}
	}
	if _, err := provider.NewStack(provider.StackConfig{Retry: provider.RetryConfig{Attempts: -1}}); !errors.Is(err, messages.Invalid) {
		t.Error(err)
	}
}

func TestRegistry(t *testing.T) {
	var r provider.Registry
	_, err := r.Model("ollama/x")
	if !errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), "known are: none") {
		t.Error(err)
	}
	asked := ""
	f := func(model string) (provider.Model, error) { asked = model; m, _ := play(fine); return m, nil }
	for _, name := range []string{"ollama", "scripted"} {
		if err := r.Register(name, f); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{r.Register("", f), r.Register("a/b", f), r.Register("a", nil)} {
		if !errors.Is(err, messages.Invalid) {
			t.Errorf("error %v", err)
		}
	}
	for ref, want := range map[string]string{"ollama/llama3.2": "llama3.2", "ollama/library/qwen3:0.6b": "library/qwen3:0.6b", "scripted": "", "scripted/": ""} {
		if _, err := r.Model(ref); err != nil || asked != want {
			t.Errorf("%s asked for %q, error %v", ref, asked, err)
		}
	}
	_, err = r.Model("openai/gpt")
	if !errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), `no provider is called "openai"; known are: ollama, scripted`) {
		t.Error(err)
	}
}

package provider_test

import (
	"errors"
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
		{provider.StackConfig{}, ""},
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

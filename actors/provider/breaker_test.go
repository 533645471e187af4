package provider_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

func call(t *testing.T, m provider.Model) error {
	t.Helper()
	_, err := provider.Call(t.Context(), m, request)
	return err
}

func kinds(es []messages.Event) string {
	var s []string
	for _, e := range es {
		s = append(s, string(e.Kind))
	}
	return strings.Join(s, " ")
}

// The clock in these tests is synctest's: a sleep moves it and takes no time.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events sink
		b := must(provider.NewBreaker(provider.BreakerConfig{Name: "m", Observe: events.observe}))
		bad := broken(messages.Transient)
		m, calls := play(bad, bad, bad, bad, bad, bad, fine, fine, fine, fine)
		m = b.Wrap(m)
		for i := range 5 {
			if s := b.State(); s != provider.Closed {
				t.Fatalf("%s after %d failures", s, i)
			}
			classIs(t, call(t, m), messages.Transient)
		}
		opened := time.Now()
		until := opened.Add(time.Minute)
		if b.State() != provider.Open || !b.Until().Equal(until) {
			t.Fatalf("%s until %v, want open until %v", b.State(), b.Until(), until)
		}
		e := classIs(t, call(t, m), messages.Unavailable)
		if !e.Until.Equal(until) || len(e.Others) != 1 || e.Others[0].Class != messages.Transient || calls() != 5 {
			t.Errorf("error %+v after %d calls", e, calls())
		}

		time.Sleep(time.Minute - 1)
		classIs(t, call(t, m), messages.Unavailable)
		time.Sleep(time.Nanosecond) // now it is Until
		classIs(t, call(t, m), messages.Transient)
		if b.State() != provider.Open || !b.Until().Equal(time.Now().Add(time.Minute)) {
			t.Errorf("%s until %v: a failed probe opens it again", b.State(), b.Until())
		}

		time.Sleep(time.Minute)
		for i := range 3 {
			if s := b.State(); s != provider.HalfOpen || !b.Until().IsZero() {
				t.Errorf("%s until %v after %d good probes", s, b.Until(), i)
			}
			if err := call(t, m); err != nil {
				t.Errorf("probe %d: %v", i, err)
			}
		}
		if s := b.State(); s != provider.Closed {
			t.Errorf("%s after three good probes", s)
		}
		want := "breaker.opened breaker.half_open breaker.opened breaker.half_open breaker.closed"
		es := events.events()
		if kinds(es) != want {
			t.Fatalf("events %s", kinds(es))
		}
		if es[0].Name != "m" || !es[0].Until.Equal(until) || es[0].Class != messages.Transient || es[0].Error == nil || !es[0].Time.Equal(opened) {
			t.Errorf("event %+v", es[0])
		}
	})
}

func TestBreakerCounts(t *testing.T) {
	for _, c := range messages.Classes() {
		counts := true
		switch c {
		case messages.Canceled, messages.Stopping, messages.Fenced, messages.Budget, messages.Invalid, messages.ContextLength, messages.Malformed:
			counts = false
		}
		t.Run(string(c), func(t *testing.T) {
			b := must(provider.NewBreaker(provider.BreakerConfig{Failures: 2}))
			m, _ := play(broken(messages.Transient), broken(c))
			m = b.Wrap(m)
			_, _ = call(t, m), call(t, m)
			if open := b.State() == provider.Open; open != counts {
				t.Errorf("open: %t, want %t", open, counts)
			}
		})
	}
	t.Run("a success between", func(t *testing.T) {
		b := must(provider.NewBreaker(provider.BreakerConfig{Failures: 2}))
		m, _ := play(broken(messages.Transient), fine, broken(messages.Transient))
		m = b.Wrap(m)
		_, _, _ = call(t, m), call(t, m), call(t, m)
		if b.State() != provider.Closed {
			t.Error(b.State())
		}
	})
	t.Run("a success forgives one failure", func(t *testing.T) {
		b := must(provider.NewBreaker(provider.BreakerConfig{Failures: 3}))
		bad := broken(messages.Transient)
		m, calls := play(fine, fine, bad, bad, fine, bad, fine, bad, bad)
		m = b.Wrap(m)
		for b.State() == provider.Closed && calls() < 20 {
			_ = call(t, m)
		}
		if calls() != 9 {
			t.Errorf("open after %d calls", calls())
		}
	})
	t.Run("a missing last chunk", func(t *testing.T) {
		b := must(provider.NewBreaker(provider.BreakerConfig{Failures: 1}))
		m := b.Wrap(provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
			return func(yield func(provider.Chunk, error) bool) { yield(provider.Chunk{Text: "x"}, nil) }
		}))
		_ = call(t, m)
		if b.State() != provider.Open {
			t.Error(b.State())
		}
	})
	t.Run("abandoned, ended before, panic", func(t *testing.T) {
		b := must(provider.NewBreaker(provider.BreakerConfig{Failures: 1}))
		good, _ := play(fine)
		for range b.Wrap(good).Stream(t.Context(), request) {
			break
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := provider.Call(ctx, b.Wrap(good), request)
		classIs(t, err, messages.Canceled)
		func() {
			defer func() { _ = recover() }()
			_ = call(t, b.Wrap(provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
				return func(func(provider.Chunk, error) bool) { panic("a bug") }
			})))
		}()
		if b.State() != provider.Closed {
			t.Error(b.State())
		}
	})
}

// In half-open, one call passes at a time and the others fail at once. A probe
// that is called off leaves room for the next.
func TestBreakerOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := must(provider.NewBreaker(provider.BreakerConfig{Failures: 1, Successes: 1}))
		bad, _ := play(broken(messages.Transient))
		_ = call(t, b.Wrap(bad))
		time.Sleep(time.Minute)

		var running, most atomic.Int32
		release := make(chan struct{})
		slow := b.Wrap(provider.Func(func(ctx context.Context, _ *provider.Request) iter.Seq2[provider.Chunk, error] {
			return func(yield func(provider.Chunk, error) bool) {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				select {
				case <-release:
					yield(provider.Chunk{Stop: messages.StopEnd}, nil)
				case <-ctx.Done():
					yield(provider.Chunk{}, ctx.Err())
				}
			}
		}))
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 1)
		go func() { _, err := provider.Call(ctx, slow, request); errs <- err }()
		synctest.Wait()
		for range 3 {
			e := classIs(t, call(t, slow), messages.Unavailable)
			if !e.Until.After(time.Now()) || !strings.Contains(e.Error(), "probe is under way") {
				t.Errorf("error %+v", e)
			}
		}
		cancel()
		classIs(t, <-errs, messages.Canceled)
		if b.State() != provider.HalfOpen {
			t.Error(b.State())
		}
		close(release)
		if err := call(t, slow); err != nil || b.State() != provider.Closed || most.Load() != 1 {
			t.Errorf("error %v, %s, %d probes at once", err, b.State(), most.Load())
		}
	})
}

// An observer may call the breaker: no lock is held.
func TestBreakerObserverMayLook(t *testing.T) {
	var b *provider.Breaker
	seen := ""
	b = must(provider.NewBreaker(provider.BreakerConfig{Failures: 1, Observe: func(messages.Event) { seen = fmt.Sprintf("%s %t", b.State(), b.Until().IsZero()) }}))
	m, _ := play(broken(messages.Transient))
	_ = call(t, b.Wrap(m))
	if seen != "open false" {
		t.Errorf("the observer saw %q", seen)
	}
}

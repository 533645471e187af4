package provider_test

import (
	"context"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// wire connects the breakers of one name, as a cluster's gate does.
type wire struct {
	mu      sync.Mutex
	nodes   []*provider.Breaker
	held    bool
	granted int
	opened  int
	closed  int
}

type end struct {
	w    *wire
	self int
}

func (e end) others(f func(*provider.Breaker)) {
	for i, b := range e.w.nodes {
		if i != e.self {
			f(b)
		}
	}
}

func (e end) Opened(_ string, until time.Time, cause *messages.Error) {
	e.w.opened++
	e.others(func(b *provider.Breaker) { b.OpenUntil(until, cause) })
}

func (e end) Closed(string) {
	e.w.closed++
	e.others(func(b *provider.Breaker) { b.CloseFromAfar() })
}

func (e end) Probe(context.Context, string, time.Time) (func(bool), bool) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if e.w.held {
		return nil, false
	}
	e.w.held = true
	e.w.granted++
	return func(bool) { e.w.mu.Lock(); defer e.w.mu.Unlock(); e.w.held = false }, true
}

// Two breakers of one name open until the same moment, make one probe between
// them, and close together.
func TestBreakerGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		var events [2]sink
		for i := range 2 {
			w.nodes = append(w.nodes, must(provider.NewBreaker(provider.BreakerConfig{Name: "m", Gate: end{w, i}, Observe: events[i].observe})))
		}
		a, b := w.nodes[0], w.nodes[1]
		bad, _ := play(broken(messages.Transient))
		for range 5 {
			_ = call(t, a.Wrap(bad))
		}
		until := time.Now().Add(time.Minute)
		if b.State() != provider.Open || !b.Until().Equal(until) || !a.Until().Equal(until) {
			t.Fatalf("the other is %s until %v, want open until %v", b.State(), b.Until(), until)
		}
		e := classIs(t, call(t, b.Wrap(bad)), messages.Unavailable)
		if !e.Until.Equal(until) || len(e.Others) != 1 || e.Others[0].Class != messages.Transient {
			t.Errorf("error %+v", e)
		}

		time.Sleep(time.Minute)
		g := newGate()
		done := make(chan error, 1)
		go func() { _, err := provider.Call(t.Context(), a.Wrap(g), request); done <- err }()
		synctest.Wait()
		e = classIs(t, call(t, b.Wrap(bad)), messages.Unavailable)
		if !strings.Contains(e.Error(), "probe is under way") || !e.Until.After(time.Now()) {
			t.Errorf("error %+v", e)
		}
		close(g.let)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		_ = call(t, b.Wrap(bad)) // now it may probe, and fails
		if again := time.Now().Add(time.Minute); !a.Until().Equal(again) || !b.Until().Equal(again) {
			t.Errorf("open until %v and %v, want %v", a.Until(), b.Until(), again)
		}
		time.Sleep(time.Minute)
		good, _ := play(fine)
		for range 3 {
			if err := call(t, b.Wrap(good)); err != nil {
				t.Error(err)
			}
		}
		if a.State() != provider.Closed || b.State() != provider.Closed {
			t.Errorf("%s and %s", a.State(), b.State())
		}
		if w.granted != 5 || w.opened != 2 || w.closed != 1 || w.held {
			t.Errorf("%d probes, %d openings, %d closings told", w.granted, w.opened, w.closed)
		}
		if got := kinds(events[0].events()); got != "breaker.opened breaker.half_open breaker.opened breaker.closed" {
			t.Errorf("the first saw %s", got)
		}
		if got := events[1].events()[0]; got.Text == "" || got.Error == nil {
			t.Errorf("the second saw %+v", got)
		}
	})
}

func TestBreakerFromAfar(t *testing.T) {
	clock := clockwork.NewFakeClock()
	var events sink
	b := must(provider.NewBreaker(provider.BreakerConfig{Clock: clock, Failures: 2, Successes: 1, Observe: events.observe}))
	now := clock.Now()
	b.OpenUntil(now, nil)
	b.OpenUntil(now.Add(-time.Second), nil)
	if b.State() != provider.Closed {
		t.Error("a moment that has passed opened it")
	}
	b.OpenUntil(now.Add(10*time.Second), nil)
	b.OpenUntil(now.Add(5*time.Second), nil)
	b.OpenUntil(now.Add(10*time.Second), nil)
	if !b.Until().Equal(now.Add(10 * time.Second)) {
		t.Errorf("until %v", b.Until())
	}
	b.OpenUntil(now.Add(20*time.Second), messages.Errorf(messages.Quota, "n2", "no money"))
	m, calls := play(fine)
	e := classIs(t, call(t, b.Wrap(m)), messages.Unavailable)
	if len(e.Others) != 1 || e.Others[0].Class != messages.Quota || calls() != 0 {
		t.Errorf("error %+v", e)
	}
	clock.Advance(20 * time.Second)
	if b.State() != provider.HalfOpen {
		t.Error(b.State())
	}
	b.OpenUntil(clock.Now().Add(time.Second), nil) // another node's probe failed
	if b.State() != provider.Open {
		t.Error(b.State())
	}
	b.CloseFromAfar()
	b.CloseFromAfar()
	if err := call(t, b.Wrap(m)); err != nil || b.State() != provider.Closed || !b.Until().IsZero() {
		t.Errorf("%v, %s", err, b.State())
	}
	if got := kinds(events.events()); got != "breaker.opened breaker.opened breaker.half_open breaker.opened breaker.closed" {
		t.Errorf("events %s", got)
	}
}

// A call that was under way when the breaker opened, and fails after it closed,
// counts for nobody.
func TestBreakerStragglers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := must(provider.NewBreaker(provider.BreakerConfig{Failures: 1, Successes: 1}))
		g := newGate()
		late := make(chan error, 1)
		go func() {
			for _, err := range b.Wrap(thenFails(g)).Stream(t.Context(), request) {
				if err != nil {
					late <- err
				}
			}
		}()
		synctest.Wait()
		bad, _ := play(broken(messages.Transient))
		_ = call(t, b.Wrap(bad))
		b.CloseFromAfar()
		close(g.let)
		classIs(t, <-late, messages.Transient)
		if b.State() != provider.Closed {
			t.Error("a straggler opened it")
		}
	})
}

// thenFails is m, whose last chunk is an error instead.
func thenFails(m provider.Model) provider.Model {
	return provider.Func(func(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			for range m.Stream(ctx, req) {
				yield(provider.Chunk{}, messages.Errorf(messages.Transient, "test", "late"))
				return
			}
		}
	})
}

func TestBreakerClassesAndOff(t *testing.T) {
	b := must(provider.NewBreaker(provider.BreakerConfig{Failures: 1, Classes: []messages.Class{messages.Quota}}))
	m, _ := play(broken(messages.Transient), broken(messages.Quota))
	_ = call(t, b.Wrap(m))
	if b.State() != provider.Closed {
		t.Error("a class that is not listed counted")
	}
	_ = call(t, b.Wrap(m))
	if b.State() != provider.Open {
		t.Error("a class that is listed did not count")
	}
	off := must(provider.NewBreaker(provider.BreakerConfig{Failures: 1, Off: true}))
	_, _ = call(t, off.Wrap(m)), call(t, off.Wrap(m))
	if off.State() != provider.Closed {
		t.Error("it is off and opened")
	}
}

// Openings, closings and calls from everywhere at once: no race, no deadlock,
// and it works afterwards.
func TestBreakerFromEverywhere(t *testing.T) {
	b := must(provider.NewBreaker(provider.BreakerConfig{Failures: 2, Successes: 1, OpenFor: time.Millisecond}))
	m, _ := play(broken(messages.Transient), broken(messages.Transient), fine, broken(messages.Transient), broken(messages.Transient), fine)
	m = b.Wrap(m)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 200 {
				switch n {
				case 0:
					b.OpenUntil(time.Now().Add(time.Microsecond), nil)
				case 1:
					b.CloseFromAfar()
				default:
					_ = call(t, m)
				}
			}
		})
	}
	wg.Wait()
	b.CloseFromAfar()
	good, _ := play(fine)
	if err := call(t, b.Wrap(good)); err != nil {
		t.Error(err)
	}
}

package provider_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// calling runs a call beside a fake clock, and moves the clock by each wait
// that the call begins. It returns the waits.
func calling(t *testing.T, ctx context.Context, cfg provider.RetryConfig, m provider.Model, each func(provider.Chunk)) (r *provider.Reply, waits []time.Duration, err error) {
	t.Helper()
	clock := clockwork.NewFakeClock()
	told := make(chan time.Duration, 100)
	observe := cfg.Observe
	cfg.Clock, cfg.Observe = clock, func(e messages.Event) {
		if e.Kind == messages.ProviderRetry {
			told <- e.Wait
		}
		if observe != nil {
			observe(e)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, err = provider.Collect(must(provider.NewRetry(cfg)).Wrap(m).Stream(ctx, request), each)
	}()
	for {
		select {
		case <-done:
			return r, waits, err
		case w := <-told:
			waits = append(waits, w)
			if err := clock.BlockUntilContext(t.Context(), 1); err != nil {
				t.Error(err)
			}
			clock.Advance(w)
		}
	}
}

func TestRetry(t *testing.T) {
	slow := step{err: &messages.Error{Class: messages.Throttled, Message: "slow down", RetryAfter: 7 * time.Second}}
	slower := step{err: &messages.Error{Class: messages.Throttled, Message: "slow down", RetryAfter: time.Hour}}
	s := time.Second
	for _, tt := range []struct {
		name  string
		cfg   provider.RetryConfig
		steps []step
		calls int
		waits []time.Duration
		class messages.Class
	}{
		{"no failure", provider.RetryConfig{}, []step{fine}, 1, nil, ""},
		{"a hiccup", provider.RetryConfig{}, []step{broken(messages.Transient), fine}, 2, []time.Duration{s}, ""},
		{"a timeout", provider.RetryConfig{}, []step{broken(messages.Timeout), fine}, 2, []time.Duration{s}, ""},
		{"always", provider.RetryConfig{}, []step{broken(messages.Transient)}, 4, []time.Duration{s, 2 * s, 4 * s}, messages.Transient},
		{"cut off without an error", provider.RetryConfig{}, []step{{texts: []string{"x"}, err: nil}, fine}, 1, nil, ""},
		{"one attempt", provider.RetryConfig{Attempts: 1}, []step{broken(messages.Transient)}, 1, nil, messages.Transient},
		{"a factor and a cap", provider.RetryConfig{Attempts: 5, Initial: 10 * s, Factor: 3, MaxWait: 20 * s}, []step{broken(messages.Transient)}, 5,
			[]time.Duration{10 * s, 20 * s, 20 * s, 20 * s}, messages.Transient},
		{"a cap on the sum", provider.RetryConfig{Attempts: 9, Initial: 10 * s, Factor: 1, MaxTotal: 25 * s}, []step{broken(messages.Transient)}, 3,
			[]time.Duration{10 * s, 10 * s}, messages.Transient},
		{"the server asks for a wait", provider.RetryConfig{}, []step{slow, fine}, 2, []time.Duration{7 * s}, ""},
		{"and for a long one", provider.RetryConfig{}, []step{slower, fine}, 2, []time.Duration{60 * s}, ""},
		{"invalid", provider.RetryConfig{}, []step{broken(messages.Invalid)}, 1, nil, messages.Invalid},
		{"context length", provider.RetryConfig{}, []step{broken(messages.ContextLength)}, 1, nil, messages.ContextLength},
		{"unauthorized", provider.RetryConfig{}, []step{broken(messages.Unauthorized)}, 1, nil, messages.Unauthorized},
		{"unavailable", provider.RetryConfig{}, []step{broken(messages.Unavailable)}, 1, nil, messages.Unavailable},
		{"unclassified", provider.RetryConfig{}, []step{{err: errors.New("?")}}, 1, nil, ""},
		{"another failure after a hiccup", provider.RetryConfig{}, []step{broken(messages.Transient), broken(messages.Invalid)}, 2, []time.Duration{s}, messages.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Name, tt.cfg.Jitter = "m", -1
			m, calls := play(tt.steps...)
			_, waits, err := calling(t, t.Context(), tt.cfg, m, nil)
			if messages.ClassOf(err) != tt.class || calls() != tt.calls || fmt.Sprint(waits) != fmt.Sprint(tt.waits) {
				t.Errorf("%d calls, waits %v, error %v; want %d, %v, class %q", calls(), waits, err, tt.calls, tt.waits, tt.class)
			}
			if e := (*messages.Error)(nil); err != nil && tt.calls > 1 && (!errors.As(err, &e) || e.Attempts != tt.calls || len(e.Others) != tt.calls-1) {
				t.Errorf("error %+v, want %d attempts and the others", e, tt.calls)
			}
		})
	}
}

func retries(all []messages.Event) (es []messages.Event) {
	for _, e := range all {
		if e.Kind == messages.ProviderRetry {
			es = append(es, e)
		}
	}
	return es
}

func TestRetryJitter(t *testing.T) {
	for range 20 {
		m, _ := play(broken(messages.Transient))
		_, waits, _ := calling(t, t.Context(), provider.RetryConfig{}, m, nil)
		for i, w := range waits {
			if full := time.Second << i; w < full/2 || w > full*3/2+1 {
				t.Errorf("wait %d is %v", i+1, w)
			}
		}
	}
}

func TestRetryInMidStream(t *testing.T) {
	cut := step{texts: []string{"one", "two"}, err: messages.Errorf(messages.Transient, "test", "the line was cut")}
	m, _ := play(cut, broken(messages.Throttled), fine)
	var seen []provider.Chunk
	var events sink
	r, _, err := calling(t, t.Context(), provider.RetryConfig{Name: "m", Observe: events.observe}, m, func(c provider.Chunk) { seen = append(seen, c) })
	if err != nil {
		t.Fatal(err)
	}
	if r.Message.Content != "ab" || r.Attempts != 3 || r.Usage.Duration < time.Second {
		t.Errorf("reply %+v", r)
	}
	var got []string
	for _, c := range seen {
		got = append(got, fmt.Sprintf("%d %s %t", c.Attempt, c.Text, c.Broken != nil))
	}
	if want := "1 one false, 1 two false, 2  true, 3 a false, 3 b false, 3  false"; strings.Join(got, ", ") != want {
		t.Errorf("chunks %s, want %s", strings.Join(got, ", "), want)
	}
	if b := seen[2].Broken; b == nil || !strings.Contains(b.Error(), "the line was cut") {
		t.Errorf("broken says %v", b)
	}
	if b := seen[2].Broken; !strings.Contains(b.Error(), "attempt 1 broke after 6 bytes of text, attempt 2 follows in") {
		t.Errorf("broken says %v", b)
	}
	es := retries(events.events())
	if len(es) != 2 || es[0].Kind != messages.ProviderRetry || es[0].Name != "m" || es[0].Attempt != 1 || es[0].Class != messages.Transient ||
		es[0].Wait <= 0 || es[0].Error == nil || es[1].Attempt != 2 || es[1].Class != messages.Throttled {
		t.Errorf("events %+v", es)
	}
}

func TestRetryMissingLastChunk(t *testing.T) {
	n := 0
	m := provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			if n++; yield(provider.Chunk{Text: "x"}, nil) && n > 1 {
				yield(provider.Chunk{Stop: messages.StopEnd}, nil)
			}
		}
	})
	r, waits, err := calling(t, t.Context(), provider.RetryConfig{}, m, nil)
	if err != nil || r.Message.Content != "x" || len(waits) != 1 {
		t.Errorf("reply %+v, waits %v, error %v", r, waits, err)
	}
}

// A wait that would pass the caller's deadline is not begun.
func TestRetryDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	clock := clockwork.NewFakeClockAt(time.Now())
	clock.Advance(time.Hour - time.Second) // a second is left, the wait is two
	m, calls := play(broken(messages.Transient))
	retry := must(provider.NewRetry(provider.RetryConfig{Initial: 2 * time.Second, Jitter: -1, Clock: clock}))
	_, err := provider.Call(ctx, retry.Wrap(m), request)
	classIs(t, err, messages.Transient)
	if calls() != 1 {
		t.Errorf("%d calls", calls())
	}
}

func TestRetryCanceled(t *testing.T) {
	t.Run("in a wait", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m, calls := play(broken(messages.Transient))
		retry := must(provider.NewRetry(provider.RetryConfig{Clock: clockwork.NewFakeClock(), Observe: func(e messages.Event) {
			if e.Kind == messages.ProviderRetry {
				cancel()
			}
		}}))
		_, err := provider.Call(ctx, retry.Wrap(m), request)
		e := classIs(t, err, messages.Canceled)
		if calls() != 1 || e.Attempts != 1 || len(e.Others) != 1 || !errors.Is(err, context.Canceled) {
			t.Errorf("%d calls, error %+v", calls(), e)
		}
	})
	t.Run("in an attempt", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		m := provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
			return func(yield func(provider.Chunk, error) bool) {
				n++
				cancel()
				yield(provider.Chunk{}, messages.Errorf(messages.Transient, "test", "reset"))
			}
		})
		_, err := provider.Call(ctx, must(provider.NewRetry(provider.RetryConfig{})).Wrap(m), request)
		classIs(t, err, messages.Transient)
		if n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestRetryAttemptTimeout(t *testing.T) {
	clock := clockwork.NewFakeClock()
	started := make(chan struct{}, 2)
	n := 0
	m := provider.Func(func(ctx context.Context, _ *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			if n++; n == 1 {
				started <- struct{}{}
				<-ctx.Done()
				yield(provider.Chunk{}, ctx.Err())
				return
			}
			yield(provider.Chunk{Stop: messages.StopEnd}, nil)
		}
	})
	var events sink
	retry := must(provider.NewRetry(provider.RetryConfig{AttemptTimeout: 5 * time.Second, Initial: time.Nanosecond, Jitter: -1, Clock: clock, Observe: events.observe}))
	done := make(chan error)
	go func() { _, err := provider.Call(t.Context(), retry.Wrap(m), request); done <- err }()
	<-started
	clock.Advance(5 * time.Second)
	if err := clock.BlockUntilContext(t.Context(), 1); err != nil { // it waits to retry
		t.Fatal(err)
	}
	clock.Advance(time.Second)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if es := retries(events.events()); len(es) != 1 || es[0].Class != messages.Timeout || !strings.Contains(es[0].Error.Error(), "longer than its 5s") {
		t.Errorf("events %+v", es)
	}
}

func TestRetryPanicPasses(t *testing.T) {
	n := 0
	m := provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(func(provider.Chunk, error) bool) { n++; panic("a bug") }
	})
	defer func() {
		if r := recover(); r != "a bug" || n != 1 {
			t.Errorf("recovered %v after %d calls", r, n)
		}
	}()
	_, _ = provider.Call(t.Context(), must(provider.NewRetry(provider.RetryConfig{})).Wrap(m), request)
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "3", "1.5", "-1", "NaN", "Inf", "1e300", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015", "99999999999999999999"} {
		f.Add(s)
	}
	now := time.Date(2015, 10, 21, 7, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		if d := provider.RetryAfter(s, now); d < 0 || d > 24*time.Hour {
			t.Errorf("%q gave %v", s, d)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2015, 10, 21, 7, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, " 3 ": 3 * time.Second, "0.5": 500 * time.Millisecond, "-3": 0, "soon": 0, "NaN": 0, "1e300": 24 * time.Hour,
		"Wed, 21 Oct 2015 07:28:00 GMT":     28 * time.Minute,
		"Wednesday, 21-Oct-15 07:28:00 GMT": 28 * time.Minute,
		"Wed, 21 Oct 2015 06:28:00 GMT":     0,
		"Wed, 21 Oct 2065 06:28:00 GMT":     24 * time.Hour,
	} {
		if got := provider.RetryAfter(in, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

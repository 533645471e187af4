package provider_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

func text(t string) step { return step{texts: []string{t}} }

func rungs(ms ...provider.Model) []provider.Rung {
	var rs []provider.Rung
	for i, m := range ms {
		rs = append(rs, provider.RungOf(fmt.Sprintf("m%d", i), m))
	}
	return rs
}

func TestLadderFirstChoice(t *testing.T) {
	first, _ := play(fine)
	second, calls := play(fine)
	l := must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(first, second)}))
	r, err := provider.Call(t.Context(), l, request)
	if err != nil || r.Message.Content != "ab" || r.Origin != nil || calls() != 0 {
		t.Errorf("reply %+v, error %v, %d calls of the second", r, err, calls())
	}
}

// C3, D4, E5: the answer names the rung, says that it is a fallback, and holds
// the errors before it.
func TestLadderFallback(t *testing.T) {
	for _, class := range []messages.Class{
		messages.Transient, messages.Throttled, messages.Timeout, messages.Unavailable, messages.Unauthorized,
		messages.Quota, messages.ContextLength, messages.Malformed, messages.Crashed,
	} {
		t.Run(string(class), func(t *testing.T) {
			var events sink
			bad, _ := play(broken(class))
			worse, _ := play(broken(messages.Invalid)) // at a lower rung: it cannot, the next may
			good, _ := play(fine)
			l := must(provider.NewLadder(provider.LadderConfig{Name: "l", Rungs: rungs(bad, worse, good), Observe: events.observe}))
			req := *request
			req.Session = "s1"
			r, err := provider.Call(t.Context(), l, &req)
			if err != nil {
				t.Fatal(err)
			}
			o := r.Origin
			if r.Message.Content != "ab" || o == nil || o.Rung != 2 || o.Name != "m2" || !o.Fallback || len(o.Before) != 2 || o.Before[0].Class != class || o.Before[1].Class != messages.Invalid || r.Attempts != 3 {
				t.Errorf("reply %+v, origin %+v", r, o)
			}
			var got []string
			for _, e := range events.events() {
				got = append(got, fmt.Sprintf("%s %d %s %s", e.Kind, e.Count, e.Text, e.Class))
				if e.Name != "l" || e.Session != "s1" || e.Time.IsZero() {
					t.Errorf("event %+v", e)
				}
			}
			want := fmt.Sprintf("[ladder.rung 0 m1 %s ladder.rung 1 m2 invalid ladder.fallback 2 m2 ]", class)
			if fmt.Sprint(got) != want {
				t.Errorf("events %v, want %v", got, want)
			}
		})
	}
}

// Errors that another model would not mend end the chain.
func TestLadderEnds(t *testing.T) {
	for _, class := range []messages.Class{
		messages.Invalid, messages.Canceled, messages.Budget, messages.Stopping, messages.Fenced,
		messages.Diverged, messages.Poison, messages.Waiting,
	} {
		bad, _ := play(broken(class))
		second, calls := play(fine)
		l := must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(bad, second)}))
		classIs(t, call(t, l), class)
		if calls() != 0 {
			t.Errorf("%s: the second rung was tried", class)
		}
		if class == messages.Invalid {
			continue
		}
		// At a lower rung the ending error is the call's, with the first's beside it.
		first, _ := play(broken(messages.Transient))
		l = must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(first, bad, second)}))
		e := classIs(t, call(t, l), class)
		if len(e.Others) != 1 || e.Others[0].Class != messages.Transient || calls() != 0 {
			t.Errorf("%s: others %v, %d calls", class, e.Others, calls())
		}
	}
	// The list is configurable.
	bad, _ := play(broken(messages.Quota))
	second, calls := play(fine)
	l := must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(bad, second), Ends: []messages.Class{messages.Quota}}))
	classIs(t, call(t, l), messages.Quota)
	if calls() != 0 {
		t.Error("the second rung was tried")
	}
}

type vendorError struct{ code int }

func (e *vendorError) Error() string { return fmt.Sprint("vendor code ", e.code) }

// E5: when all fail, the primary error, its type kept, with the others attached.
func TestLadderAllFail(t *testing.T) {
	primary := messages.Errorf(messages.Throttled, "first", "too much: %w", &vendorError{7})
	primary.Status, primary.Attempts, primary.Others = 429, 2, []*messages.Error{messages.Errorf(messages.Transient, "first", "attempt 1")}
	first, _ := play(step{err: primary})
	second, _ := play(broken(messages.Unavailable))
	third, _ := play(broken(messages.Malformed))
	l := must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(first, second, third)}))
	err := call(t, l)
	e := classIs(t, err, messages.Throttled)
	var v *vendorError
	if !errors.As(err, &v) || v.code != 7 || e.Status != 429 || e.Source != "first" || e.Attempts != 4 {
		t.Errorf("error %+v", e)
	}
	if len(e.Others) != 3 || e.Others[1].Class != messages.Unavailable || e.Others[2].Class != messages.Malformed {
		t.Errorf("others %v", e.Others)
	}
	if len(primary.Others) != 1 {
		t.Error("the first rung's own error was changed")
	}
}

// A rung that breaks off in mid-stream is replaced by a new attempt.
func TestLadderMidStream(t *testing.T) {
	cut, _ := play(step{texts: []string{"half of", " an ans"}, err: messages.Errorf(messages.Transient, "", "reset")})
	empty, _ := play(broken(messages.Unavailable))
	good, _ := play(fine)
	l := must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(cut, empty, good)}))
	var got []string
	r, err := provider.Collect(l.Stream(t.Context(), request), func(c provider.Chunk) {
		got = append(got, fmt.Sprintf("%d %q %s", max(c.Attempt, 1), c.Text, messages.ClassOf(c.Broken)))
	})
	if err != nil || r.Message.Content != "ab" || r.Attempts != 3 {
		t.Errorf("reply %+v, error %v", r, err)
	}
	if want := `[1 "half of"  1 " an ans"  2 "" transient 3 "a"  3 "b"  3 "" ]`; fmt.Sprint(got) != want {
		t.Errorf("chunks %v, want %v", got, want)
	}
}

// Attempts of a retry inside a rung and of the rungs count on.
func TestLadderOverRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		retry := must(provider.NewRetry(provider.RetryConfig{Attempts: 2}))
		cut, _ := play(step{texts: []string{"x"}, err: messages.Errorf(messages.Transient, "", "reset")})
		late, _ := play(step{texts: []string{"y"}, err: messages.Errorf(messages.Transient, "", "reset")}, fine)
		l := must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(retry.Wrap(cut), retry.Wrap(late))}))
		var got []int
		r, err := provider.Collect(l.Stream(t.Context(), request), func(c provider.Chunk) { got = append(got, c.Attempt) })
		if err != nil || r.Message.Content != "ab" || r.Attempts != 4 || fmt.Sprint(got) != "[1 2 2 3 3 4 4 4 4]" {
			t.Errorf("reply %+v, error %v, attempts %v", r, err, got)
		}
	})
}

// An open breaker is passed at once.
func TestLadderPassesOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := must(provider.NewBreaker(provider.BreakerConfig{Failures: 1}))
		bad, calls := play(broken(messages.Transient))
		good, _ := play(fine)
		l := must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(b.Wrap(bad), good)}))
		for range 3 {
			if err := call(t, l); err != nil {
				t.Fatal(err)
			}
		}
		if calls() != 1 {
			t.Errorf("%d calls of the broken model", calls())
		}
	})
}

func TestLadderTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := provider.Answer(func(ctx context.Context, _ *provider.Request) (*provider.Reply, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		good, calls := play(fine)
		rs := rungs(hang, good)
		rs[0].Timeout = 3 * time.Second
		l := must(provider.NewLadder(provider.LadderConfig{Rungs: rs}))
		start := time.Now()
		r, err := provider.Call(t.Context(), l, request)
		if err != nil || time.Since(start) != 3*time.Second || r.Origin.Before[0].Class != messages.Timeout || r.Usage.Duration != 3*time.Second {
			t.Errorf("after %v: %+v, %v", time.Since(start), r, err)
		}
		// The caller's own end is the end.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = provider.Call(ctx, l, request)
		classIs(t, err, messages.Timeout)
		if calls() != 1 {
			t.Errorf("%d calls of the second rung", calls())
		}
	})
}

// closing is a model that counts how often it was closed.
type closing struct {
	provider.Model
	closed *atomic.Int32
}

func (c closing) Close() error { c.closed.Add(1); return errors.New("not nice") }

// E5: a client is made when first needed, once, and closed after use.
func TestLadderMakesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made, closed atomic.Int32
		g := newGate()
		bad, _ := play(broken(messages.Unavailable))
		var events sink
		l := must(provider.NewLadder(provider.LadderConfig{Observe: events.observe, Rungs: []provider.Rung{
			provider.RungOf("bad", bad),
			{Name: "lazy", Make: func() (provider.Model, error) {
				made.Add(1)
				time.Sleep(time.Second) // time for others to come
				return closing{g, &closed}, nil
			}},
		}}))
		if made.Load() != 0 {
			t.Error("made before it was needed")
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := call(t, l); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(2 * time.Second)
		if made.Load() != 1 {
			t.Errorf("made %d times for 10 callers", made.Load())
		}
		time.Sleep(time.Hour) // in use all the time
		if closed.Load() != 0 {
			t.Error("closed while in use")
		}
		close(g.let)
		wg.Wait()
		time.Sleep(time.Minute - 1)
		if closed.Load() != 0 {
			t.Error("closed too soon")
		}
		if err := call(t, l); err != nil { // used anew
			t.Error(err)
		}
		time.Sleep(time.Minute - 1)
		if closed.Load() != 0 {
			t.Error("closed within a minute of its last use")
		}
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		if closed.Load() != 1 || made.Load() != 1 {
			t.Errorf("made %d times, closed %d times", made.Load(), closed.Load())
		}
		es := events.events()
		if e := es[len(es)-1]; e.Kind != messages.LadderClosed || e.Text != "lazy" || e.Error == nil {
			t.Errorf("event %+v", e)
		}
		if err := call(t, l); err != nil || made.Load() != 2 { // made anew
			t.Errorf("made %d times, error %v", made.Load(), err)
		}
		if err := l.Close(); err == nil || closed.Load() != 2 {
			t.Errorf("Close: %v, closed %d times", err, closed.Load())
		}
		classIs(t, call(t, l), messages.Stopping)
	})
}

// A negative Keep closes with the last call; Close during a call waits for it.
func TestLadderClosesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int32
		good, _ := play(fine)
		bad, _ := play(broken(messages.Unavailable))
		lazy := provider.Rung{Name: "lazy", Make: func() (provider.Model, error) { return closing{good, &closed}, nil }}
		l := must(provider.NewLadder(provider.LadderConfig{Keep: -1, Rungs: []provider.Rung{provider.RungOf("bad", bad), lazy}}))
		_ = call(t, l)
		if closed.Load() != 1 {
			t.Errorf("closed %d times", closed.Load())
		}
		g := newGate()
		l = must(provider.NewLadder(provider.LadderConfig{Rungs: []provider.Rung{{Name: "first", Make: func() (provider.Model, error) { return closing{g, &closed}, nil }}}}))
		done := make(chan error)
		go func() { done <- call(t, l) }()
		synctest.Wait()
		if err := l.Close(); err != nil || closed.Load() != 1 {
			t.Errorf("Close: %v, closed %d times while in use", err, closed.Load())
		}
		close(g.let)
		if err := <-done; err != nil || closed.Load() != 2 {
			t.Errorf("call: %v, closed %d times", err, closed.Load())
		}
	})
}

// A rung that cannot be made is a failed rung, whatever its class, and is tried
// again.
func TestLadderMakeFails(t *testing.T) {
	n := 0
	good, _ := play(fine)
	l := must(provider.NewLadder(provider.LadderConfig{Rungs: []provider.Rung{
		{Name: "a", Make: func() (provider.Model, error) {
			if n++; n == 1 {
				return nil, messages.Errorf(messages.Invalid, "a", "no key")
			}
			return good, nil
		}},
		{Name: "b", Make: func() (provider.Model, error) { return nil, nil }},
		provider.RungOf("c", good),
	}}))
	r, err := provider.Call(t.Context(), l, request)
	if err != nil || r.Origin.Rung != 2 || r.Origin.Before[0].Message != "no key" || r.Origin.Before[1].Class != messages.Invalid {
		t.Errorf("reply %+v, error %v", r, err)
	}
	if r, err = provider.Call(t.Context(), l, request); err != nil || r.Origin != nil {
		t.Errorf("reply %+v, error %v", r, err)
	}
}

// A panic passes through and leaves the ladder usable.
func TestLadderPanic(t *testing.T) {
	n := 0
	l := must(provider.NewLadder(provider.LadderConfig{Rungs: []provider.Rung{{Name: "a", Make: func() (provider.Model, error) {
		if n++; n == 1 {
			panic("make")
		}
		return provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
			if n++; n == 3 {
				panic("call")
			}
			m, _ := play(fine)
			return m.Stream(t.Context(), request)
		}), nil
	}}}}))
	for _, want := range []any{"make", "call", nil} {
		func() {
			defer func() {
				if r := recover(); r != want {
					t.Errorf("recovered %v, want %v", r, want)
				}
			}()
			if err := call(t, l); err != nil {
				t.Error(err)
			}
		}()
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// The caller may break off at any chunk.
func TestLadderCallerLeaves(t *testing.T) {
	for leave := range 4 {
		var events sink
		cut, _ := play(step{texts: []string{"x"}, err: messages.Errorf(messages.Transient, "", "reset")})
		good, _ := play(fine)
		l := must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(cut, good), Observe: events.observe}))
		n := 0
		for range l.Stream(t.Context(), request) {
			if n++; n > leave {
				break
			}
		}
		if n != leave+1 {
			t.Errorf("%d chunks after leaving at %d", n, leave)
		}
	}
}

// A ladder in a ladder: the innermost name, all errors, the outer rung.
func TestLadderNested(t *testing.T) {
	bad, _ := play(broken(messages.Unavailable))
	good, _ := play(fine)
	inner := must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(bad, good)}))
	l := must(provider.NewLadder(provider.LadderConfig{Rungs: []provider.Rung{provider.RungOf("top", bad), provider.RungOf("inner", inner)}}))
	r, err := provider.Call(t.Context(), l, request)
	if err != nil || r.Origin.Rung != 1 || r.Origin.Name != "m1" || len(r.Origin.Before) != 2 || r.Attempts != 3 {
		t.Errorf("reply %+v, origin %+v, error %v", r, r.Origin, err)
	}
}

func TestLadderChecks(t *testing.T) {
	good, _ := play(fine)
	eleven := rungs(good, good, good, good, good, good, good, good, good, good, good)
	second := time.Second
	for _, tt := range []struct {
		cfg  provider.LadderConfig
		want string
	}{
		{provider.LadderConfig{}, "rungs: 0 is not allowed: use 1 to 10"},
		{provider.LadderConfig{Rungs: eleven}, "rungs: 11 is not allowed: use 1 to 10"},
		{provider.LadderConfig{Rungs: []provider.Rung{{Make: eleven[0].Make}}}, "rungs[0].name"},
		{provider.LadderConfig{Rungs: []provider.Rung{{Name: "x"}}}, "rungs[0].make"},
		{provider.LadderConfig{Rungs: []provider.Rung{{Name: "x", Make: eleven[0].Make, Timeout: -second}}}, "rungs[0].timeout: -1s"},
		{provider.LadderConfig{Rungs: eleven[:1], Ends: []messages.Class{"odd"}}, "ends: odd"},
	} {
		_, err := provider.NewLadder(tt.cfg)
		if !errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "use ") {
			t.Errorf("error %v, want %q", err, tt.want)
		}
	}
	if err := (provider.LadderConfig{Rungs: eleven[:10]}).Check(); err != nil {
		t.Error(err)
	}
}

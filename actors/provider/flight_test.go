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

// spoken is a model that says a word each second, five in all, and counts its
// calls and how they ended.
type spoken struct {
	calls    atomic.Int32
	err      error // instead of the last word
	ended    atomic.Value
	deadline func(time.Time, bool)
}

func (s *spoken) Stream(ctx context.Context, _ *provider.Request) iter.Seq2[provider.Chunk, error] {
	return func(yield func(provider.Chunk, error) bool) {
		s.calls.Add(1)
		for n := range 5 {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				s.ended.Store(ctx.Err())
				yield(provider.Chunk{}, ctx.Err())
				return
			}
			if s.deadline != nil {
				s.deadline(ctx.Deadline())
			}
			c := provider.Chunk{Text: fmt.Sprint(n)}
			if n == 4 {
				if s.err != nil {
					yield(provider.Chunk{}, s.err)
					return
				}
				c.Stop, c.Usage = messages.StopEnd, messages.Usage{InputTokens: 7}
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

var keyedRequest = &provider.Request{Messages: request.Messages, Key: "k", Session: "s", Kind: "chat"}

// Three that come one after the other share one call; each sees all of it, the
// words so far at once and the others as they come.
func TestFlightShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events sink
		f := provider.NewFlight(provider.FlightConfig{Name: "m", Observe: events.observe})
		s := &spoken{}
		m := f.Wrap(s)
		start := time.Now()
		heard := make([]string, 3)
		var wg sync.WaitGroup
		for n := range 3 {
			wg.Go(func() {
				r, err := provider.Collect(m.Stream(t.Context(), keyedRequest), func(c provider.Chunk) {
					heard[n] += fmt.Sprintf("%s@%d ", c.Text, time.Since(start)/time.Second)
				})
				if err != nil || r.Message.Content != "01234" || (n == 0) != (r.Usage.InputTokens == 7) {
					t.Errorf("%d: %+v, %v", n, r, err)
				}
			})
			time.Sleep(1500 * time.Millisecond)
		}
		wg.Wait()
		want := []string{"0@1 1@2 2@3 3@4 4@5 ", "0@1 1@2 2@3 3@4 4@5 ", "0@3 1@3 2@3 3@4 4@5 "}
		if strings.Join(heard, "|") != strings.Join(want, "|") || s.calls.Load() != 1 || f.Len() != 0 {
			t.Errorf("heard %q, %d calls, %d under way", heard, s.calls.Load(), f.Len())
		}
		es := events.events()
		if kinds(es) != "flight.joined flight.joined" || es[1].Count != 3 || es[0].Session != "s" || es[0].Call != "chat" || es[0].Name != "m" {
			t.Errorf("events %+v", es)
		}
		if err := call(t, m); err != nil || s.calls.Load() != 2 {
			t.Errorf("a call without a key: %v, %d calls", err, s.calls.Load())
		}
		if _, err := provider.Call(t.Context(), m, keyedRequest); err != nil || s.calls.Load() != 3 {
			t.Errorf("a later call: %v, %d calls", err, s.calls.Load())
		}
	})
}

// Whoever leaves, the first one too, does not end it for the others.
func TestFlightOneLeaves(t *testing.T) {
	for _, who := range []int{0, 1, 2} {
		t.Run(fmt.Sprint(who), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := provider.NewFlight(provider.FlightConfig{})
				s := &spoken{}
				var wg sync.WaitGroup
				for n := range 3 {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					wg.Go(func() {
						start := time.Now()
						r, err := provider.Call(ctx, f.Wrap(s), keyedRequest)
						if n == who {
							if messages.ClassOf(err) != messages.Canceled || !errors.Is(err, context.Canceled) || time.Since(start) != 2500*time.Millisecond {
								t.Errorf("who left after %v: %+v, %v", time.Since(start), r, err)
							}
							return
						}
						if err != nil || r.Message.Content != "01234" {
							t.Errorf("%d: %+v, %v", n, r, err)
						}
					})
					if n == who {
						go func() { time.Sleep(2500 * time.Millisecond); cancel() }()
					}
					synctest.Wait()
				}
				wg.Wait()
				if s.calls.Load() != 1 {
					t.Errorf("%d calls", s.calls.Load())
				}
			})
		})
	}
}

// When the last one leaves the call is canceled, with that one's reason, and
// nobody joins it any more.
func TestFlightLastLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := provider.NewFlight(provider.FlightConfig{})
		s := &spoken{}
		m := f.Wrap(s)
		var wg sync.WaitGroup
		for _, d := range []time.Duration{1500, 2500} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), d*time.Millisecond)
				defer cancel()
				_, err := provider.Call(ctx, m, keyedRequest)
				if messages.ClassOf(err) != messages.Timeout {
					t.Errorf("error %v", err)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if f.Len() != 0 {
			t.Error("a call that nobody waits for can be joined")
		}
		synctest.Wait()
		if err := s.ended.Load(); err != context.DeadlineExceeded {
			t.Errorf("the call ended with %v", err)
		}
		for range m.Stream(t.Context(), keyedRequest) {
			break
		}
		synctest.Wait()
		if err := s.ended.Load(); s.calls.Load() != 2 || err != context.Canceled && err != context.DeadlineExceeded {
			t.Errorf("%d calls, the last ended with %v", s.calls.Load(), err)
		}
	})
}

// The call's deadline is the latest of those who wait: none while one has none.
func TestFlightDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		start := time.Now()
		s := &spoken{deadline: func(d time.Time, ok bool) { seen = append(seen, fmt.Sprintf("%t %d", ok, d.Sub(start)/time.Second)) }}
		f := provider.NewFlight(provider.FlightConfig{})
		var wg sync.WaitGroup
		begin := func(after, d time.Duration) {
			wg.Go(func() {
				time.Sleep(after)
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				if d == 0 {
					ctx = t.Context()
				}
				_, _ = provider.Call(ctx, f.Wrap(s), keyedRequest)
			})
		}
		begin(0, 10*time.Second)
		begin(1500*time.Millisecond, 20*time.Second)
		begin(2500*time.Millisecond, 2*time.Second)
		begin(3500*time.Millisecond, 0)
		wg.Wait()
		if got := strings.Join(seen, ", "); !strings.HasPrefix(got, "true 10, true 21, true 21, false") {
			t.Errorf("deadlines seen: %s", got)
		}
	})
}

// The failure of the call, and its panic, is everyone's.
func TestFlightFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := provider.NewFlight(provider.FlightConfig{Name: "m"})
		m := f.Wrap(&spoken{err: messages.Errorf(messages.Quota, "p", "no money")})
		crash := f.Wrap(provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
			return func(func(provider.Chunk, error) bool) { time.Sleep(time.Second); panic("a bug") }
		}))
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, err := provider.Call(t.Context(), m, keyedRequest)
				if messages.ClassOf(err) != messages.Quota {
					t.Error(err)
				}
				_, err = provider.Call(t.Context(), crash, keyedRequest)
				if e := messages.AsError(err, "", ""); e == nil || e.Class != messages.Crashed || !strings.Contains(e.Error(), "a bug") || e.Stack == "" {
					t.Errorf("error %+v", e)
				}
			})
		}
		wg.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := provider.Call(ctx, m, keyedRequest)
		classIs(t, err, messages.Canceled)
	})
}

// A context that is derived inside a shared call ends with it, and its values
// are the first caller's.
func TestFlightContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		got := make(chan error, 1)
		m := provider.NewFlight(provider.FlightConfig{}).Wrap(provider.Func(func(ctx context.Context, _ *provider.Request) iter.Seq2[provider.Chunk, error] {
			return func(func(provider.Chunk, error) bool) {
				own, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				if ctx.Value(key{}) != "v" || own.Err() != nil {
					t.Errorf("value %v, error %v", ctx.Value(key{}), own.Err())
				}
				<-own.Done()
				got <- own.Err()
			}
		}))
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "v"), time.Second)
		defer cancel()
		_, err := provider.Call(ctx, m, keyedRequest)
		classIs(t, err, messages.Timeout)
		if err := <-got; err != context.DeadlineExceeded {
			t.Error(err)
		}
	})
}

// A thousand duplicates through a whole stack are one call, and none of them
// takes a place or a token.
func TestStackSharesDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(provider.NewStack(provider.StackConfig{Queue: provider.QueueConfig{Concurrency: 1, Waiting: -1}, Limiter: provider.LimiterConfig{RequestsPerMinute: 1}}))
		sp := &spoken{}
		m := s.Wrap(sp)
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if r, err := provider.Call(t.Context(), m, keyedRequest); err != nil || r.Message.Content != "01234" {
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
		wg.Wait()
		if sp.calls.Load() != 1 {
			t.Errorf("%d calls", sp.calls.Load())
		}
	})
}

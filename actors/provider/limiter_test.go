package provider_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// worst returns the most moments, or the largest sum of weights, in any minute.
func worst(at []time.Time, weight func(int) int) int {
	most, sum, from := 0, 0, 0
	for i := range at {
		sum += weight(i)
		for at[i].Sub(at[from]) >= time.Minute {
			sum -= weight(from)
			from++
		}
		most = max(most, sum)
	}
	return most
}

func one(int) int { return 1 }

// No minute, wherever it begins, sees more requests than the limit, and little
// of the limit is left unused.
func TestLimiterRequests(t *testing.T) {
	for _, tt := range []struct {
		limit, burst, least int // least: in the fullest minute
	}{{60, 0, 60}, {60, 1, 60}, {60, 30, 60}, {1, 0, 1}, {7, 3, 7}, {6000, 0, 6000}} {
		synctest.Test(t, func(t *testing.T) {
			l := must(provider.NewLimiter(provider.LimiterConfig{RequestsPerMinute: tt.limit, RequestBurst: tt.burst}))
			var mu sync.Mutex
			var at []time.Time
			var wg sync.WaitGroup
			start := time.Now()
			for range min(3*tt.limit, 500) + 2 {
				wg.Go(func() {
					if err := l.Wait(t.Context(), 0); err != nil {
						t.Error(err)
					}
					mu.Lock()
					at = append(at, time.Now())
					mu.Unlock()
				})
			}
			wg.Wait()
			slices.SortFunc(at, time.Time.Compare)
			got := worst(at, one)
			t.Logf("%d a minute, burst %d: %d in the fullest minute, %d took %v", tt.limit, tt.burst, got, len(at), time.Since(start))
			if got > tt.limit || len(at) > 2*tt.limit && got < tt.least {
				t.Errorf("%d in one minute", got)
			}
		})
	}
}

func TestLimiterTellsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := must(provider.NewLimiter(provider.LimiterConfig{RequestsPerMinute: 60, RequestBurst: 1}))
		second := 1001 * time.Millisecond
		var all []provider.Reservation
		for n := range 4 {
			r := l.Reserve(0)
			if want := time.Duration(n) * second; r.Wait != want {
				t.Errorf("reservation %d waits %v, want %v", n, r.Wait, want)
			}
			all = append(all, r)
		}
		all[3].Cancel()
		if r := l.Reserve(0); r.Wait != 3*second {
			t.Errorf("the place of a canceled one waits %v", r.Wait)
		}
		provider.Reservation{}.Cancel()
		off := must(provider.NewLimiter(provider.LimiterConfig{}))
		if r := off.Reserve(1e9); r.Wait != 0 || !off.Off() || l.Off() {
			t.Errorf("no limit waits %v", r.Wait)
		}
		off.Settle(1, 2)
	})
}

// A wait that would pass the deadline fails at once, says when, and takes
// nothing.
func TestLimiterDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events sink
		l := must(provider.NewLimiter(provider.LimiterConfig{Name: "m", RequestsPerMinute: 1, TokensPerMinute: 100, Observe: events.observe, Estimate: func(*provider.Request) int { return 1 }}))
		m, calls := play(fine)
		m = l.Wrap(m)
		req := &provider.Request{Messages: request.Messages, Session: "s", Kind: "chat"}
		if _, err := provider.Call(t.Context(), m, req); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 59*time.Second)
			_, err := provider.Call(ctx, m, req)
			cancel()
			e := classIs(t, err, messages.Throttled)
			if !time.Now().Equal(start) || e.RetryAfter < time.Minute || e.RetryAfter > 61*time.Second || !e.Until.Equal(start.Add(e.RetryAfter)) || calls() != 1 {
				t.Errorf("after %v: %+v", time.Since(start), e)
			}
		}
		r, err := provider.Call(t.Context(), m, req)
		if took := time.Since(start); err != nil || took > 61*time.Second || r.Usage.Duration != took {
			t.Errorf("after %v: %+v, %v", took, r, err)
		}
		es := events.events()
		if kinds(es) != "limiter.refused limiter.refused limiter.refused limiter.wait" || es[3].Wait != time.Since(start) || es[3].Session != "s" || es[3].Call != "chat" || es[3].Name != "m" {
			t.Errorf("events %+v", es)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(time.Second); cancel() }()
		if err := l.Wait(ctx, 0); !errors.Is(err, context.Canceled) || messages.ClassOf(err) != messages.Canceled {
			t.Error(err)
		}
		if err := l.Wait(ctx, 0); messages.ClassOf(err) != messages.Canceled {
			t.Error(err)
		}
	})
}

// costs is a model whose replies use so many tokens.
func costs(tokens int) provider.Model {
	return provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			yield(provider.Chunk{Stop: messages.StopEnd, Usage: messages.Usage{InputTokens: tokens - 1, OutputTokens: 1}}, nil)
		}
	})
}

// The estimate is taken before a call and settled after it: what calls really
// use is what the limit counts.
func TestLimiterTokens(t *testing.T) {
	for _, tt := range []struct {
		name            string
		estimate, used  int
		least, most     time.Duration // of 40 calls in a row; 1000 tokens a minute, 500 at once
		perMinute, sums int
	}{
		{"right", 100, 100, 6*time.Minute + 30*time.Second, 8 * time.Minute, 1000, 1000},
		{"too high", 400, 100, 6*time.Minute + 30*time.Second, 8 * time.Minute, 1000, 1000},
		{"too low", 1, 100, 6*time.Minute + 30*time.Second, 8 * time.Minute, 1000, 1100},
		{"above the burst", 5000, 100, 6*time.Minute + 30*time.Second, 8 * time.Minute, 1000, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := must(provider.NewLimiter(provider.LimiterConfig{TokensPerMinute: tt.perMinute, Estimate: func(*provider.Request) int { return tt.estimate }}))
				m := l.Wrap(costs(tt.used))
				start := time.Now()
				var at []time.Time
				for range 40 {
					if err := call(t, m); err != nil {
						t.Fatal(err)
					}
					at = append(at, time.Now())
				}
				took := time.Since(start)
				got := worst(at, func(int) int { return tt.used })
				t.Logf("took %v, %d tokens in the fullest minute", took, got)
				if took < tt.least || took > tt.most || got > tt.sums {
					t.Errorf("took %v, %d tokens in the fullest minute", took, got)
				}
			})
		})
	}
}

// What was given back is spent once, and never adds to a full bucket.
func TestLimiterGivesBackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := must(provider.NewLimiter(provider.LimiterConfig{TokensPerMinute: 1000, TokenBurst: 500}))
		l.Reserve(500)
		l.Settle(500, 100) // 400 are back
		if r := l.Reserve(400); r.Wait != 0 {
			t.Errorf("waits %v for what was given back", r.Wait)
		}
		if r := l.Reserve(1); r.Wait == 0 {
			t.Error("it was given back twice")
		}
		time.Sleep(time.Hour)
		l.Settle(500, 0)
		if r := l.Reserve(500); r.Wait != 0 {
			t.Errorf("a full bucket waits %v", r.Wait)
		}
		if r := l.Reserve(100); r.Wait == 0 {
			t.Error("more than a full bucket")
		}
	})
}

func TestEstimateTokens(t *testing.T) {
	for _, tt := range []struct {
		req  provider.Request
		want int
	}{
		{provider.Request{}, 256},
		{provider.Request{Options: provider.Options{MaxTokens: 10}}, 10},
		{provider.Request{Messages: []messages.Message{{Content: "12345678", Thinking: "1234"}}, Options: provider.Options{MaxTokens: 10}}, 17},
		{provider.Request{Messages: []messages.Message{{ToolCalls: []messages.ToolCall{{Name: "ab", Arguments: []byte(`{}`)}}}},
			Tools: []messages.ToolSpec{{Name: "ab", Description: "cd", Parameters: []byte(`{}`)}}, Format: []byte(`{}`), Options: provider.Options{MaxTokens: 10}}, 17},
	} {
		if got := provider.EstimateTokens(&tt.req); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.req, got, tt.want)
		}
	}
}

package provider_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// narrow is a provider that takes a number of requests a minute, answers others
// with 429 and a Retry-After, fails a share of what it takes, and needs a while
// for each.
type narrow struct {
	perMinute int
	fails     float64
	takes     time.Duration

	mu        sync.Mutex
	random    *rand.Rand
	at        []time.Time // of the requests that it took
	throttled int
	running   int
	most      int
}

func (p *narrow) Stream(ctx context.Context, _ *provider.Request) iter.Seq2[provider.Chunk, error] {
	return func(yield func(provider.Chunk, error) bool) {
		fails, wait := p.take()
		if wait > 0 {
			yield(provider.Chunk{}, &messages.Error{Class: messages.Throttled, Source: "narrow", Message: "429", Status: 429, RetryAfter: wait})
			return
		}
		defer func() { p.mu.Lock(); p.running--; p.mu.Unlock() }()
		select {
		case <-time.After(p.takes):
		case <-ctx.Done():
			yield(provider.Chunk{}, ctx.Err())
			return
		}
		if fails {
			yield(provider.Chunk{}, &messages.Error{Class: messages.Transient, Source: "narrow", Message: "503", Status: 503})
			return
		}
		_ = yield(provider.Chunk{Text: "an answer"}, nil) && yield(provider.Chunk{Stop: messages.StopEnd}, nil)
	}
}

func (p *narrow) take() (fails bool, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if n := len(p.at); n >= p.perMinute {
		if wait := p.at[n-p.perMinute].Add(time.Minute).Sub(now); wait > 0 {
			p.throttled++
			return false, wait.Truncate(time.Second) + time.Second // in whole seconds, as a header
		}
	}
	p.at = append(p.at, now)
	p.running++
	p.most = max(p.most, p.running)
	return p.random.Float64() < p.fails, 0
}

// storm lets callers loose at a stack at once and returns how they ended, by
// class, and the waits before retries by the moment at which they end.
func storm(t *testing.T, p *narrow, cfg provider.StackConfig, callers int, deadline time.Duration) (ends map[messages.Class]int, retries []time.Time) {
	t.Helper()
	var mu sync.Mutex
	ends = map[messages.Class]int{}
	cfg.Name = "narrow"
	cfg.Observe = func(e messages.Event) {
		if e.Kind == messages.ProviderRetry {
			mu.Lock()
			retries = append(retries, e.Time.Add(e.Wait))
			mu.Unlock()
		}
	}
	m := must(provider.NewStack(cfg)).Wrap(p)
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	start := time.Now()
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			r, err := provider.Call(ctx, m, &provider.Request{Messages: request.Messages, Session: fmt.Sprint(n % 10), Priority: n % 3})
			if err == nil && r.Message.Content != "an answer" {
				t.Errorf("answer %q", r.Message.Content)
			}
			mu.Lock()
			defer mu.Unlock()
			switch class := messages.ClassOf(err); {
			case err != nil && !class.Valid():
				t.Errorf("error without a class: %v", err)
			default:
				ends[class]++
			}
		})
	}
	time.Sleep(time.Second)
	synctest.Wait()
	most := runtime.NumGoroutine() - goroutines
	runtime.GC()
	runtime.ReadMemStats(&during)
	heap := int64(during.HeapAlloc) - int64(before.HeapAlloc)
	stacks := int64(during.StackInuse) - int64(before.StackInuse)
	wg.Wait()
	runtime.GC()
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	took := time.Since(start)
	t.Logf("%d callers took %v of fed time: %v; the provider took %d requests, %d in the fullest minute, %d at once, and throttled %d; %d retries",
		callers, took.Round(time.Second), ends, len(p.at), worst(p.at, one), p.most, p.throttled, len(retries))
	t.Logf("with %d callers: %d goroutines more, %d bytes of heap and %d of stack each; afterwards %d bytes of heap in all",
		callers, most, heap/int64(callers), stacks/int64(callers), int64(after.HeapAlloc)-int64(before.HeapAlloc))
	if most > callers+2 {
		t.Errorf("%d goroutines for %d callers", most, callers)
	}
	if heap > 16<<10*int64(callers) {
		t.Errorf("%d bytes of heap for %d callers", heap, callers)
	}
	if left := int64(after.HeapAlloc) - int64(before.HeapAlloc); left > 2<<20 {
		t.Errorf("%d bytes are left", left)
	}
	sum := 0
	for _, n := range ends {
		sum += n
	}
	if sum != callers {
		t.Errorf("%d of %d callers ended", sum, callers)
	}
	return ends, retries
}

// lockStep returns the most retries that fall into one bucket of time.
func lockStep(retries []time.Time, bucket time.Duration) int {
	n := map[int64]int{}
	most := 0
	for _, at := range retries {
		k := at.UnixNano() / int64(bucket)
		n[k]++
		most = max(most, n[k])
	}
	return most
}

func newNarrow() *narrow {
	return &narrow{perMinute: 60, fails: 0.2, takes: 200 * time.Millisecond, random: rand.New(rand.NewPCG(1, 2))}
}

// A thousand callers at once, a provider that takes 60 requests a minute and
// fails a fifth of them. Time is fed by synctest.
func TestStorm(t *testing.T) {
	t.Run("the limit is known", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newNarrow()
			ends, retries := storm(t, p, provider.StackConfig{Limiter: provider.LimiterConfig{RequestsPerMinute: 60}}, 1000, time.Hour)
			if p.throttled > 0 || worst(p.at, one) > 60 {
				t.Errorf("%d throttled, %d in one minute", p.throttled, worst(p.at, one))
			}
			if ends[""] < 980 || p.most > 5 {
				t.Errorf("ends %v, %d at once", ends, p.most)
			}
			if n := lockStep(retries, time.Millisecond); len(retries) < 150 || n > 1 {
				t.Errorf("%d retries, %d in one millisecond", len(retries), n)
			}
			if minutes := float64(p.at[len(p.at)-1].Sub(p.at[0])) / float64(time.Minute); float64(len(p.at))/minutes < 50 {
				t.Errorf("only %.1f requests a minute", float64(len(p.at))/minutes)
			}
		})
	})
	t.Run("and their time is short", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newNarrow()
			start := time.Now()
			ends, _ := storm(t, p, provider.StackConfig{Limiter: provider.LimiterConfig{RequestsPerMinute: 60}}, 1000, 5*time.Minute)
			if p.throttled > 0 || worst(p.at, one) > 60 || time.Since(start) > 5*time.Minute+time.Second {
				t.Errorf("%d throttled, %d in one minute, took %v", p.throttled, worst(p.at, one), time.Since(start))
			}
			if ends[""] < 200 || ends[messages.Timeout]+ends[messages.Throttled] < 700 { // refused as soon as it is clear that their time is too short
				t.Errorf("ends %v", ends)
			}
		})
	})
	t.Run("the limit is not known", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newNarrow()
			ends, retries := storm(t, p, provider.StackConfig{Retry: provider.RetryConfig{Attempts: 6, MaxTotal: time.Hour}}, 1000, time.Hour)
			if ends[""] < 500 || p.most > 5 || worst(p.at, one) > 60 {
				t.Errorf("ends %v, %d at once, %d in one minute", ends, p.most, worst(p.at, one))
			}
			if n := lockStep(retries, time.Millisecond); len(retries) < 100 || n > 2 {
				t.Errorf("%d retries, %d in one millisecond", len(retries), n)
			}
		})
	})
	t.Run("nobody queues", func(t *testing.T) { // a thousand at the provider at once, and all are told to come back
		synctest.Test(t, func(t *testing.T) {
			p := newNarrow()
			ends, retries := storm(t, p, provider.StackConfig{
				Queue: provider.QueueConfig{Off: true}, Breaker: provider.BreakerConfig{Off: true},
				Retry: provider.RetryConfig{Attempts: 50, Initial: 30 * time.Second, MaxTotal: time.Hour},
			}, 1000, time.Hour)
			if ends[""] < 900 {
				t.Errorf("ends %v", ends)
			}
			// The first moment hits all of them: their waits must not.
			if n := lockStep(retries, time.Millisecond); n > 8 {
				t.Errorf("%d of %d retries in one millisecond", n, len(retries))
			}
			same := 0
			slices.SortFunc(retries, time.Time.Compare)
			for i := range retries[1:] {
				if retries[i].Equal(retries[i+1]) {
					same++
				}
			}
			if same > 0 {
				t.Errorf("%d of %d retries in the same nanosecond as another", same, len(retries))
			}
		})
	})
	t.Run("the queue is short", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newNarrow()
			ends, _ := storm(t, p, provider.StackConfig{Queue: provider.QueueConfig{Waiting: 50}, Limiter: provider.LimiterConfig{RequestsPerMinute: 60}}, 1000, time.Hour)
			if ends[messages.Unavailable] != 945 || ends[""] < 53 {
				t.Errorf("ends %v, want 945 refused at once", ends)
			}
		})
	})
}

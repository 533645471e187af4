package provider_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// stacks are what the benchmarks compare, each around the same client: the
// client alone, the default stack, the same for calls with a key, which may be
// shared and so run in a goroutine of their own, and one that has everything: a
// key, a cache (which the requests always miss), limits of requests and tokens,
// adaptive retries and an observer.
func stacks(m provider.Model, concurrency int) map[string]provider.Model {
	queue := provider.QueueConfig{Concurrency: concurrency, Waiting: 10_000}
	const plenty = 1_000_000_000
	plain := must(provider.NewStack(provider.StackConfig{Name: "m", Queue: queue})).Wrap(m)
	return map[string]provider.Model{
		"direct": m, "stack": plain, "keyed": plain,
		"full": must(provider.NewStack(provider.StackConfig{
			Name: "m", Queue: queue, Cache: &provider.CacheConfig{}, Adaptive: &provider.AdaptiveConfig{},
			Limiter: provider.LimiterConfig{RequestsPerMinute: plenty, TokensPerMinute: plenty},
			Observe: func(messages.Event) {},
		})).Wrap(m),
	}
}

// asking returns a request that no cache knows.
func asking(key string, n int) *provider.Request {
	text := fmt.Sprint(n)
	if key != "" {
		key += text
	}
	return &provider.Request{Key: key, Session: "s", Messages: []messages.Message{
		{Role: messages.System, Content: "Answer in one sentence. " + text},
		{Role: messages.User, Content: "What is the capital of France?"},
	}}
}

// BenchmarkStack is what the middlewares cost a call that goes well, with
// nothing behind them; direct is the same call without them, hit one that the
// cache answers.
func BenchmarkStack(b *testing.B) {
	m, _ := play(fine)
	all := stacks(m, 0)
	all["hit"] = all["full"]
	for _, name := range []string{"direct", "stack", "keyed", "full", "hit"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			key := ""
			if name == "keyed" || name == "full" {
				key = "k"
			}
			req := asking(key, 0)
			for n := 1; b.Loop(); n++ {
				if name == "full" {
					req = asking(key, n)
				}
				if _, err := provider.Call(context.Background(), all[name], req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// overHTTP is the smallest client there can be: one request, and a chunk for
// each line of the reply.
func overHTTP(url string, client *http.Client) provider.Model {
	return provider.Func(func(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(req.Messages[0].Content))
			if err != nil {
				yield(provider.Chunk{}, err)
				return
			}
			resp, err := client.Do(r)
			if err != nil {
				yield(provider.Chunk{}, messages.AsError(err, messages.Transient, "http"))
				return
			}
			defer func() { _ = resp.Body.Close() }()
			lines := bufio.NewScanner(resp.Body)
			for lines.Scan() {
				if !yield(provider.Chunk{Text: lines.Text()}, nil) {
					return
				}
			}
			yield(provider.Chunk{Stop: messages.StopEnd}, nil)
		}
	})
}

// BenchmarkOverhead is what a stack adds to a call of a local server, with 1, 100
// and 1,000 callers at once. Each caller makes the four kinds of call in turn,
// so that all meet the same machine. The metrics:
//
//	direct-p50-ns, direct-p99-ns   a call of the client alone
//	stack-, keyed-, full-p50-ns    what a stack adds to it: with one caller the
//	                               median of the differences between neighbours,
//	                               else the difference of the medians
//	stack-, keyed-, full-p99-ns    the difference of the 99th percentiles
func BenchmarkOverhead(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "The capital\nis\nParis.\n")
	}))
	defer s.Close()
	names := []string{"direct", "stack", "keyed", "full"}
	for _, callers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			transport := http.DefaultTransport.(*http.Transport).Clone()
			transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, callers
			defer transport.CloseIdleConnections()
			all := stacks(overHTTP(s.URL, &http.Client{Transport: transport}), callers)
			var mu sync.Mutex
			took := map[string][]time.Duration{}
			var diffs [3][]time.Duration
			var wg sync.WaitGroup
			rounds := b.N/callers + 2
			for c := range callers {
				wg.Go(func() {
					mine := map[string][]time.Duration{}
					for n := range rounds {
						for _, i := range rand.Perm(len(names)) {
							key := ""
							if i > 1 {
								key = "k"
							}
							req := asking(key, c*rounds+n)
							start := time.Now()
							r, err := provider.Call(context.Background(), all[names[i]], req)
							d := time.Since(start)
							if err != nil || r.Message.Content != "The capitalisParis." {
								b.Errorf("%+v, %v", r, err)
								return
							}
							mine[names[i]] = append(mine[names[i]], d)
						}
					}
					mu.Lock()
					defer mu.Unlock()
					for name, ds := range mine {
						took[name] = append(took[name], ds[1:]...) // without the first: it dials
					}
				})
			}
			wg.Wait()
			if b.Failed() {
				return
			}
			for i := range diffs {
				for n, d := range took[names[i+1]] {
					diffs[i] = append(diffs[i], d-took["direct"][n])
				}
			}
			at := func(name string, q float64) float64 { return quantile(took[name], q) }
			direct50, direct99 := at("direct", 0.5), at("direct", 0.99)
			b.ReportMetric(direct50, "direct-p50-ns")
			b.ReportMetric(direct99, "direct-p99-ns")
			for i, name := range names[1:] {
				p50 := at(name, 0.5) - direct50
				if callers == 1 {
					p50 = quantile(diffs[i], 0.5)
				}
				b.ReportMetric(p50, name+"-p50-ns")
				b.ReportMetric(at(name, 0.99)-direct99, name+"-p99-ns")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func quantile(of []time.Duration, q float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return float64(s[min(len(s)-1, int(float64(len(s))*q))])
}

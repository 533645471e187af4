package ollama_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/ollama/ollama/api"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/ollama"
	"github.com/covey-run/covey/internal/modeltest"
)

// BenchmarkProviderOverhead compares, call by call in turn, Ollama's own client
// with ours and with the whole stack around ours, on one server that answers at
// once with a stream of three lines. ns/op is one call of each. The metrics:
//
//	raw-p50-ns    a call of Ollama's client
//	model-p50-ns  what our client adds to it: the median of the differences
//	stack-p50-ns  what our client and queue, breaker and retry add
//
// Ollama's client clears a buffer of 8 MB for every call, which is most of its
// time and all of the noise; ours does not, and so adds less than nothing.
func BenchmarkProviderOverhead(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, line1+line2+done)
	}))
	defer s.Close()
	base, err := url.Parse(s.URL)
	if err != nil {
		b.Fatal(err)
	}
	raw := api.NewClient(base, &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()})
	model, err := ollama.New(ollama.Config{BaseURL: s.URL, Model: "m"})
	if err != nil {
		b.Fatal(err)
	}
	stack, err := provider.NewStack(provider.StackConfig{Name: "m"})
	if err != nil {
		b.Fatal(err)
	}
	wrapped := stack.Wrap(model)

	ctx := context.Background()
	req := modeltest.Ask(modeltest.Question)
	rawReq := &api.ChatRequest{Model: "m", Messages: []api.Message{
		{Role: "system", Content: req.Messages[0].Content}, {Role: "user", Content: req.Messages[1].Content},
	}}
	want := "The capital is Paris."
	check := func(got string, err error) {
		if err != nil || got != want {
			b.Fatalf("%q, %v", got, err)
		}
	}
	ours := func(m provider.Model) func() {
		return func() {
			r, err := provider.Call(ctx, m, req)
			if err != nil {
				b.Fatal(err)
			}
			check(r.Message.Content, nil)
		}
	}
	runs := []func(){
		func() {
			text := ""
			err := raw.Chat(ctx, rawReq, func(r api.ChatResponse) error { text += r.Message.Content; return nil })
			check(text, err)
		},
		ours(model), ours(wrapped),
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // collect every 30 calls, not at each
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(256 << 20))
	took := make([][]time.Duration, len(runs))
	b.ReportAllocs()
	for b.Loop() {
		for _, i := range rand.Perm(len(runs)) {
			start := time.Now()
			runs[i]()
			took[i] = append(took[i], time.Since(start))
		}
	}
	p50 := func(of func(n int) time.Duration) float64 {
		all := make([]time.Duration, len(took[0]))
		for n := range all {
			all[n] = of(n)
		}
		slices.Sort(all)
		return float64(all[len(all)/2])
	}
	b.ReportMetric(p50(func(n int) time.Duration { return took[0][n] }), "raw-p50-ns")
	b.ReportMetric(p50(func(n int) time.Duration { return took[1][n] - took[0][n] }), "model-p50-ns")
	b.ReportMetric(p50(func(n int) time.Duration { return took[2][n] - took[0][n] }), "stack-p50-ns")
}

package main

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkColdStart measures from the start of `covey run`, on a data directory
// that is there, to its first model call. The goal is 150 ms.
func BenchmarkColdStart(b *testing.B) {
	if _, err := binary(); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for range max(20, b.N) {
		w := newWorld(b)
		w.holdAt("model 1 is asked")
		start := time.Now()
		p := w.begin("run", w.team, question)
		if !w.holding(p) {
			b.Fatal(p)
		}
		took = append(took, w.first.Sub(start))
		p.kill()
		w.bury()
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(took[len(took)/2]), "ms-p50")
	b.ReportMetric(ms(took[len(took)*9/10]), "ms-p90")
	b.ReportMetric(0, "ns/op")
}

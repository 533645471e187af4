package provider_test

import (
	"context"
	"testing"

	"github.com/covey-run/covey/actors/provider"
)

// BenchmarkStack is what queue, breaker and retry cost a call that goes well,
// with nothing behind them; Bare is the same call without them.
func BenchmarkStack(b *testing.B) {
	m, _ := play(fine)
	stack := must(provider.NewStack(provider.StackConfig{}))
	for _, bb := range []struct {
		name string
		m    provider.Model
	}{{"Bare", m}, {"Stack", stack.Wrap(m)}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := provider.Call(context.Background(), bb.m, request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package provider_test

import (
	"testing"

	"github.com/covey-run/covey/actors/provider"
)

// What the parts above a stack add to a call that goes well.
func BenchmarkAbove(b *testing.B) {
	m, _ := play(fine)
	ladder := must(provider.NewLadder(provider.LadderConfig{Rungs: rungs(m, m)}))
	for _, bb := range []struct {
		name string
		m    provider.Model
	}{
		{"direct", m},
		{"ladder", ladder},
		{"output", must(provider.NewOutput(provider.OutputConfig{})).Wrap(m)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := provider.Call(b.Context(), bb.m, request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

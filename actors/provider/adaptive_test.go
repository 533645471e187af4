package provider_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

func TestAdaptive(t *testing.T) {
	s := time.Second
	for _, tt := range []struct {
		name       string
		cfg        provider.AdaptiveConfig
		good, bad  int
		attempts   int
		want       int
		wait, then time.Duration
	}{
		{"too few known", provider.AdaptiveConfig{}, 9, 0, 4, 4, s, s},
		{"all well", provider.AdaptiveConfig{}, 10, 0, 4, 3, s, s / 2},
		{"just above 90 %", provider.AdaptiveConfig{}, 91, 9, 4, 3, s, s / 2},
		{"90 %", provider.AdaptiveConfig{}, 90, 10, 4, 4, s, s},
		{"70 %", provider.AdaptiveConfig{}, 70, 30, 4, 4, s, s},
		{"just below", provider.AdaptiveConfig{}, 69, 31, 4, 5, s, 3 * s / 2},
		{"none well", provider.AdaptiveConfig{}, 0, 10, 4, 5, s, 3 * s / 2},
		{"only the last hundred count", provider.AdaptiveConfig{}, 100, 500, 4, 5, s, 3 * s / 2},
		{"never below two", provider.AdaptiveConfig{}, 100, 0, 2, 2, s, s / 2},
		{"one attempt stays one", provider.AdaptiveConfig{}, 0, 100, 1, 1, s, s},
		{"limits", provider.AdaptiveConfig{MostAttempts: 4, MostInitial: 1200 * time.Millisecond}, 0, 100, 4, 4, s, 1200 * time.Millisecond},
		{"limits below what is set change nothing", provider.AdaptiveConfig{MostAttempts: 2, MostInitial: s / 2}, 0, 100, 4, 4, s, s},
		{"a window of ten", provider.AdaptiveConfig{Window: 10}, 100, 4, 4, 5, s, 3 * s / 2},
	} {
		a := must(provider.NewAdaptive(tt.cfg))
		for range tt.good {
			a.Record(true)
		}
		for range tt.bad {
			a.Record(false)
		}
		if n, d := a.Policy(tt.attempts, tt.wait); n != tt.want || d != tt.then {
			share, calls := a.Success()
			t.Errorf("%s: %d attempts from %v at %.2f of %d, want %d from %v", tt.name, n, d, share, calls, tt.want, tt.then)
		}
	}
}

// The retries of a stack follow how its calls go; what is the caller's own doing
// does not count.
func TestAdaptiveInStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(provider.NewStack(provider.StackConfig{Adaptive: &provider.AdaptiveConfig{Window: 10, Least: 5}, Breaker: provider.BreakerConfig{Off: true}}))
		attempts := func(c messages.Class) int {
			m, calls := play(broken(c))
			_ = call(t, s.Wrap(m))
			return calls()
		}
		for range 20 {
			_ = attempts(messages.Invalid)
		}
		if _, n := s.Adaptive.Success(); n != 0 {
			t.Errorf("%d calls counted", n)
		}
		good, _ := play(fine)
		for range 10 {
			_ = call(t, s.Wrap(good))
		}
		if n := attempts(messages.Transient); n != 3 {
			t.Errorf("%d attempts in good times", n)
		}
		for range 9 {
			_ = attempts(messages.Transient)
		}
		if n := attempts(messages.Transient); n != 5 {
			t.Errorf("%d attempts in bad times", n)
		}
	})
}

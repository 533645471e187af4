package route_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/messages"
)

// D5: the lowest estimated latency gets the call.
func TestLoadPrefersTheFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events sink
		slow, fast := &model{name: "slow", takes: 4 * time.Second}, &model{name: "fast", takes: 500 * time.Millisecond}
		r := must(route.NewLoad(route.LoadConfig{Choices: choices(slow, fast), Observe: events.observe}))
		got := map[string]int{}
		for range 20 {
			got[chosen(t, r, ask("x"))]++
		}
		if got["slow"] != 1 || got["fast"] != 19 {
			t.Errorf("chosen %v", got)
		}
		es := events.events()
		if es[0].Text != "slow: expected in 1s" || !strings.HasPrefix(es[19].Text, "fast: expected in ") || es[0].Name != "load" {
			t.Errorf("events %+v", es)
		}
		// What was fast becomes slow, and is noticed.
		slow.takes, fast.takes = 100*time.Millisecond, 10*time.Second
		clear(got)
		for range 20 {
			got[chosen(t, r, ask("x"))]++
		}
		if got["fast"] > 2 {
			t.Errorf("chosen %v", got)
		}
	})
}

// Callers at the same time are spread by what each model is at.
func TestLoadSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &model{name: "a", takes: time.Second}, &model{name: "b", takes: 3 * time.Second}
		r := must(route.NewLoad(route.LoadConfig{Choices: choices(a, b)}))
		for range 40 { // learn
			_ = chosen(t, r, ask("x"))
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { _ = chosen(t, r, ask("x")) })
			}
			wg.Wait()
		}
		var mu sync.Mutex
		got := map[string]int{}
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				name := chosen(t, r, ask("x"))
				mu.Lock()
				defer mu.Unlock()
				got[name]++
			})
		}
		synctest.Wait()
		if e := r.Estimates(); e[0].InFlight+e[1].InFlight != 40 || e[0].Expected < e[0].Mean {
			t.Errorf("estimates %+v", e)
		}
		wg.Wait()
		if got["a"] < 20 || got["b"] < 8 {
			t.Errorf("chosen %v", got)
		}
		if e := r.Estimates(); e[0].InFlight+e[1].InFlight != 0 {
			t.Errorf("estimates %+v", e)
		}
	})
}

// A model that fails is left alone, and tried again when that has faded.
func TestLoadFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, good := &model{name: "bad", err: failing(messages.Unavailable)}, &model{name: "good", takes: 2 * time.Second}
		r := must(route.NewLoad(route.LoadConfig{Choices: choices(bad, good)}))
		failed := 0
		for range 10 {
			if _, err := provider.Call(t.Context(), r, ask("x")); err != nil {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("%d calls failed", failed)
		}
		bad.err = nil
		start := time.Now()
		for chosen(t, r, ask("x")) != "bad" {
			if time.Since(start) > 5*time.Minute {
				t.Fatal("the one that has recovered is not tried again")
			}
		}
		if time.Since(start) < 30*time.Second {
			t.Errorf("tried again after %v", time.Since(start))
		}
	})
}

// The caller's own doing says nothing about a model.
func TestLoadIgnoresTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &model{name: "a", takes: 20 * time.Second}, &model{name: "b"}
		r := must(route.NewLoad(route.LoadConfig{Choices: choices(a, b)}))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Second, cancel)
		if _, err := provider.Call(ctx, r, ask("x")); messages.ClassOf(err) != messages.Canceled {
			t.Errorf("error %v", err)
		}
		a.takes = 0
		for range r.Stream(t.Context(), ask("x")) {
			break
		}
		a.err = failing(messages.Invalid)
		_, _ = provider.Call(t.Context(), r, ask("x"))
		if e := r.Estimates()[0]; e.Mean != time.Second || e.InFlight != 0 {
			t.Errorf("estimate %+v", e)
		}
	})
}

func TestLoadChecks(t *testing.T) {
	two := choices(&model{name: "a"}, &model{name: "b"})
	for _, tt := range []struct {
		cfg  route.LoadConfig
		want string
	}{
		{route.LoadConfig{}, "choices: 0"},
		{route.LoadConfig{Choices: two[:1]}, "choices: 1"},
		{route.LoadConfig{Choices: choices(&model{name: "a"}, &model{name: "a"})}, `choices[1].name: "a"`},
		{route.LoadConfig{Choices: []route.Choice{two[0], {Name: "x"}}}, "choices[1].model: nil"},
		{route.LoadConfig{Choices: two, Weight: 1.5}, "weight: 1.5"},
		{route.LoadConfig{Choices: two, Prior: -1}, "prior: -1ns"},
		{route.LoadConfig{Choices: two, Penalty: -1}, "penalty: -1ns"},
		{route.LoadConfig{Choices: two, HalfLife: -1}, "half_life: -1ns"},
	} {
		_, err := route.NewLoad(tt.cfg)
		refused(t, err, tt.want)
	}
}

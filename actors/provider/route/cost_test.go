package route_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/messages"
)

// used is a million tokens each way, so that prices read as dollars.
var used = messages.Usage{InputTokens: 1e6, OutputTokens: 1e6}

func TestPrice(t *testing.T) {
	p := provider.Price{Input: 3, Output: 15}
	if got := p.Cost(used); got != 18 {
		t.Errorf("$%v", got)
	}
	cached := used
	cached.CachedTokens = 5e5
	if got := p.Cost(cached); got != 18 {
		t.Errorf("$%v", got)
	}
	p.Cached = new(0.3)
	if got := p.Cost(cached); math.Abs(got-16.65) > 1e-9 {
		t.Errorf("$%v", got)
	}
}

// D5: the best model within the budget.
func TestCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		best, fair := &model{name: "best", usage: used}, &model{name: "fair", usage: messages.Usage{InputTokens: 1e6}}
		r := must(route.NewCost(route.CostConfig{
			Choices: choices(best, fair),
			Prices:  map[string]provider.Price{"best": {Input: 5, Output: 25}, "fair": {Input: 1, Output: 4}},
			Budget:  62, Every: time.Hour,
		}))
		req := ask("x")
		req.Options.MaxTokens = 1e6 // $25 of the best, $4 of the fair one
		for i, want := range []string{"best", "best", ""} {
			r2, err := provider.Call(t.Context(), r, req)
			if want == "" {
				// $60 spent; $2 left: neither fits, and the error says when again.
				var e *messages.Error
				if !errors.As(err, &e) || e.Class != messages.Budget || !strings.Contains(e.Message, "fair, is estimated at $4.0000") || !strings.Contains(e.Message, "$2.000000 may be spent") || e.Until.IsZero() {
					t.Errorf("error %v", err)
				}
				continue
			}
			if err != nil || r2.Origin.Name != want || r.Spent() != float64(30*(i+1)) {
				t.Errorf("reply %+v, error %v, spent %v", r2, err, r.Spent())
			}
		}
		req.Options.MaxTokens = 1e5 // $2.5 and $0.4
		if got := chosen(t, r, req); got != "fair" || r.Spent() != 61 {
			t.Errorf("chosen %s, spent %v", got, r.Spent())
		}
		time.Sleep(time.Hour)
		if got := chosen(t, r, req); got != "best" || r.Spent() != 30 {
			t.Errorf("chosen %s, spent %v", got, r.Spent())
		}
	})
}

// What runs is held back from the budget, and given back when it failed.
func TestCostHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{name: "m", takes: time.Second}
		r := must(route.NewCost(route.CostConfig{
			Choices: choices(m), Prices: map[string]provider.Price{"m": {Output: 10}}, Budget: 25, Spent: 4,
		}))
		req := ask("x")
		req.Options.MaxTokens = 1e6
		errs := make(chan error)
		for range 5 {
			go func() { _, err := provider.Call(t.Context(), r, req); errs <- err }()
		}
		refused := 0
		for range 5 {
			if err := <-errs; errors.Is(err, messages.Budget) {
				refused++
			}
		}
		if refused != 3 || r.Spent() != 4 { // the calls reported no usage
			t.Errorf("%d refused, spent %v", refused, r.Spent())
		}
		m.err = failing(messages.Transient)
		_, _ = provider.Call(t.Context(), r, req)
		m.err = nil
		if _, err := provider.Call(t.Context(), r, req); err != nil {
			t.Error(err)
		}
	})
}

func TestCostPerCall(t *testing.T) {
	r := must(route.NewCost(route.CostConfig{
		Choices: choices(&model{name: "best"}, &model{name: "free"}),
		Prices:  map[string]provider.Price{"best": {Input: 5, Output: 25}, "free": {}},
		PerCall: 0.02,
	}))
	req := ask("x")
	for max, want := range map[int]string{500: "best", 0: "free", 2000: "free"} { // 0: taken for 1,000
		req.Options.MaxTokens = max
		if got := chosen(t, r, req); got != want {
			t.Errorf("%d tokens: %s, want %s", max, got, want)
		}
	}
	if e := r.Estimate("best", ask(strings.Repeat("word ", 800))); math.Abs(e-(1004*5+1000*25)/1e6) > 1e-9 {
		t.Errorf("estimate $%v", e)
	}
}

// A price that is missing is refused at the start.
func TestCostChecks(t *testing.T) {
	one := choices(&model{name: "a/b"})
	prices := map[string]provider.Price{"a/b": {Input: 1}}
	for _, tt := range []struct {
		cfg  route.CostConfig
		want string
	}{
		{route.CostConfig{Choices: one, Budget: 1}, "prices.a/b: none"},
		{route.CostConfig{Choices: one, Budget: 1, Prices: map[string]provider.Price{"a/b": {Input: -1}}}, "prices.a/b.input: -1"},
		{route.CostConfig{Choices: one, Budget: 1, Prices: map[string]provider.Price{"a/b": {Output: math.NaN()}}}, "prices.a/b.output: NaN"},
		{route.CostConfig{Choices: one, Budget: 1, Prices: map[string]provider.Price{"a/b": {Cached: new(-2.0)}}}, "prices.a/b.cached: -2"},
		{route.CostConfig{Choices: one, Prices: prices}, "budget: 0"},
		{route.CostConfig{Choices: one, Prices: prices, Budget: -1}, "budget: -1"},
		{route.CostConfig{Choices: one, Prices: prices, PerCall: math.Inf(1)}, "per_call: +Inf"},
		{route.CostConfig{Choices: one, Prices: prices, Budget: 1, Spent: -1}, "spent: -1"},
		{route.CostConfig{Choices: one, Prices: prices, Budget: 1, Every: -1}, "every: -1ns"},
		{route.CostConfig{Choices: one, Prices: prices, Budget: 1, OutputTokens: -1}, "output_tokens: -1"},
		{route.CostConfig{Prices: prices, Budget: 1}, "choices: 0"},
	} {
		_, err := route.NewCost(tt.cfg)
		refused(t, err, tt.want)
	}
}

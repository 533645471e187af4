package route_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/messages"
)

// D5: by length, output format, steps and tools; thresholds 0.3 and 0.7.
func TestComplexity(t *testing.T) {
	var events sink
	r := must(route.NewComplexity(route.ComplexityConfig{
		Simple:  choices(&model{name: "small"})[0],
		Medium:  choices(&model{name: "middle"})[0],
		Complex: choices(&model{name: "large"})[0],
		Observe: events.observe,
	}))
	tools := func(n int) []messages.ToolSpec { return make([]messages.ToolSpec, n) }
	schema := json.RawMessage(`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"object","properties":{"c":{"type":"array","items":{"type":"number"}}}},"d":{"type":"string"},"e":{"type":"string"}}}`)
	long := strings.Repeat("All of this is background. ", 200) // about 1,350 tokens
	for _, tt := range []struct {
		text   string
		format json.RawMessage
		tools  int
		want   string
	}{
		{"What is the capital of France?", nil, 0, "small"},
		{"Hello!", nil, 0, "small"},
		{"Translate 'good morning' into Italian.", nil, 1, "small"},
		{"Name a colour.", json.RawMessage(`{"type":"string"}`), 0, "small"},
		{long + "\nSummarise this.", nil, 0, "middle"},
		{"Explain why the sky is blue.", nil, 0, "middle"},
		{"Look up the weather in Paris and Rome.", nil, 4, "middle"},
		{"Who was Ada Lovelace?", schema, 1, "middle"},
		{"Compare the two designs, analyse their trade-offs step by step, then explain which is better and why.", nil, 0, "large"},
		{"1. Read the file.\n2. Find the bug.\n3. Fix it.\n4. Prove the fix.", nil, 0, "large"},
		{long + "\nCompare both and explain the strategy.", schema, 2, "large"},
	} {
		req := ask(tt.text)
		req.Format, req.Tools = tt.format, tools(tt.tools)
		if got := chosen(t, r, req); got != tt.want {
			t.Errorf("%.60q went to %s at %.2f %+v, want %s", tt.text, got, route.Score(req), route.Look(req), tt.want)
		}
	}
	e := events.events()[0]
	if e.Kind != messages.RouteChosen || e.Name != "complexity" || !strings.HasPrefix(e.Text, "small: simple, complexity 0.0") || e.Session != "s" || e.Time.IsZero() {
		t.Errorf("event %+v", e)
	}
}

// The thresholds themselves are medium; a score that is no number is complex.
func TestComplexityThresholds(t *testing.T) {
	for _, tt := range []struct {
		score     float64
		low, high float64
		medium    bool
		want      string
	}{
		{0.29, 0, 0, true, "small"}, {0.3, 0, 0, true, "middle"}, {0.7, 0, 0, true, "middle"}, {0.71, 0, 0, true, "large"},
		{0.3, 0, 0, false, "large"}, {0.1, 0.05, 0.2, true, "middle"}, {0.9, 0.95, 0, true, "small"}, {0.15, 0, 0.1, true, "large"}, {math.NaN(), 0, 0, true, "large"},
	} {
		cfg := route.ComplexityConfig{
			Simple: choices(&model{name: "small"})[0], Complex: choices(&model{name: "large"})[0], Low: tt.low, High: tt.high,
			Score: func(*provider.Request) float64 { return tt.score },
		}
		if tt.medium {
			cfg.Medium = choices(&model{name: "middle"})[0]
		}
		if got := chosen(t, must(route.NewComplexity(cfg)), ask("x")); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

func TestComplexityChecks(t *testing.T) {
	small, large := choices(&model{name: "small"})[0], choices(&model{name: "large"})[0]
	for _, tt := range []struct {
		cfg  route.ComplexityConfig
		want string
	}{
		{route.ComplexityConfig{}, "simple.name"},
		{route.ComplexityConfig{Simple: small}, "medium.name"},
		{route.ComplexityConfig{Simple: small, Complex: large, Medium: route.Choice{Name: "x"}}, "medium.model"},
		{route.ComplexityConfig{Simple: small, Complex: large, Low: -1}, "low: -1"},
		{route.ComplexityConfig{Simple: small, Complex: large, High: 2}, "high: 2"},
		{route.ComplexityConfig{Simple: small, Complex: large, Low: 0.8, High: 0.7}, "low: 0.8"},
		{route.ComplexityConfig{Simple: small, Complex: large, Low: math.NaN()}, "low: NaN"},
	} {
		_, err := route.NewComplexity(tt.cfg)
		refused(t, err, tt.want)
	}
}

// A failure passes as it is; what the chosen model says of itself stays; the
// caller may leave; a stream without an end is a failure.
func TestRouterPassesOn(t *testing.T) {
	router := func(m provider.Model) provider.Model {
		return must(route.NewComplexity(route.ComplexityConfig{Simple: route.Choice{Name: "a", Model: m}, Complex: route.Choice{Name: "b", Model: m}}))
	}
	failure := failing(messages.Quota)
	if _, err := provider.Call(t.Context(), router(&model{err: failure}), ask("x")); !errors.Is(err, failure) {
		t.Errorf("error %v", err)
	}
	if _, err := provider.Call(t.Context(), router(&model{bare: true}), ask("x")); !errors.Is(err, messages.Transient) || !strings.Contains(err.Error(), "a: the stream ended") {
		t.Errorf("error %v", err)
	}
	l := must(provider.NewLadder(provider.LadderConfig{Rungs: []provider.Rung{provider.RungOf("p", &model{err: failure}), provider.RungOf("q", &model{name: "q"})}}))
	r, err := provider.Call(t.Context(), router(l), ask("x"))
	if err != nil || r.Origin.Name != "q" || !r.Origin.Fallback {
		t.Errorf("reply %+v, error %v", r, err)
	}
	for range router(&model{name: "a"}).Stream(t.Context(), ask("x")) {
		break
	}
}

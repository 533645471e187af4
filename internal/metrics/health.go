package metrics

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/covey-run/covey/messages"
)

const (
	// window is over how many calls a model's health is judged.
	window = 100
	// healthyAbove is the share of successes above which a model is healthy.
	healthyAbove = 0.8
	// mostErrors is how many classes a verdict lists.
	mostErrors = 5
)

// Verdict is how a model has done over its last 100 calls. Calls that their
// callers called off, or got wrong, are left out.
type Verdict struct {
	Model string `json:"model"`
	// Health is "healthy" above 80 % successes, else "degraded".
	Health string `json:"health"`
	Calls  int    `json:"calls"`
	// Success is the share of calls that succeeded, from 0 to 1.
	Success float64 `json:"success_rate"`
	// Attempts is how many attempts a success took, on average; 0 without one.
	Attempts float64 `json:"attempts_per_success"`
	// Errors are the most common classes of failure, the most common first.
	Errors []ErrorCount `json:"most_common_errors"`
}

// ErrorCount is how often calls failed with a class.
type ErrorCount struct {
	Class messages.Class `json:"class"`
	Count int            `json:"count"`
}

// health remembers how the last calls to each model ended.
type health struct {
	mu     sync.Mutex
	models map[string]*memory
}

// memory is a ring of the last calls.
type memory struct {
	ends [window]end
	n    int // all calls so far
}

type end struct {
	class    messages.Class // "" for a success
	attempts int
}

func newHealth() *health { return &health{models: map[string]*memory{}} }

func (h *health) add(model string, class messages.Class, attempts int) {
	if class == messages.Canceled || class == messages.Invalid || class == messages.Stopping {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.models[model]
	if m == nil {
		m = &memory{}
		h.models[model] = m
	}
	m.ends[m.n%window] = end{class, attempts}
	m.n++
}

func (h *health) verdicts() []Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := []Verdict{}
	for _, model := range slices.Sorted(maps.Keys(h.models)) {
		all = append(all, h.models[model].verdict(model))
	}
	return all
}

func (m *memory) verdict(model string) Verdict {
	v := Verdict{Model: model, Calls: min(m.n, window), Errors: []ErrorCount{}}
	good, attempts := 0, 0
	failed := map[messages.Class]int{}
	for _, e := range m.ends[:v.Calls] {
		if e.class != "" {
			failed[e.class]++
			continue
		}
		good++
		attempts += e.attempts
	}
	v.Success = float64(good) / float64(v.Calls)
	if good > 0 {
		v.Attempts = float64(attempts) / float64(good)
	}
	for c, n := range failed {
		v.Errors = append(v.Errors, ErrorCount{c, n})
	}
	slices.SortFunc(v.Errors, func(a, b ErrorCount) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.Class, b.Class)) })
	v.Errors = v.Errors[:min(len(v.Errors), mostErrors)]
	v.Health = "degraded"
	if v.Success > healthyAbove {
		v.Health = "healthy"
	}
	return v
}

// Health judges every model that was called, sorted by name.
func (m *Metrics) Health() []Verdict { return m.health.verdicts() }

// HealthHandler serves the verdicts as JSON.
func (m *Metrics) HealthHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"models": m.Health()})
	})
}

var (
	healthy = prometheus.NewDesc("covey_model_healthy", "1 if more than 80 % of the last 100 calls succeeded.", []string{"model"}, nil)
	success = prometheus.NewDesc("covey_model_success_ratio", "The share of the last 100 calls that succeeded.", []string{"model"}, nil)
)

func (h *health) Describe(ch chan<- *prometheus.Desc) { ch <- healthy; ch <- success }

func (h *health) Collect(ch chan<- prometheus.Metric) {
	for _, v := range h.verdicts() {
		is := 0.
		if v.Health == "healthy" {
			is = 1
		}
		ch <- prometheus.MustNewConstMetric(healthy, prometheus.GaugeValue, is, v.Model)
		ch <- prometheus.MustNewConstMetric(success, prometheus.GaugeValue, v.Success, v.Model)
	}
}

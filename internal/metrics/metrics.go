// Package metrics turns the stream of events into Prometheus metrics, and into a
// verdict on each model's health. It is one subscriber among others: nothing
// that is measured knows of it.
//
// Labels are bounded: at most [maxModels] models and [maxCalls] types of call
// have series of their own, and the rest share "other". Sessions are in
// exemplars, never in labels.
package metrics

import (
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/covey-run/covey/messages"
)

const (
	maxModels = 100
	maxCalls  = 50
	other     = "other"
)

// Gauges are what a model's actor holds at this moment.
type Gauges struct {
	Model            string
	Running, Waiting int
	// Breaker is "closed", "open" or "half_open".
	Breaker string
}

// Metrics counts. It is made with New.
type Metrics struct {
	reg    *prometheus.Registry
	health *health

	mu     sync.Mutex // guards the sets of label values
	models map[string]bool
	calls  map[string]bool

	callsEnded, attempts, retries, refused *prometheus.CounterVec
	openings, hits, joined                 *prometheus.CounterVec
	rungs, fallbacks, repairs, routes      *prometheus.CounterVec
	tokens                                 *prometheus.CounterVec
	parked, dropped                        prometheus.Counter
	callSeconds, attemptSeconds            *prometheus.HistogramVec
	waitSeconds                            *prometheus.HistogramVec
}

// New returns metrics of a node. gauges is asked at each scrape; nil: there are
// no gauges.
func New(node string, gauges func() []Gauges) *Metrics {
	m := &Metrics{reg: prometheus.NewRegistry(), health: newHealth(), models: map[string]bool{}, calls: map[string]bool{}}
	with := prometheus.WrapRegistererWith(prometheus.Labels{"node": node}, m.reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "covey", Name: name, Help: help}, labels)
		with.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "covey", Name: name, Help: help, Buckets: buckets}, labels)
		with.MustRegister(h)
		return h
	}
	m.callsEnded = counter("model_calls_total", "Calls that ended, by how: first_try, after_retry or failed, and then of which class.", "model", "call", "outcome", "class")
	m.attempts = counter("model_attempts_total", "Attempts at the client, by the class of their failure; ok without one.", "model", "call", "class")
	m.retries = counter("model_retries_total", "Attempts that another one followed, by the class of their failure.", "model", "call", "class")
	m.refused = counter("model_refused_total", "Calls refused before any attempt, by the queue or the limiter.", "model", "by")
	m.openings = counter("breaker_openings_total", "How often the breaker opened.", "model")
	m.hits = counter("cache_hits_total", "Replies given from the cache.", "model")
	m.joined = counter("flights_joined_total", "Calls that shared one that was under way.", "model")
	m.rungs = counter("ladder_rungs_failed_total", "Rungs that failed, by their place from 0 and the class.", "ladder", "rung", "class")
	m.fallbacks = counter("ladder_fallbacks_total", "Answers of a rung below the first.", "ladder", "rung")
	m.repairs = counter("output_repairs_total", "Outputs that were refused and asked for again, by what followed.", "model", "by")
	m.routes = counter("routes_chosen_total", "Choices of routers.", "router")
	m.tokens = counter("model_tokens_total", "Tokens, by type: input, output, and cached, which is part of input.", "model", "type")
	seconds := []float64{.005, .02, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320}
	m.callSeconds = histogram("model_call_seconds", "How long calls took, waits and retries included.", seconds, "model", "call")
	m.attemptSeconds = histogram("model_attempt_seconds", "How long attempts at the client took.", seconds, "model")
	m.waitSeconds = histogram("model_wait_seconds", "How long calls waited for the queue, the limiter or the next attempt.", seconds, "model", "for")
	parked := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "covey", Name: "calls_parked_total", Help: "Calls that were left to a person."})
	dropped := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "covey", Name: "events_dropped_total", Help: "Events that were not counted here, for there were too many at once."})
	m.parked, m.dropped = parked, dropped
	with.MustRegister(parked, dropped, m.health, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if gauges != nil {
		with.MustRegister(&scraped{m, gauges})
	}
	return m
}

// Handler serves the metrics, in the Prometheus and the OpenMetrics format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// Observe counts an event. It is called by one goroutine.
func (m *Metrics) Observe(ev messages.Event) {
	model, call, class := m.model(ev.Name), m.call(ev.Call), string(ev.Class)
	wait := func(what string) { m.waitSeconds.WithLabelValues(model, what).Observe(ev.Wait.Seconds()) }
	switch ev.Kind {
	case messages.ProviderCall:
		outcome := "first_try"
		switch {
		case ev.Error != nil || ev.Class != "":
			outcome = "failed"
		case ev.Attempt > 1:
			outcome = "after_retry"
		}
		m.callsEnded.WithLabelValues(model, call, outcome, class).Inc()
		observe(m.callSeconds.WithLabelValues(model, call), ev.Wait.Seconds(), ev.Session)
		m.health.add(model, ev.Class, max(ev.Attempt, 1))
		if u := ev.Usage; u != nil {
			m.tokens.WithLabelValues(model, "input").Add(float64(u.InputTokens))
			m.tokens.WithLabelValues(model, "output").Add(float64(u.OutputTokens))
			m.tokens.WithLabelValues(model, "cached").Add(float64(u.CachedTokens))
		}
	case messages.ProviderAttempt:
		if class == "" {
			class = "ok"
		}
		m.attempts.WithLabelValues(model, call, class).Inc()
		observe(m.attemptSeconds.WithLabelValues(model), ev.Wait.Seconds(), ev.Session)
	case messages.ProviderRetry:
		m.retries.WithLabelValues(model, call, class).Inc()
		wait("retry")
	case messages.QueueWaited:
		wait("queue")
	case messages.LimiterWait:
		wait("limiter")
	case messages.QueueRefused:
		m.refused.WithLabelValues(model, "queue").Inc()
	case messages.LimiterRefused:
		m.refused.WithLabelValues(model, "limiter").Inc()
	case messages.BreakerOpened:
		m.openings.WithLabelValues(model).Inc()
	case messages.CacheHit:
		m.hits.WithLabelValues(model).Inc()
	case messages.FlightJoined:
		m.joined.WithLabelValues(model).Inc()
	case messages.LadderRung:
		m.rungs.WithLabelValues(model, rung(ev.Count), class).Inc()
	case messages.LadderFallback:
		m.fallbacks.WithLabelValues(model, rung(ev.Count)).Inc()
	case messages.OutputRepaired:
		m.repairs.WithLabelValues(model, ev.Text).Inc()
	case messages.RouteChosen:
		m.routes.WithLabelValues(model).Inc()
	case messages.CallParked:
		m.parked.Inc()
	case messages.EventsDropped:
		m.dropped.Add(float64(ev.Count))
	}
}

// Wanted picks the events that are counted: what a subscription filters by.
func Wanted(ev messages.Event) bool {
	switch ev.Kind {
	case messages.ProviderCall, messages.ProviderAttempt, messages.ProviderRetry, messages.QueueWaited, messages.LimiterWait,
		messages.QueueRefused, messages.LimiterRefused, messages.BreakerOpened, messages.CacheHit, messages.FlightJoined,
		messages.LadderRung, messages.LadderFallback, messages.OutputRepaired, messages.RouteChosen, messages.CallParked:
		return true
	}
	return false
}

// observe takes a duration down with the session as its exemplar.
func observe(h prometheus.Observer, seconds float64, session string) {
	if e, ok := h.(prometheus.ExemplarObserver); ok && session != "" && len(session) <= 64 {
		e.ObserveWithExemplar(seconds, prometheus.Labels{"session": session})
		return
	}
	h.Observe(seconds)
}

func (m *Metrics) model(name string) string { return m.bounded(m.models, name, maxModels) }

func (m *Metrics) call(kind string) string { return m.bounded(m.calls, kind, maxCalls) }

func (m *Metrics) bounded(seen map[string]bool, value string, most int) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !seen[value] {
		if len(seen) >= most {
			return other
		}
		seen[value] = true
	}
	return value
}

func rung(n int) string {
	if n < 0 || n > 9 {
		return other
	}
	return string(rune('0' + n))
}

// scraped reads the gauges.
type scraped struct {
	m    *Metrics
	read func() []Gauges
}

var (
	running = prometheus.NewDesc("covey_model_running", "Calls that run.", []string{"model"}, nil)
	waiting = prometheus.NewDesc("covey_queue_waiting", "Calls that wait in the queue.", []string{"model"}, nil)
	breaker = prometheus.NewDesc("covey_breaker_state", "1 for the state that the breaker is in.", []string{"model", "state"}, nil)
)

func (s *scraped) Describe(ch chan<- *prometheus.Desc) { ch <- running; ch <- waiting; ch <- breaker }

func (s *scraped) Collect(ch chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, g := range s.read() {
		model := s.m.model(g.Model)
		if seen[model] { // one series for all of "other"
			continue
		}
		seen[model] = true
		ch <- prometheus.MustNewConstMetric(running, prometheus.GaugeValue, float64(g.Running), model)
		ch <- prometheus.MustNewConstMetric(waiting, prometheus.GaugeValue, float64(g.Waiting), model)
		for _, state := range []string{"closed", "open", "half_open"} {
			is := 0.
			if state == g.Breaker {
				is = 1
			}
			ch <- prometheus.MustNewConstMetric(breaker, prometheus.GaugeValue, is, model, state)
		}
	}
}

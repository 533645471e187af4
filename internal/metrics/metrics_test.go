package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/covey-run/covey/messages"
)

func start(t *testing.T, m *Metrics, token string) string {
	t.Helper()
	s, err := m.Serve("127.0.0.1:0", token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr()
}

func get(t *testing.T, url, accept, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, url string) map[string]*dto.MetricFamily {
	t.Helper()
	_, text := get(t, url+"/metrics", "text/plain", "")
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return families
}

// sample is the value of a series with these labels, name=value.
func sample(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	f := families[name]
	if f == nil {
		t.Fatalf("there is no %s", name)
	}
next:
	for _, m := range f.Metric {
		for _, want := range labels {
			found := false
			for _, l := range m.Label {
				found = found || l.GetName()+"="+l.GetValue() == want
			}
			if !found {
				continue next
			}
		}
		switch {
		case m.Counter != nil:
			return m.Counter.GetValue()
		case m.Gauge != nil:
			return m.Gauge.GetValue()
		case m.Histogram != nil:
			return float64(m.Histogram.GetSampleCount())
		}
	}
	t.Fatalf("%s has no series with %v: %v", name, labels, f)
	return 0
}

func TestScrape(t *testing.T) {
	m := New("n1", func() []Gauges {
		return []Gauges{{Model: "ollama/a", Running: 2, Waiting: 3, Breaker: "open"}}
	})
	url := start(t, m, "")
	call := func(attempts int, class messages.Class) messages.Event {
		ev := messages.Event{Kind: messages.ProviderCall, Name: "ollama/a", Call: "chat", Session: "run1", Attempt: attempts, Wait: 3 * time.Second, Class: class}
		if class == "" {
			ev.Usage = &messages.Usage{InputTokens: 10, OutputTokens: 5, CachedTokens: 4}
		} else {
			ev.Error = &messages.Error{Class: class}
		}
		return ev
	}
	for _, ev := range []messages.Event{
		call(1, ""), call(1, ""), call(3, ""), call(4, messages.Throttled),
		{Kind: messages.ProviderAttempt, Name: "ollama/a", Call: "chat", Wait: time.Second},
		{Kind: messages.ProviderAttempt, Name: "ollama/a", Call: "chat", Wait: time.Second, Class: messages.Transient},
		{Kind: messages.ProviderRetry, Name: "ollama/a", Call: "chat", Wait: 2 * time.Second, Class: messages.Transient},
		{Kind: messages.QueueWaited, Name: "ollama/a", Wait: time.Second},
		{Kind: messages.QueueRefused, Name: "ollama/a"},
		{Kind: messages.LimiterWait, Name: "ollama/a", Wait: time.Second},
		{Kind: messages.BreakerOpened, Name: "ollama/a"},
		{Kind: messages.CacheHit, Name: "ollama/a"},
		{Kind: messages.LadderRung, Name: "ollama/a", Count: 0, Class: messages.Throttled},
		{Kind: messages.LadderFallback, Name: "ollama/a", Count: 1},
		{Kind: messages.EventsDropped, Count: 7},
	} {
		m.Observe(ev)
	}
	f := scrape(t, url)
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"covey_model_calls_total", []string{"node=n1", "model=ollama/a", "call=chat", "outcome=first_try"}, 2},
		{"covey_model_calls_total", []string{"outcome=after_retry"}, 1},
		{"covey_model_calls_total", []string{"outcome=failed", "class=throttled"}, 1},
		{"covey_model_call_seconds", []string{"model=ollama/a", "call=chat"}, 4},
		{"covey_model_attempts_total", []string{"class=ok"}, 1},
		{"covey_model_attempts_total", []string{"class=transient"}, 1},
		{"covey_model_retries_total", []string{"class=transient"}, 1},
		{"covey_model_wait_seconds", []string{"for=retry"}, 1},
		{"covey_model_wait_seconds", []string{"for=queue"}, 1},
		{"covey_model_wait_seconds", []string{"for=limiter"}, 1},
		{"covey_model_refused_total", []string{"by=queue"}, 1},
		{"covey_breaker_openings_total", []string{"model=ollama/a"}, 1},
		{"covey_breaker_state", []string{"state=open"}, 1},
		{"covey_breaker_state", []string{"state=closed"}, 0},
		{"covey_queue_waiting", nil, 3},
		{"covey_model_running", nil, 2},
		{"covey_cache_hits_total", nil, 1},
		{"covey_ladder_rungs_failed_total", []string{"rung=0", "class=throttled"}, 1},
		{"covey_ladder_fallbacks_total", []string{"rung=1"}, 1},
		{"covey_model_tokens_total", []string{"type=input"}, 30},
		{"covey_model_tokens_total", []string{"type=cached"}, 12},
		{"covey_model_success_ratio", []string{"model=ollama/a"}, 0.75},
		{"covey_model_healthy", []string{"model=ollama/a"}, 0},
		{"covey_events_dropped_total", nil, 7},
	} {
		if got := sample(t, f, c.name, c.labels...); got != c.want {
			t.Errorf("%s%v is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	_, text := get(t, url+"/metrics", "application/openmetrics-text; version=1.0.0", "")
	if !strings.Contains(text, `# {session="run1"}`) {
		t.Error("no exemplar names the session")
	}
	if strings.Contains(strings.ReplaceAll(text, `# {session="run1"}`, ""), "run1") {
		t.Error("the session is in a label")
	}
}

func TestHealth(t *testing.T) {
	m := New("n1", nil)
	url := start(t, m, "")
	end := func(model string, n, attempts int, class messages.Class) {
		for range n {
			m.Observe(messages.Event{Kind: messages.ProviderCall, Name: model, Attempt: attempts, Class: class})
		}
	}
	end("old", 100, 1, messages.Transient)
	end("old", 100, 1, "") // only the last 100 count
	end("good", 81, 1, "")
	end("good", 19, 1, messages.Transient)
	end("good", 50, 1, messages.Canceled) // the caller's
	end("bad", 40, 2, "")
	end("bad", 40, 1, "")
	end("bad", 15, 1, messages.Throttled)
	end("bad", 5, 1, messages.Timeout)
	var got struct{ Models []Verdict }
	_, text := get(t, url+"/health", "", "")
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"{bad degraded 100 0.8 1.5 [{throttled 15} {timeout 5}]}",
		"{good healthy 100 0.81 1 [{transient 19}]}",
		"{old healthy 100 1 1 []}",
	}
	for i, v := range got.Models {
		if fmt.Sprint(v) != want[i] {
			t.Errorf("%v, want %v", v, want[i])
		}
	}
}

func TestLabelsAreBounded(t *testing.T) {
	m := New("n1", nil)
	url := start(t, m, "")
	for i := range 1000 {
		m.Observe(messages.Event{Kind: messages.ProviderCall, Name: fmt.Sprint("m", i), Call: fmt.Sprint("k", i)})
	}
	f := scrape(t, url)
	if n := len(f["covey_model_calls_total"].Metric); n > maxModels+1 {
		t.Errorf("%d series", n)
	}
	if got := sample(t, f, "covey_model_calls_total", "model=other", "call=other"); got != 1000-maxModels {
		t.Errorf("%v of other", got)
	}
}

func TestOnlyLoopbackWithoutAToken(t *testing.T) {
	const token = "0123456789abcdef"
	for _, c := range []struct {
		addr, token string
		ok          bool
	}{
		{"127.0.0.1:9464", "", true}, {"[::1]:9464", "", true}, {"localhost:9464", "", true},
		{"0.0.0.0:9464", "", false}, {":9464", "", false}, {"192.0.2.1:9464", "short", false}, {"9464", "", false},
		{"0.0.0.0:9464", token, true},
	} {
		err := CheckAddress(c.addr, c.token)
		if (err == nil) != c.ok || err != nil && messages.ClassOf(err) != messages.Invalid {
			t.Errorf("%q with %q: %v", c.addr, c.token, err)
		}
	}
	url := start(t, New("n1", nil), token)
	for given, want := range map[string]int{"": 401, "wrong": 401, token: 200} {
		if got, _ := get(t, url+"/health", "", given); got != want {
			t.Errorf("token %q: status %d, want %d", given, got, want)
		}
	}
}

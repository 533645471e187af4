package vendorhttp_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/internal/vendorhttp"
)

func get(t *testing.T, tr vendorhttp.Transport, h http.HandlerFunc) (*vendorhttp.Exchange, string, error) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	e := &vendorhttp.Exchange{}
	req, err := http.NewRequestWithContext(vendorhttp.Watch(t.Context(), e), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := tr.Client(nil).Do(req)
	if err != nil {
		return e, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return e, string(b), err
}

func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		header, value string
		least, most   time.Duration
	}{
		{"Retry-After", "7", 7 * time.Second, 7 * time.Second},
		{"Retry-After-Ms", "1500", 1500 * time.Millisecond, 1500 * time.Millisecond},
		{"Retry-After", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat), 50 * time.Second, time.Minute},
		{"Retry-After", "soon", 0, 0},
		{"Retry-After", "-3", 0, 0},
		{"Retry-After-Ms", "x", 0, 0},
		{"Retry-After", "1e9", 24 * time.Hour, 24 * time.Hour},
	} {
		e, body, err := get(t, vendorhttp.Transport{}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(tt.header, tt.value)
			http.Error(w, "slow down", http.StatusTooManyRequests)
		})
		if err != nil || e.Status != 429 || e.RetryAfter < tt.least || e.RetryAfter > tt.most || string(e.Error) != "slow down\n" || body != "slow down\n" {
			t.Errorf("%s: %s: %+v, body %q, error %v", tt.header, tt.value, e, body, err)
		}
	}
}

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		bad        string
	}{
		{"lines of the limit", strings.Repeat(strings.Repeat("x", 99)+"\n", 9), ""},
		{"a line beyond it", "a\n" + strings.Repeat("x", 101) + "\n", "line of more than 100"},
		{"a body beyond it", strings.Repeat("x\n", 501), "answer of more than 1000"},
	} {
		e, body, err := get(t, vendorhttp.Transport{MaxBody: 1000, MaxLine: 100}, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, tt.body) })
		if tt.bad == "" && (err != nil || body != tt.body) || tt.bad != "" && (err == nil || !strings.Contains(err.Error(), tt.bad) || e.Broke == nil) {
			t.Errorf("%s: %d bytes, error %v, want %q", tt.name, len(body), err, tt.bad)
		}
	}
}

// Connections are kept: an answer is read to its end.
func TestDrain(t *testing.T) {
	for name, rest := range map[string]string{"nothing": "", "a little": "rest", "too much": strings.Repeat("x", 1<<16)} {
		ended := make(chan struct{}, 1)
		vendorhttp.Drain(strings.NewReader(rest), func() { ended <- struct{}{} })
		select {
		case <-ended:
			t.Errorf("%s: the request was ended", name)
		default:
		}
	}
	r, w := io.Pipe()
	vendorhttp.Drain(r, func() { _ = w.Close() }) // a server that never ends
}

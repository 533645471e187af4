package provider_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// waitsOf returns the waits of a call, of which each attempt fails so.
func waitsOf(t *testing.T, cfg provider.RetryConfig, failure error) []time.Duration {
	t.Helper()
	m, _ := play(step{err: failure})
	_, waits, _ := calling(t, t.Context(), cfg, m, nil)
	return waits
}

// Each spread stays in its bounds, uses them, and gives no two callers the same
// wait; so does what the server asks for, and what the cap cuts.
func TestRetrySpreads(t *testing.T) {
	s := time.Second
	asked := &messages.Error{Class: messages.Transient, Message: "?", RetryAfter: 30 * s}
	long := &messages.Error{Class: messages.Transient, Message: "?", RetryAfter: time.Hour}
	for _, tt := range []struct {
		name        string
		cfg         provider.RetryConfig
		failure     error
		least, most time.Duration
	}{
		{"band", provider.RetryConfig{}, messages.Transient, s / 2, 3 * s / 2},
		{"a narrow band", provider.RetryConfig{Jitter: 0.1}, messages.Transient, 9 * s / 10, 11 * s / 10},
		{"full", provider.RetryConfig{Spread: provider.SpreadFull}, messages.Transient, 0, s},
		{"equal", provider.RetryConfig{Spread: provider.SpreadEqual}, messages.Transient, s / 2, s},
		{"add", provider.RetryConfig{Spread: provider.SpreadAdd}, messages.Transient, s, 2 * s},
		{"throttled: longer", provider.RetryConfig{}, messages.Throttled, s, 3 * s},
		{"longer as given", provider.RetryConfig{Longer: map[messages.Class]float64{messages.Transient: 10}}, messages.Transient, 5 * s, 15 * s},
		{"asked for", provider.RetryConfig{}, asked, 30 * s, 31 * s},
		{"asked for too long", provider.RetryConfig{}, long, 54 * s, 60 * s},
		{"cut", provider.RetryConfig{Initial: 60 * s, Spread: provider.SpreadAdd, MaxTotal: time.Hour}, messages.Transient, 54 * s, 60 * s},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Attempts = 2
			var all []time.Duration
			for range 60 {
				all = append(all, waitsOf(t, tt.cfg, tt.failure)...)
			}
			slices.Sort(all)
			if len(all) != 60 || all[0] < tt.least || all[59] > tt.most {
				t.Fatalf("%d waits from %v to %v, want %v to %v", len(all), all[0], all[len(all)-1], tt.least, tt.most)
			}
			if all[59]-all[0] < (tt.most-tt.least)/2 || len(slices.Compact(slices.Clone(all))) < 58 {
				t.Errorf("waits from %v to %v are not spread over %v to %v", all[0], all[59], tt.least, tt.most)
			}
			tt.cfg.Jitter = -1
			a, b := waitsOf(t, tt.cfg, tt.failure), waitsOf(t, tt.cfg, tt.failure)
			if fmt.Sprint(a) != fmt.Sprint(b) {
				t.Errorf("without jitter %v and %v", a, b)
			}
		})
	}
}

// C1: base 1 s, doubling, up to 1 s of jitter, at most 60 s.
func TestRetryAddDoubles(t *testing.T) {
	waits := waitsOf(t, provider.RetryConfig{Attempts: 9, Spread: provider.SpreadAdd, MaxTotal: time.Hour}, messages.Transient)
	for i, w := range waits {
		plan := min(time.Second<<i, time.Minute)
		if w < min(plan, 54*time.Second) || w > min(plan+time.Second, time.Minute) {
			t.Errorf("wait %d is %v", i+1, w)
		}
	}
	if len(waits) != 8 {
		t.Errorf("%d waits", len(waits))
	}
}

func TestRetryClasses(t *testing.T) {
	for _, tt := range []struct {
		classes []messages.Class
		failure messages.Class
		calls   int
	}{
		{nil, messages.Quota, 1}, {[]messages.Class{messages.Quota}, messages.Quota, 2}, {[]messages.Class{messages.Quota}, messages.Transient, 1},
		{[]messages.Class{}, messages.Transient, 1},
	} {
		m, calls := play(broken(tt.failure))
		_, _, err := calling(t, t.Context(), provider.RetryConfig{Attempts: 2, Classes: tt.classes}, m, nil)
		classIs(t, err, tt.failure)
		if calls() != tt.calls {
			t.Errorf("%v: %d calls after %s, want %d", tt.classes, calls(), tt.failure, tt.calls)
		}
	}
	// What a programming error is, no list makes retryable.
	for _, c := range messages.Classes() {
		err := provider.RetryConfig{Classes: []messages.Class{c}}.Check()
		switch c {
		case messages.Transient, messages.Throttled, messages.Timeout, messages.Unavailable, messages.Unauthorized, messages.Quota, messages.Malformed:
			if err != nil {
				t.Errorf("%s: %v", c, err)
			}
		default:
			classIs(t, err, messages.Invalid)
		}
	}
}

// Before is asked before each attempt but the first. When it refuses, the
// provider's failure is returned and the refusal is among the others.
func TestRetryBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := ""
		refuse := 3
		cfg := provider.RetryConfig{Name: "m", Before: func(_ context.Context, req *provider.Request, attempt int) error {
			asked += fmt.Sprint(req.Key, attempt, " ")
			if attempt == refuse {
				return messages.Errorf(messages.Throttled, "limits", "not before tomorrow")
			}
			return nil
		}}
		m, calls := play(broken(messages.Transient), broken(messages.Timeout), fine)
		_, err := provider.Call(t.Context(), must(provider.NewRetry(cfg)).Wrap(m), keyedRequest)
		e := classIs(t, err, messages.Timeout)
		if calls() != 2 || asked != "k2 k3 " || e.Attempts != 2 || len(e.Others) != 2 || e.Others[0].Class != messages.Transient || e.Others[1].Source != "limits" {
			t.Errorf("%d calls, asked %q, error %+v", calls(), asked, e)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cfg.Before = func(ctx context.Context, _ *provider.Request, _ int) error { cancel(); return ctx.Err() }
		bad, _ := play(broken(messages.Transient))
		_, err = provider.Call(ctx, must(provider.NewRetry(cfg)).Wrap(bad), request)
		classIs(t, err, messages.Canceled)
	})
}

// A stream that breaks for good says how much was delivered in vain.
func TestRetryBreaksForGood(t *testing.T) {
	cut := step{texts: []string{"one", "two"}, err: messages.Errorf(messages.Transient, "test", "the line was cut")}
	m, _ := play(cut)
	var seen []provider.Chunk
	for _, attempts := range []int{1, 2} {
		_, _, err := calling(t, t.Context(), provider.RetryConfig{Attempts: attempts}, m, func(c provider.Chunk) { seen = append(seen, c) })
		e := classIs(t, err, messages.Transient)
		if e.Message != "broke after 6 bytes of text, no attempt follows: the line was cut" || e.Attempts != attempts || e.Source != "test" {
			t.Errorf("error %+v", e)
		}
	}
	synctest.Test(t, func(t *testing.T) { // a reader may leave at the break
		n := 0
		for c := range must(provider.NewRetry(provider.RetryConfig{})).Wrap(m).Stream(t.Context(), request) {
			if n++; c.Broken != nil {
				break
			}
		}
		if n != 3 {
			t.Errorf("%d chunks", n)
		}
	})
}

func TestRetryAttemptEvents(t *testing.T) {
	var events sink
	m, _ := play(broken(messages.Throttled), fine)
	_, waits, err := calling(t, t.Context(), provider.RetryConfig{Name: "m", Observe: events.observe}, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	es := events.events()
	if kinds(es) != "provider.attempt provider.retry provider.attempt" {
		t.Fatalf("events %s", kinds(es))
	}
	if es[0].Attempt != 1 || es[0].Class != messages.Throttled || es[0].Error == nil || es[1].Wait != waits[0] || es[2].Attempt != 2 || es[2].Class != "" || es[2].Error != nil {
		t.Errorf("events %+v", es)
	}
}

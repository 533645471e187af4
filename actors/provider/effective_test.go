package provider

import (
	"reflect"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
)

// What a file says reaches the parts of the stack, and code's functions stay.
func TestStackOfSettings(t *testing.T) {
	estimate := func(*Request) int { return 7 }
	base := StackConfig{
		Name: "ollama/a", Limiter: LimiterConfig{Estimate: estimate},
		Queue: QueueConfig{Concurrency: 2, Waiting: -1}, Retry: RetryConfig{Attempts: 9, Jitter: -1},
	}
	r, err := NewResolver(Levels{
		Code: Level{Providers: map[string]Settings{"ollama": SettingsOf(base)}},
		File: levelOf(t, map[string]string{"ollama": `{
			"limits": {"requests_per_minute": 60, "tokens_per_minute": 9000}, "cache": {"size": 10, "ttl": "5m"},
			"breaker": {"failures": 2, "open_for": "3s", "classes": ["timeout"]}, "adaptive": "on",
			"retry": {"max": "7s", "spread": "full", "longer": {"throttled": 3}}}`},
			map[string]string{"summary": `{"retry": "off", "cache": "off"}`}),
		Environ: []string{"COVEY_OLLAMA_RETRY_ATTEMPTS=3"},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := r.Stack("ollama", base)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Limiter.Estimate == nil || cfg.Limiter.Estimate(nil) != 7 || cfg.Name != "ollama/a" {
		t.Error("what settings cannot say is lost")
	}
	cfg.Limiter.Estimate = nil
	want := StackConfig{
		Name:    "ollama/a",
		Queue:   QueueConfig{Concurrency: 2, Waiting: -1},
		Limiter: LimiterConfig{RequestsPerMinute: 60, TokensPerMinute: 9000},
		Cache:   &CacheConfig{Size: 10, TTL: 5 * time.Minute},
		Breaker: BreakerConfig{Failures: 2, OpenFor: 3 * time.Second, Classes: []messages.Class{messages.Timeout}},
		Retry: RetryConfig{Attempts: 3, Jitter: -1, MaxWait: 7 * time.Second, Spread: SpreadFull,
			Longer: map[messages.Class]float64{messages.Throttled: 3}},
		Adaptive: &AdaptiveConfig{},
		Kinds:    map[string]KindConfig{"summary": {Retry: RetryConfig{Attempts: 1, Jitter: 0}}},
	}
	got := cfg
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n%+v, want\n%+v", got, want)
	}
	call := &Settings{Retry: &RetrySettings{Attempts: new(2)}, Cache: &CacheSettings{On: new(false)}}
	e, err := r.Resolve("ollama", "", call)
	if err != nil {
		t.Fatal(err)
	}
	if o := e.Override(call); !o.NoCache || o.Retry.Attempts != 2 || o.Retry.MaxWait != 7*time.Second {
		t.Errorf("%+v", o)
	}
	if o := e.Override(nil); o != nil {
		t.Errorf("%+v", o)
	}
}

// The defaults that are told are those that hold.
func TestDefaultsAreTold(t *testing.T) {
	r, err := NewResolver(Levels{File: levelOf(t, map[string]string{"p": `{"limits":"on","cache":"on","adaptive":"on"}`}, nil)})
	if err != nil {
		t.Fatal(err)
	}
	e, err := r.Resolve("p", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	q, retry, b, a := mustQueue(t), RetryConfig{}.withDefaults(), BreakerConfig{}.withDefaults(), AdaptiveConfig{}.withDefaults()
	cache, err := NewCache(CacheConfig{})
	if err != nil {
		t.Fatal(err)
	}
	told := SettingsOf(StackConfig{Queue: q, Retry: retry, Breaker: b, Adaptive: &a, Cache: &cache.cfg})
	for _, f := range settings() {
		v := f.value(&told)
		if !v.IsValid() || f.isSwitch() {
			continue
		}
		got, _ := valueOf(e, f.key)
		if shown := f.show(v); got != shown && !(f.key == "retry.longer" && got == "throttled: 2") {
			if d, err := time.ParseDuration(got); err == nil && d.String() == shown {
				continue
			}
			t.Errorf("%s: %q is told, %q holds", f.key, got, shown)
		}
	}
}

func mustQueue(t *testing.T) QueueConfig {
	q, err := NewQueue(QueueConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return q.cfg
}

package provider_test

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// counting is a model that answers each call with its number.
func counting() (provider.Model, func() int) {
	n := 0
	return provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			n++
			if yield(provider.Chunk{Text: "answer "}, nil) {
				yield(provider.Chunk{Text: fmt.Sprint(n), Stop: messages.StopEnd, Model: "m1", Usage: messages.Usage{InputTokens: 3}}, nil)
			}
		}
	}), func() int { return n }
}

// answers returns what a model says to each request.
func answers(t *testing.T, m provider.Model, reqs ...*provider.Request) string {
	t.Helper()
	var all []string
	for _, req := range reqs {
		r, err := provider.Call(t.Context(), m, req)
		if err != nil {
			t.Fatal(err)
		}
		s := strings.TrimPrefix(r.Message.Content, "answer ")
		if r.Origin != nil && r.Origin.Cached {
			s += "*"
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

// with is a request that differs from a common one by what f does to it.
func with(f func(*provider.Request)) *provider.Request {
	heat := 0.5
	r := &provider.Request{
		Messages: []messages.Message{{Role: messages.User, Content: "hi"}},
		Tools:    []messages.ToolSpec{{Name: "t", Parameters: []byte(`{"type": "object"}`)}},
		Format:   []byte(`{"type": "string"}`),
		Options:  provider.Options{Temperature: &heat},
	}
	f(r)
	return r
}

func same(*provider.Request) {}

func TestCacheKey(t *testing.T) {
	heat := 0.6
	for name, tt := range map[string]struct {
		f   func(*provider.Request)
		hit bool
	}{
		"the same":                   {same, true},
		"another message":            {func(r *provider.Request) { r.Messages[0].Content = "ho" }, false},
		"another role":               {func(r *provider.Request) { r.Messages[0].Role = messages.System }, false},
		"one message more":           {func(r *provider.Request) { r.Messages = append(r.Messages, messages.Message{}) }, false},
		"another tool":               {func(r *provider.Request) { r.Tools[0].Name = "u" }, false},
		"a tool's other schema":      {func(r *provider.Request) { r.Tools[0].Parameters = []byte(`{"type": "array"}`) }, false},
		"a schema's white space":     {func(r *provider.Request) { r.Tools[0].Parameters = []byte("{\n\"type\":\"object\"}") }, true},
		"no tools":                   {func(r *provider.Request) { r.Tools = nil }, false},
		"another format":             {func(r *provider.Request) { r.Format = []byte(`{"type": "object"}`) }, false},
		"no format":                  {func(r *provider.Request) { r.Format = nil }, false},
		"another option":             {func(r *provider.Request) { r.Options.Temperature = &heat }, false},
		"one option more":            {func(r *provider.Request) { r.Options.MaxTokens = 5 }, false},
		"kind, session and priority": {func(r *provider.Request) { r.Kind, r.Session, r.Priority = "k", "s", 3 }, true},
		"a key":                      {func(r *provider.Request) { r.Key = "k" }, true},
		"a fresh one":                {func(r *provider.Request) { r.Fresh = true }, false},
		"what is no JSON":            {func(r *provider.Request) { r.Format = []byte(`{`) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := counting()
			m = must(provider.NewCache(provider.CacheConfig{})).Wrap(m)
			want := "1 2"
			if tt.hit {
				want = "1 1*"
			}
			if got := answers(t, m, with(same), with(tt.f)); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestCacheIdempotent(t *testing.T) {
	m, _ := counting()
	c := must(provider.NewCache(provider.CacheConfig{Idempotent: true}))
	m = c.Wrap(m)
	one := with(func(r *provider.Request) { r.Key = "op 1" })
	other := with(func(r *provider.Request) { r.Key, r.Messages[0].Content = "op 1", "else" })
	two := with(func(r *provider.Request) { r.Key = "op 2" })
	if got := answers(t, m, one, other, two, one, with(same), with(same)); got != "1 1* 2 1* 3 4" {
		t.Errorf("%s", got)
	}
}

func TestCacheHit(t *testing.T) {
	var events sink
	c := must(provider.NewCache(provider.CacheConfig{Name: "m", Observe: events.observe}))
	call := messages.ToolCall{ID: "1", Name: "t", Arguments: []byte(`{}`)}
	n := 0
	m := c.Wrap(provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			n++
			_ = yield(provider.Chunk{Text: "in vain", Attempt: 1}, nil) && yield(provider.Chunk{Attempt: 2, Broken: messages.Transient}, nil) &&
				yield(provider.Chunk{Text: "a", Thinking: "hm", Attempt: 2, ToolCalls: []messages.ToolCall{call}}, nil) &&
				yield(provider.Chunk{Attempt: 2, Stop: messages.StopTools, Model: "m1", Usage: messages.Usage{InputTokens: 3}, Origin: &messages.Origin{Rung: 1, Name: "x", Fallback: true}}, nil)
		}
	}))
	first, err := provider.Call(t.Context(), m, request)
	if err != nil || first.Origin.Cached || first.Attempts != 2 {
		t.Fatalf("%+v, %v", first, err)
	}
	var chunks []provider.Chunk
	r, err := provider.Collect(m.Stream(t.Context(), &provider.Request{Messages: request.Messages, Session: "s", Kind: "chat"}), func(c provider.Chunk) { chunks = append(chunks, c) })
	if err != nil || n != 1 {
		t.Fatalf("%d calls, %v", n, err)
	}
	if r.Message.Content != "a" || r.Message.Thinking != "hm" || len(r.Message.ToolCalls) != 1 || r.Stop != messages.StopTools || r.Model != "m1" ||
		r.Usage != (messages.Usage{}) || r.Attempts != 1 || !r.Origin.Cached || r.Origin.Name != "x" || !r.Origin.Fallback || len(chunks) != 2 {
		t.Errorf("%+v in %d chunks", r, len(chunks))
	}
	es := events.events()
	if len(es) != 1 || es[0].Kind != messages.CacheHit || es[0].Name != "m" || es[0].Session != "s" || es[0].Call != "chat" {
		t.Errorf("events %+v", es)
	}
	for range m.Stream(t.Context(), request) { // a reader may break off in a hit
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = provider.Call(ctx, m, request)
	classIs(t, err, messages.Canceled)
}

// Only what is whole and right is kept.
func TestCacheKeepsOnlyWholeReplies(t *testing.T) {
	stop := func(s messages.StopReason) provider.Model {
		return provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
			return func(yield func(provider.Chunk, error) bool) { yield(provider.Chunk{Text: "x", Stop: s}, nil) }
		})
	}
	bad, _ := play(broken(messages.Transient))
	cut, _ := play(step{texts: []string{"x"}, err: messages.Transient})
	for name, tt := range map[string]struct {
		m    provider.Model
		kept int
	}{
		"an end": {stop(messages.StopEnd), 1}, "tools": {stop(messages.StopTools), 1}, "cut off by a limit": {stop(messages.StopLength), 0},
		"filtered": {stop(messages.StopFiltered), 0}, "other": {stop(messages.StopOther), 0}, "an error": {bad, 0}, "broken": {cut, 0}, "no last chunk": {stop(""), 0},
	} {
		c := must(provider.NewCache(provider.CacheConfig{}))
		_ = call(t, c.Wrap(tt.m))
		if c.Len() != tt.kept {
			t.Errorf("%s: %d kept, want %d", name, c.Len(), tt.kept)
		}
	}
	c := must(provider.NewCache(provider.CacheConfig{}))
	m, _ := play(fine)
	for range c.Wrap(m).Stream(t.Context(), request) {
		break
	}
	if c.Len() != 0 {
		t.Error("a reply that was not read to its end is kept")
	}
}

func TestCacheLimits(t *testing.T) {
	ask := func(s string) *provider.Request {
		return &provider.Request{Messages: []messages.Message{{Content: s}}}
	}
	t.Run("time", func(t *testing.T) {
		clock := clockwork.NewFakeClock()
		m, _ := counting()
		m = must(provider.NewCache(provider.CacheConfig{Clock: clock})).Wrap(m)
		got := answers(t, m, ask("a"))
		clock.Advance(time.Hour - 1)
		got += " " + answers(t, m, ask("a"))
		clock.Advance(1)
		if got += " " + answers(t, m, ask("a"), ask("a")); got != "1 1* 2 2*" {
			t.Error(got)
		}
	})
	t.Run("number", func(t *testing.T) {
		m, _ := counting()
		c := must(provider.NewCache(provider.CacheConfig{Size: 2}))
		if got := answers(t, c.Wrap(m), ask("a"), ask("b"), ask("a"), ask("c"), ask("a"), ask("b")); got != "1 2 1* 3 1* 4" || c.Len() != 2 {
			t.Errorf("%s, %d kept", got, c.Len())
		}
		c.Purge()
		if c.Len() != 0 || c.Bytes() != 0 {
			t.Errorf("%d of %d bytes after a purge", c.Len(), c.Bytes())
		}
	})
	t.Run("bytes", func(t *testing.T) {
		c := must(provider.NewCache(provider.CacheConfig{Bytes: 10_000}))
		long := func(n int) provider.Model {
			m, _ := play(step{texts: []string{strings.Repeat("x", n)}})
			return c.Wrap(m)
		}
		for n := range 20 {
			if _, err := provider.Call(t.Context(), long(2000), ask(fmt.Sprint(n))); err != nil {
				t.Fatal(err)
			}
			if c.Bytes() > 10_000 {
				t.Errorf("%d bytes", c.Bytes())
			}
		}
		if c.Len() != 3 {
			t.Errorf("%d kept in %d bytes", c.Len(), c.Bytes())
		}
		_, _ = provider.Call(t.Context(), long(20_000), ask("large"))
		if c.Len() != 3 {
			t.Errorf("%d kept after one that is too large", c.Len())
		}
		fresh := ask("19")
		fresh.Fresh = true
		before := c.Bytes()
		_, _ = provider.Call(t.Context(), long(1999), fresh)
		if c.Len() != 3 || c.Bytes() != before-1 {
			t.Errorf("%d of %d bytes after a replacement, %d before", c.Len(), c.Bytes(), before)
		}
	})
}

// The stack asks the cache first: a hit passes a full queue, an empty bucket and
// an open breaker.
func TestStackCacheComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := must(provider.NewStack(provider.StackConfig{
			Cache: &provider.CacheConfig{}, Queue: provider.QueueConfig{Concurrency: 1, Waiting: -1},
			Limiter: provider.LimiterConfig{RequestsPerMinute: 1}, Breaker: provider.BreakerConfig{Failures: 1},
		}))
		m, calls := counting()
		m = s.Wrap(m)
		if got := answers(t, m, with(same)); got != "1" {
			t.Fatal(got)
		}
		g := newGate()
		go func() { _, _ = provider.Call(t.Context(), s.Queue.Wrap(g), request) }()
		s.Breaker.OpenUntil(time.Now().Add(time.Hour), nil)
		synctest.Wait()
		start := time.Now()
		if got := answers(t, m, with(same), with(func(r *provider.Request) { r.Key = "k" })); got != "1* 1*" || calls() != 1 || !time.Now().Equal(start) {
			t.Errorf("%s after %v and %d calls", got, time.Since(start), calls())
		}
		_, err := provider.Call(t.Context(), m, with(func(r *provider.Request) { r.Override = &provider.Override{NoCache: true} }))
		classIs(t, err, messages.Unavailable)
		close(g.let)
	})
}

package route_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/messages"
)

// model answers with its name after a while, with a usage, or fails.
type model struct {
	name  string
	takes time.Duration
	usage messages.Usage
	err   error
	bare  bool // the stream ends without a last chunk
}

func (m *model) Stream(ctx context.Context, _ *provider.Request) iter.Seq2[provider.Chunk, error] {
	return func(yield func(provider.Chunk, error) bool) {
		if m.takes > 0 {
			select {
			case <-time.After(m.takes):
			case <-ctx.Done():
				yield(provider.Chunk{}, ctx.Err())
				return
			}
		}
		if m.err != nil {
			yield(provider.Chunk{}, m.err)
			return
		}
		if yield(provider.Chunk{Text: m.name}, nil) && !m.bare {
			yield(provider.Chunk{Stop: messages.StopEnd, Model: m.name, Usage: m.usage}, nil)
		}
	}
}

func choices(ms ...*model) []route.Choice {
	var cs []route.Choice
	for _, m := range ms {
		cs = append(cs, route.Choice{Name: m.name, Model: m})
	}
	return cs
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ask(text string) *provider.Request {
	return &provider.Request{Messages: []messages.Message{{Role: messages.User, Content: text}}, Session: "s"}
}

// chosen makes a call and returns the choice that the reply names.
func chosen(t *testing.T, m provider.Model, req *provider.Request) string {
	t.Helper()
	r, err := provider.Call(t.Context(), m, req)
	if err != nil {
		t.Fatal(err)
	}
	if r.Origin == nil || r.Origin.Name != r.Message.Content || r.Origin.Fallback {
		t.Fatalf("reply %+v, origin %+v", r, r.Origin)
	}
	return r.Origin.Name
}

func refused(t *testing.T, err error, want string) {
	t.Helper()
	if !errors.Is(err, messages.Invalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "use ") {
		t.Errorf("error %v, want %q and what is allowed", err, want)
	}
}

type sink struct {
	mu  sync.Mutex
	all []messages.Event
}

func (s *sink) observe(e messages.Event) { s.mu.Lock(); defer s.mu.Unlock(); s.all = append(s.all, e) }

func (s *sink) events() []messages.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]messages.Event(nil), s.all...)
}

// failing is a failure of a class.
func failing(c messages.Class) error { return messages.Errorf(c, "test", "it failed") }

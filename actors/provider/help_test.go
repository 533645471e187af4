package provider_test

import (
	"context"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// step is one call's part in a play: texts, then an error or the end.
type step struct {
	texts []string
	err   error
}

var fine = step{texts: []string{"a", "b"}}

func broken(c messages.Class) step { return step{err: messages.Errorf(c, "test", "it failed")} }

// play is a model that plays steps in order; the last one again and again.
func play(steps ...step) (provider.Model, func() int) {
	var mu sync.Mutex
	n := 0
	m := provider.Func(func(ctx context.Context, _ *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			mu.Lock()
			s := steps[min(n, len(steps)-1)]
			n++
			mu.Unlock()
			for _, t := range s.texts {
				if !yield(provider.Chunk{Text: t}, nil) {
					return
				}
			}
			if s.err != nil {
				yield(provider.Chunk{}, s.err)
				return
			}
			yield(provider.Chunk{Stop: messages.StopEnd, Model: "play", Usage: messages.Usage{Calls: 1}}, nil)
		}
	})
	return m, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

var request = &provider.Request{Messages: []messages.Message{{Role: messages.User, Content: "hi"}}}

// must returns v, and panics on an error: the configs here are right.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// sink keeps the events it is told.
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

func classIs(t *testing.T, err error, want messages.Class) *messages.Error {
	t.Helper()
	if messages.ClassOf(err) != want {
		t.Fatalf("error %v of class %q, want class %q", err, messages.ClassOf(err), want)
	}
	return messages.AsError(err, "", "")
}

// takes is a model whose calls take a while; the function tells how many ran at
// once at most.
func takes(d time.Duration) (provider.Model, func() int) {
	var mu sync.Mutex
	running, most := 0, 0
	m := provider.Func(func(ctx context.Context, _ *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			defer func() { mu.Lock(); running--; mu.Unlock() }()
			select {
			case <-time.After(d):
				yield(provider.Chunk{Text: "a", Stop: messages.StopEnd}, nil)
			case <-ctx.Done():
				yield(provider.Chunk{}, ctx.Err())
			}
		}
	})
	return m, func() int { mu.Lock(); defer mu.Unlock(); return most }
}

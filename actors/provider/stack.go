package provider

import (
	"context"
	"iter"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// StackConfig configures the middlewares around one model. The zero value
// gives each its defaults. Name, Clock and Observe fill those fields of the
// parts where they are not set.
type StackConfig struct {
	Name    string
	Queue   QueueConfig
	Breaker BreakerConfig
	Retry   RetryConfig
	Clock   clockwork.Clock
	Observe func(messages.Event)
}

// Check returns the first part's error.
func (c StackConfig) Check() error {
	for _, err := range []error{c.Queue.Check(), c.Breaker.Check(), c.Retry.Check()} {
		if err != nil {
			return err
		}
	}
	return nil
}

// Stack is queue → breaker → retry around a client. The order matters:
//
//   - The queue is outermost, so that a call which waited asks the breaker when
//     its turn comes, and a call in a backoff keeps its place: fewer calls reach
//     a provider in trouble. A call that finds the breaker open does not join
//     the queue: it fails at once.
//   - The breaker is around the retries, so that it counts calls that could not
//     be saved and not hiccups, that its probe is one call, and that nothing
//     backs off behind an open breaker.
//   - Retry is next to the client: there is one owner of retries.
//
// A Stack lives longer than the client it wraps; keep it when a client or an
// actor is made anew.
type Stack struct {
	Queue   *Queue
	Breaker *Breaker
	Retry   *Retry
}

// NewStack fails only with cfg's Check.
func NewStack(cfg StackConfig) (*Stack, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	for _, name := range []*string{&cfg.Queue.Name, &cfg.Breaker.Name, &cfg.Retry.Name} {
		if *name == "" {
			*name = cfg.Name
		}
	}
	if cfg.Breaker.Observe == nil {
		cfg.Breaker.Observe = cfg.Observe
	}
	if cfg.Retry.Observe == nil {
		cfg.Retry.Observe = cfg.Observe
	}
	if cfg.Retry.Clock == nil {
		cfg.Retry.Clock = cfg.Clock
	}
	q, err := NewQueue(cfg.Queue)
	if err != nil {
		return nil, err
	}
	b, err := NewBreaker(cfg.Breaker)
	if err != nil {
		return nil, err
	}
	r, err := NewRetry(cfg.Retry)
	if err != nil {
		return nil, err
	}
	return &Stack{Queue: q, Breaker: b, Retry: r}, nil
}

// Wrap is a [Middleware].
func (s *Stack) Wrap(m Model) Model {
	inner := s.Queue.Wrap(s.Breaker.Wrap(s.Retry.Wrap(m)))
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		if s.Breaker.closed.Load() {
			return inner.Stream(ctx, req)
		}
		return func(yield func(Chunk, error) bool) {
			if err := s.Breaker.refusal(); err != nil {
				yield(Chunk{}, err)
				return
			}
			inner.Stream(ctx, req)(yield)
		}
	})
}

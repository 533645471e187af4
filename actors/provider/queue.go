package provider

import (
	"container/list"
	"context"
	"iter"
	"sync"
	"time"

	"github.com/covey-run/covey/messages"
)

// QueueConfig says how many calls may run at once, and wait. The zero value
// lets 5 run and 1000 wait.
type QueueConfig struct {
	// Name is the model, in errors.
	Name string
	// Concurrency is how many calls run at once. Zero: 5.
	Concurrency int
	// Waiting is how many more may wait for their turn; beyond it a call fails
	// at once with class unavailable. Zero: 1000. Negative: none may wait.
	Waiting int
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c QueueConfig) Check() error {
	if c.Concurrency < 0 {
		return badField("queue", "concurrency", c.Concurrency, "a number of at least 1, or 0 for 5")
	}
	return nil
}

// Queue admits calls in the order in which they come. A call holds its place
// from the moment it is admitted to the end of its stream, backoffs of a retry
// inside included: a provider that is in trouble gets fewer calls. A caller
// whose context ends leaves the queue at once.
type Queue struct {
	cfg QueueConfig

	mu      sync.Mutex // guards the rest; held for a few instructions only
	running int
	waiting line
}

// NewQueue returns an empty queue. It fails only with cfg's Check.
func NewQueue(cfg QueueConfig) (*Queue, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 5
	}
	if cfg.Waiting == 0 {
		cfg.Waiting = 1000
	}
	return &Queue{cfg: cfg}, nil
}

// InFlight returns how many calls run.
func (q *Queue) InFlight() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running
}

// Depth returns how many calls wait.
func (q *Queue) Depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting.len()
}

// Wrap is a [Middleware].
func (q *Queue) Wrap(m Model) Model {
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		return func(yield func(Chunk, error) bool) {
			waited, err := q.enter(ctx)
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			defer q.leave()
			if waited == 0 { // nothing to add: no layer between
				m.Stream(ctx, req)(yield)
				return
			}
			for chunk, err := range m.Stream(ctx, req) {
				if chunk.Stop != "" {
					chunk.Usage.Duration += waited
				}
				if !yield(chunk, err) || err != nil {
					return
				}
			}
		}
	})
}

// enter waits for a place and returns how long that took.
func (q *Queue) enter(ctx context.Context) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, messages.AsError(err, messages.Canceled, q.cfg.Name)
	}
	q.mu.Lock()
	if q.running < q.cfg.Concurrency {
		q.running++
		q.mu.Unlock()
		return 0, nil
	}
	if n := q.waiting.len(); n >= q.cfg.Waiting {
		q.mu.Unlock()
		return 0, messages.Errorf(messages.Unavailable, q.cfg.Name,
			"the queue is full: %d calls wait, the limit is %d, while %d run", n, max(q.cfg.Waiting, 0), q.cfg.Concurrency)
	}
	w := q.waiting.push()
	q.mu.Unlock()

	start := time.Now()
	select {
	case <-w.turn:
		return time.Since(start), nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	left := q.waiting.remove(w)
	q.mu.Unlock()
	if !left { // its turn came in the same moment
		q.leave()
	}
	return 0, messages.Errorf(messages.ClassOf(ctx.Err()), q.cfg.Name,
		"gave up after %v in the queue: %w", time.Since(start).Round(time.Millisecond), ctx.Err())
}

// leave hands the place to the next in line.
func (q *Queue) leave() {
	q.mu.Lock()
	next := q.waiting.pop()
	if next == nil {
		q.running--
	}
	q.mu.Unlock()
	if next != nil {
		close(next.turn)
	}
}

// line decides who is next: first in, first out.
type line struct{ l list.List }

// waiter is one call in a line.
type waiter struct {
	turn  chan struct{} // closed when it is its turn
	place *list.Element // nil once it left the line
}

func (l *line) len() int { return l.l.Len() }

func (l *line) push() *waiter {
	w := &waiter{turn: make(chan struct{})}
	w.place = l.l.PushBack(w)
	return w
}

// pop takes the next waiter out, nil if there is none.
func (l *line) pop() *waiter {
	front := l.l.Front()
	if front == nil {
		return nil
	}
	w := l.l.Remove(front).(*waiter)
	w.place = nil
	return w
}

// remove takes w out; false if it was popped before.
func (l *line) remove(w *waiter) bool {
	if w.place == nil {
		return false
	}
	l.l.Remove(w.place)
	w.place = nil
	return true
}

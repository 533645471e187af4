package provider

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// QueueConfig says how many calls may run at once, and wait. The zero value
// lets 5 run and 1000 wait.
type QueueConfig struct {
	// Name is the model, in events and errors.
	Name string
	// Off lets every call pass at once.
	Off bool
	// Concurrency is how many calls run at once. Zero: 5.
	Concurrency int
	// Waiting is how many more may wait for their turn; beyond it a call fails
	// at once with class unavailable. Zero: 1000. Negative: none may wait.
	Waiting int
	// AgeEvery is how long a call waits to become one step of priority more
	// urgent, so that nothing waits for ever behind calls that go first. Zero:
	// 10 s. Negative: calls do not age. At least 1 ms.
	AgeEvery time.Duration
	// Clock measures waits. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of each call that waited ([messages.QueueWaited]) or was
	// refused (QueueRefused). It must not block. nil: nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c QueueConfig) Check() error {
	switch {
	case c.Concurrency < 0:
		return badField("queue", "concurrency", c.Concurrency, "a number of at least 1, or 0 for 5")
	case c.AgeEvery > 0 && c.AgeEvery < time.Millisecond:
		return badField("queue", "age_every", c.AgeEvery, "at least 1ms, 0 for 10s, or negative for no ageing")
	}
	return nil
}

// Queue admits calls: the lowest [Request.Priority] first, where waiting counts
// ([QueueConfig.AgeEvery]). Among calls of one priority the sessions
// ([Request.Session]) take turns, so that one with a thousand calls waiting does
// not hold up another; within one session, and among all calls without one, it
// is first come, first served.
//
// A call holds its place from the moment it is admitted to the end of its
// stream, backoffs of a retry inside included: a provider that is in trouble
// gets fewer calls. A caller whose context ends leaves the queue at once;
// without a deadline it waits as long as the calls before it take.
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
	if cfg.AgeEvery == 0 {
		cfg.AgeEvery = 10 * time.Second
	}
	if cfg.Clock == nil {
		cfg.Clock = clockwork.NewRealClock()
	}
	return &Queue{cfg: cfg, waiting: line{ageEvery: cfg.AgeEvery}}, nil
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
	if q.cfg.Off {
		return m
	}
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		return func(yield func(Chunk, error) bool) {
			waited, err := q.enter(ctx, req)
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
func (q *Queue) enter(ctx context.Context, req *Request) (time.Duration, error) {
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
		return 0, q.refuse(req, n)
	}
	start := q.cfg.Clock.Now()
	w := q.waiting.push(start, req.Priority, req.Session)
	q.mu.Unlock()

	select {
	case <-w.turn:
		waited := q.cfg.Clock.Since(start)
		if q.cfg.Observe != nil {
			q.cfg.Observe(about(req, messages.Event{Kind: messages.QueueWaited, Time: start.Add(waited), Name: q.cfg.Name, Wait: waited, Count: q.Depth()}))
		}
		return waited, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	left := q.waiting.remove(w)
	q.mu.Unlock()
	if !left { // its turn came in the same moment
		q.leave()
	}
	return 0, messages.Errorf(messages.ClassOf(ctx.Err()), q.cfg.Name,
		"gave up after %v in the queue: %w", q.cfg.Clock.Since(start).Round(time.Millisecond), ctx.Err())
}

func (q *Queue) refuse(req *Request, waiting int) error {
	e := messages.Errorf(messages.Unavailable, q.cfg.Name,
		"the queue is full: %d calls wait, the limit is %d, while %d run", waiting, max(q.cfg.Waiting, 0), q.cfg.Concurrency)
	if q.cfg.Observe != nil {
		q.cfg.Observe(about(req, messages.Event{
			Kind: messages.QueueRefused, Time: q.cfg.Clock.Now(), Name: q.cfg.Name, Count: waiting, Class: e.Class, Error: e,
		}))
	}
	return e
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

// about fills in what an event says of the request that it is about.
func about(req *Request, e messages.Event) messages.Event {
	e.Session, e.Call = req.Session, req.Kind
	return e
}

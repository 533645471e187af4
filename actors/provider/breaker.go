package provider

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/covey-run/covey/messages"
)

// BreakerConfig says when calls to a failing model stop for a while. The zero
// value opens after 5 consecutive failed calls, for 60 s.
type BreakerConfig struct {
	// Name is the model, in events and errors.
	Name string
	// Failures is how many calls must fail in a row. Zero: 5.
	Failures int
	// OpenFor is how long the breaker then refuses calls, before it lets a probe
	// through. Zero: 60 s. At least 1 ms.
	OpenFor time.Duration
	// Successes is how many probes, one at a time, must succeed to close it
	// again. Zero: 3.
	Successes int
	// Observe hears of every change ([messages.BreakerOpened], BreakerHalfOpen,
	// BreakerClosed). It must not block. nil: nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c BreakerConfig) Check() error {
	const most = 1 << 20
	switch {
	case c.Failures < 0 || c.Failures > most:
		return badField("breaker", "failures", c.Failures, "1 to 1048576, or 0 for 5")
	case c.Successes < 0 || c.Successes > most:
		return badField("breaker", "successes", c.Successes, "1 to 1048576, or 0 for 3")
	case c.OpenFor != 0 && c.OpenFor < time.Millisecond:
		return badField("breaker", "open_for", c.OpenFor, "at least 1ms, or 0 for 60s")
	}
	return nil
}

// BreakerState is what a breaker does with calls.
type BreakerState string

// The states of a breaker.
const (
	// Closed: calls pass.
	Closed BreakerState = "closed"
	// Open: calls fail at once, until Until.
	Open BreakerState = "open"
	// HalfOpen: one call at a time passes, as a probe; the others fail at once.
	HalfOpen BreakerState = "half_open"
)

// probePause is when a caller that met a probe under way may ask again.
const probePause = time.Second

// Breaker stops calls to a model that keeps failing. It lives longer than the
// models it wraps: keep it when a client or an actor is made anew. All models
// wrapped by one Breaker share its state.
//
// A call fails for the breaker when its sequence ends with an error, except for
// the caller's own doing: class canceled, stopping, fenced, budget, invalid,
// context_length and malformed count neither as a failure nor as a success, nor
// does a stream that the caller abandons. A deadline does count.
//
// While it is open every call fails at once with class unavailable: Until is
// when it half-opens and Others holds the failure that opened it. The change
// from open to half-open happens at the first call or look ([Breaker.State])
// after Until. One failed probe opens it again.
type Breaker struct {
	cfg     BreakerConfig
	two     *gobreaker.TwoStepCircuitBreaker[struct{}]
	closed  atomic.Bool // false: a call that passes is a probe
	probing atomic.Bool // a probe is out, or just asked for
	pending atomic.Int32

	mu     sync.Mutex // guards the rest; gobreaker's lock is taken before it
	until  time.Time
	last   *messages.Error  // the newest failure that counted
	events []messages.Event // changes not told yet
}

// NewBreaker returns a closed breaker. It fails only with cfg's Check.
func NewBreaker(cfg BreakerConfig) (*Breaker, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Failures == 0 {
		cfg.Failures = 5
	}
	if cfg.OpenFor == 0 {
		cfg.OpenFor = time.Minute
	}
	if cfg.Successes == 0 {
		cfg.Successes = 3
	}
	b := &Breaker{cfg: cfg}
	b.closed.Store(true)
	b.two = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:        cfg.Name,
		MaxRequests: uint32(cfg.Successes),
		// gobreaker half-opens strictly after its timeout; one nanosecond less
		// makes Until itself a moment at which a call is let through.
		Timeout:       cfg.OpenFor - 1,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= uint32(cfg.Failures) },
		IsExcluded:    func(err error) bool { return err != nil && !blames(err) },
		OnStateChange: b.changed,
	})
	return b, nil
}

// State returns what the breaker would do with a call now.
func (b *Breaker) State() BreakerState {
	s := stateOf(b.two.State())
	b.tell()
	return s
}

// Until returns when an open breaker half-opens; the zero time when it is
// closed or half-open.
func (b *Breaker) Until() time.Time {
	if b.State() != Open {
		return time.Time{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.until
}

// Wrap is a [Middleware].
func (b *Breaker) Wrap(m Model) Model {
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		return func(yield func(Chunk, error) bool) {
			if err := ctx.Err(); err != nil {
				yield(Chunk{}, messages.AsError(err, messages.Canceled, b.cfg.Name))
				return
			}
			done, probe, err := b.admit()
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			w := &witness{yield: yield, outcome: errAbandoned}
			defer func() { b.settle(done, probe, w.outcome) }() // after a panic, too
			m.Stream(ctx, req)(w.each)
			if w.outcome == errAbandoned && !w.left {
				w.outcome = messages.Transient // it ended without a last chunk
			}
		}
	})
}

// errAbandoned is the outcome of a call until a better one is known: its caller
// broke off, or it panicked.
var errAbandoned = error(messages.Canceled)

// witness passes a sequence on and keeps how it ended.
type witness struct {
	yield   func(Chunk, error) bool
	outcome error
	left    bool // the caller broke off
}

func (w *witness) each(c Chunk, err error) bool {
	if err != nil {
		w.outcome = err
	} else if c.Stop != "" {
		w.outcome = nil
	}
	w.left = !w.yield(c, err)
	return !w.left && err == nil
}

// admit lets a call pass. done and probe are for settle.
func (b *Breaker) admit() (done func(error), probe bool, err error) {
	probe = !b.closed.Load()
	if probe && !b.probing.CompareAndSwap(false, true) {
		return nil, false, b.refuse(gobreaker.ErrTooManyRequests)
	}
	done, err = b.two.Allow()
	b.tell()
	if err != nil {
		if probe {
			b.probing.Store(false)
		}
		return nil, false, b.refuse(err)
	}
	return done, probe, nil
}

// settle reports the outcome of a call that passed.
func (b *Breaker) settle(done func(error), probe bool, outcome error) {
	if outcome != nil && blames(outcome) {
		b.remember(outcome)
	}
	done(outcome)
	if probe {
		b.probing.Store(false)
	}
	b.tell()
}

// refusal returns the error that a call would get now, nil if it may pass or
// probe.
func (b *Breaker) refusal() error {
	if b.closed.Load() || b.State() != Open {
		return nil
	}
	return b.refuse(gobreaker.ErrOpenState)
}

// refuse makes the error of a call that was not let through.
func (b *Breaker) refuse(why error) error {
	b.mu.Lock()
	last, until := b.last, b.until
	b.mu.Unlock()
	e := messages.Errorf(messages.Unavailable, b.cfg.Name, "the breaker is open until %s", until.Format(time.RFC3339))
	if now := time.Now(); errors.Is(why, gobreaker.ErrTooManyRequests) && !now.Before(until) {
		until = now.Add(probePause)
		e = messages.Errorf(messages.Unavailable, b.cfg.Name, "the breaker is half-open and a probe is under way")
	}
	e.Until = until
	if last != nil {
		e.Others = []*messages.Error{last}
	}
	return e
}

func (b *Breaker) remember(failure error) {
	e := messages.AsError(failure, messages.ClassOf(failure), b.cfg.Name)
	b.mu.Lock()
	b.last = e
	b.mu.Unlock()
}

// changed runs under gobreaker's lock: it only writes down what tell says.
func (b *Breaker) changed(_ string, _, to gobreaker.State) {
	now := time.Now()
	b.closed.Store(to == gobreaker.StateClosed)
	b.mu.Lock()
	defer b.mu.Unlock()
	e := messages.Event{Time: now, Name: b.cfg.Name}
	switch to {
	case gobreaker.StateOpen:
		b.until = now.Add(b.cfg.OpenFor)
		e.Kind, e.Until, e.Error = messages.BreakerOpened, b.until, b.last
		if b.last != nil {
			e.Class = b.last.Class
		}
	case gobreaker.StateHalfOpen:
		e.Kind = messages.BreakerHalfOpen
	default:
		e.Kind = messages.BreakerClosed
		b.last, b.until = nil, time.Time{}
	}
	b.events = append(b.events, e)
	b.pending.Add(1)
}

// tell hands the changes to the observer, with no lock held.
func (b *Breaker) tell() {
	if b.pending.Load() == 0 {
		return
	}
	b.mu.Lock()
	events := b.events
	b.events = nil
	b.pending.Store(0)
	b.mu.Unlock()
	if b.cfg.Observe != nil {
		for _, e := range events {
			b.cfg.Observe(e)
		}
	}
}

// blames reports whether a failure says something against the provider.
func blames(err error) bool {
	switch messages.ClassOf(err) {
	case messages.Canceled, messages.Stopping, messages.Fenced, messages.Budget,
		messages.Invalid, messages.ContextLength, messages.Malformed:
		return false
	}
	return true
}

func stateOf(s gobreaker.State) BreakerState {
	switch s {
	case gobreaker.StateOpen:
		return Open
	case gobreaker.StateHalfOpen:
		return HalfOpen
	}
	return Closed
}

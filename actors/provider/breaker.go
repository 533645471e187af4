package provider

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// BreakerConfig says when calls to a failing model stop for a while. The zero
// value opens after 5 failed calls, of which each success forgives one, for 60 s.
type BreakerConfig struct {
	// Name is the model, in events, in errors and at the Gate.
	Name string
	// Off lets every call pass, uncounted.
	Off bool
	// Failures is how many calls must fail; each that succeeds forgives one that
	// failed before it. Zero: 5.
	Failures int
	// OpenFor is how long the breaker then refuses calls, before it lets a probe
	// through. Zero: 60 s. At least 1 ms.
	OpenFor time.Duration
	// Successes is how many probes, one at a time, must succeed to close it
	// again. Zero: 3.
	Successes int
	// Classes are the classes of failure that count. nil: all, and what has no
	// class, except canceled, stopping, fenced, budget, invalid, context_length
	// and malformed: those say nothing against the provider.
	Classes []messages.Class
	// Gate shares openings with other nodes. nil: this breaker is alone.
	Gate Gate
	// Clock says what time it is. nil: the real one.
	Clock clockwork.Clock
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
	return checkClasses("breaker", "classes", c.Classes, canBlame)
}

func (c BreakerConfig) withDefaults() BreakerConfig {
	if c.Failures == 0 {
		c.Failures = 5
	}
	if c.OpenFor == 0 {
		c.OpenFor = time.Minute
	}
	if c.Successes == 0 {
		c.Successes = 3
	}
	if c.Clock == nil {
		c.Clock = clockwork.NewRealClock()
	}
	return c
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
// the caller's own doing ([BreakerConfig.Classes]), which counts neither as a
// failure nor as a success, as does a stream that the caller abandons. A
// deadline does count.
//
// While it is open every call fails at once with class unavailable: Until is
// when it half-opens and Others holds the failure that opened it. The change
// from open to half-open happens at the first call or look ([Breaker.State])
// at or after Until. One failed probe opens it again.
//
// With a Gate the breakers of one name on all nodes open until the same moment
// and close together, and one of them at a time holds the half-open probe.
type Breaker struct {
	cfg     BreakerConfig
	count   atomic.Pointer[counter]
	closed  atomic.Bool // what state says, for the fast way
	probing atomic.Bool // a probe is out, or just asked for
	pending atomic.Int32

	// mu guards the rest. A published counter's lock is taken before it, and
	// nobody else's code runs under it.
	mu    sync.Mutex
	state BreakerState
	until time.Time       // when the newest opening ends
	last  *messages.Error // the newest failure that counted
	news  []news          // changes not told yet
	// probes is the counter for when it half-opens next.
	probes *counter
}

// news is a change of state that the observer and the gate are to hear of.
type news struct {
	event messages.Event
	local bool // it happened here, so the other nodes are told
}

// NewBreaker returns a closed breaker. It fails only with cfg's Check.
func NewBreaker(cfg BreakerConfig) (*Breaker, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	b := &Breaker{cfg: cfg.withDefaults(), state: Closed}
	b.closed.Store(true)
	b.count.Store(b.countFailures())
	return b, nil
}

// State returns what the breaker would do with a call now.
func (b *Breaker) State() BreakerState {
	s, _ := b.look()
	return s
}

// Until returns when an open breaker half-opens; the zero time when it is
// closed or half-open.
func (b *Breaker) Until() time.Time {
	s, until := b.look()
	if s != Open {
		return time.Time{}
	}
	return until
}

// OpenUntil opens the breaker until a moment that another node has named, and
// does not tell the others. An open breaker stays open until the later moment;
// a moment that has passed changes nothing. cause may be nil.
func (b *Breaker) OpenUntil(until time.Time, cause *messages.Error) {
	b.mu.Lock()
	if until.After(b.cfg.Clock.Now()) && (b.state != Open || until.After(b.until)) {
		if cause != nil {
			b.last = cause
		}
		b.open(until, false)
	}
	b.mu.Unlock()
	b.tell()
}

// CloseFromAfar closes the breaker because another node's probes succeeded, and
// does not tell the others.
func (b *Breaker) CloseFromAfar() {
	b.mu.Lock()
	if b.state != Closed {
		b.close(false)
	}
	b.mu.Unlock()
	b.tell()
}

// Wrap is a [Middleware].
func (b *Breaker) Wrap(m Model) Model {
	if b.cfg.Off {
		return m
	}
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		return func(yield func(Chunk, error) bool) {
			if err := ctx.Err(); err != nil {
				yield(Chunk{}, messages.AsError(err, messages.Canceled, b.cfg.Name))
				return
			}
			p, err := b.admit(ctx)
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			w := &witness{yield: yield, outcome: errAbandoned}
			defer func() { b.settle(p, w.outcome) }() // after a panic, too
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

// pass is a call's leave to reach the model.
type pass struct {
	done    func(error)   // tells the counter its outcome
	probe   bool          // it is the one probe of this node
	release func(ok bool) // and of all nodes; nil without a gate
}

// admit lets a call pass, or returns the error of one that is refused.
func (b *Breaker) admit(ctx context.Context) (pass, error) {
	c := b.count.Load() // before the look: if it changes meanwhile this one refuses, or its word is ignored
	switch state, until := b.look(); state {
	case Open:
		return pass{}, b.refuse(false)
	case HalfOpen:
		return b.admitProbe(ctx, until)
	}
	done, err := c.two.Allow()
	if err != nil {
		return pass{}, b.refuse(false)
	}
	return pass{done: done}, nil
}

func (b *Breaker) admitProbe(ctx context.Context, until time.Time) (pass, error) {
	if !b.probing.CompareAndSwap(false, true) {
		return pass{}, b.refuse(true)
	}
	p := pass{probe: true}
	if g := b.cfg.Gate; g != nil {
		release, granted := g.Probe(ctx, b.cfg.Name, until)
		if !granted {
			b.probing.Store(false)
			return pass{}, b.refuse(true)
		}
		p.release = release
	}
	done, err := b.count.Load().two.Allow()
	if err != nil { // another node opened it again meanwhile
		b.settle(p, err)
		return pass{}, b.refuse(true)
	}
	p.done = done
	return p, nil
}

// settle reports the outcome of a call that passed.
func (b *Breaker) settle(p pass, outcome error) {
	if outcome != nil && b.blames(outcome) && p.done != nil {
		b.remember(outcome)
	}
	if p.done != nil {
		p.done(outcome)
	}
	if p.release != nil {
		p.release(outcome == nil)
	}
	if p.probe {
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
	return b.refuse(false)
}

// refuse makes the error of a call that was not let through.
func (b *Breaker) refuse(probe bool) error {
	b.mu.Lock()
	last, until := b.last, b.until
	b.mu.Unlock()
	e := messages.Errorf(messages.Unavailable, b.cfg.Name, "the breaker is open until %s", until.Format(time.RFC3339))
	if now := b.cfg.Clock.Now(); probe && !now.Before(until) {
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

// blames reports whether a failure counts.
func (b *Breaker) blames(err error) bool {
	c := messages.ClassOf(err)
	if b.cfg.Classes != nil {
		return slices.Contains(b.cfg.Classes, c)
	}
	return canBlame(c)
}

// canBlame reports whether failures of a class say something against the
// provider.
func canBlame(c messages.Class) bool {
	switch c {
	case messages.Canceled, messages.Stopping, messages.Fenced, messages.Budget,
		messages.Invalid, messages.ContextLength, messages.Malformed:
		return false
	}
	return true
}

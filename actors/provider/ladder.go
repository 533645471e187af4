package provider

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// MaxRungs is how many rungs a ladder has at most.
const MaxRungs = 10

// LadderConfig is a chain of models, the first choice first.
type LadderConfig struct {
	// Name is the ladder, in events and errors.
	Name string
	// Rungs are tried in order; 1 to 10.
	Rungs []Rung
	// Ends are the classes of failure that end the chain at any rung: another
	// model would not mend them. nil: canceled, budget, stopping, fenced,
	// diverged, poison and waiting, and at the first rung invalid too (the
	// request is wrong). A lower rung that finds the request invalid is passed
	// over: what it cannot do, the next one may.
	Ends []messages.Class
	// Keep is how long the model of a lower rung that no call uses is kept, if it
	// has a Close; the first rung's is kept until [Ladder.Close]. Zero: 1 minute.
	// Negative: it is closed when its last call ends.
	Keep time.Duration
	// Clock measures Keep and the rungs' Timeout. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of failed rungs, answers of lower rungs and closed models
	// ([messages.LadderRung], LadderFallback, LadderClosed). It must not block.
	// nil: nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c LadderConfig) Check() error {
	if n := len(c.Rungs); n == 0 || n > MaxRungs {
		return badField("ladder", "rungs", n, fmt.Sprintf("1 to %d rungs", MaxRungs))
	}
	for i, r := range c.Rungs {
		field := fmt.Sprintf("rungs[%d].", i)
		switch {
		case r.Name == "":
			return badField("ladder", field+"name", `""`, "the name that answers shall carry")
		case r.Make == nil:
			return badField("ladder", field+"make", "nil", "a function that makes the model")
		case r.Timeout < 0:
			return badField("ladder", field+"timeout", r.Timeout, "a positive duration, or 0 for none")
		}
	}
	for _, c := range c.Ends {
		if !c.Valid() {
			return badField("ladder", "ends", c, fmt.Sprintf("classes: %v", messages.Classes()))
		}
	}
	return nil
}

// Ladder is a model over several: a call goes to the first rung, and when that
// fails to the next. Each rung is a model with its own retries and breaker, so
// that a call falls through an open breaker at once.
//
// A reply of a lower rung says so: [messages.Origin] carries the rung, its name,
// Fallback and the failures before it. When every rung fails, the error is the
// first rung's, with its class, type and cause kept and the other rungs' in
// Others. When a failure ends the chain at a lower rung (the caller called it
// off, a person must decide), the error is that one, with those before in
// Others.
//
// A rung that breaks off in the middle of its reply is replaced like any other:
// a chunk without content says so at once ([Chunk.Broken]), and the next one's
// carry a higher [Chunk.Attempt]. A rung's model is made when a call first needs it; a failure
// to make it is the rung's failure, and is tried again by the next call.
//
// Close ends it.
type Ladder struct {
	cfg   LadderConfig
	rungs []*held
}

// NewLadder fails only with cfg's Check. It makes no model yet.
func NewLadder(cfg LadderConfig) (*Ladder, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Keep == 0 {
		cfg.Keep = time.Minute
	}
	if cfg.Clock == nil {
		cfg.Clock = clockwork.NewRealClock()
	}
	l := &Ladder{cfg: cfg}
	for i, r := range cfg.Rungs {
		h := &held{Rung: r, clock: cfg.Clock, keep: cfg.Keep, last: i == 0}
		h.dropped = func(err error) {
			l.emit(messages.Event{Kind: messages.LadderClosed, Count: i, Text: r.Name, Error: messages.AsError(err, messages.Crashed, r.Name)})
		}
		l.rungs = append(l.rungs, h)
	}
	return l, nil
}

// Close closes the rungs' models that have a Close, those in use when their
// calls end, and returns what went wrong. Later calls fail with class stopping.
func (l *Ladder) Close() error {
	var errs []error
	for _, r := range l.rungs {
		errs = append(errs, r.close())
	}
	return errors.Join(errs...)
}

// Stream makes the call on the first rung that can.
func (l *Ladder) Stream(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		c := &climb{l: l, ctx: ctx, req: req, yield: yield, start: l.cfg.Clock.Now()}
		for i := range l.rungs {
			failure := c.try(i)
			if failure == nil {
				return
			}
			if !c.onward(i, failure) {
				return
			}
		}
	}
}

func (l *Ladder) emit(e messages.Event) {
	if l.cfg.Observe == nil {
		return
	}
	e.Time, e.Name = l.cfg.Clock.Now(), l.cfg.Name
	if e.Error != nil {
		e.Class = e.Error.Class
	}
	l.cfg.Observe(e)
}

// ends reports whether a failure of the i-th rung ends the chain.
func (l *Ladder) ends(i int, failure error) bool {
	class := messages.ClassOf(failure)
	if l.cfg.Ends != nil {
		return slices.Contains(l.cfg.Ends, class)
	}
	switch class {
	case messages.Canceled, messages.Budget, messages.Stopping, messages.Fenced,
		messages.Diverged, messages.Poison, messages.Waiting:
		return true
	}
	return class == messages.Invalid && i == 0
}

// climb is one call on its way down the rungs.
type climb struct {
	l      *Ladder
	ctx    context.Context
	req    *Request
	yield  func(Chunk, error) bool
	start  time.Time
	before []*messages.Error
	base   int // attempts of the rungs before

	// of the rung under way
	rung                   int
	failure                error
	unmade                 bool
	highest                int
	bytes                  int // of text
	delivered, ended, left bool
}

// try makes the call on the i-th rung and returns its failure, nil when the
// call is over.
func (c *climb) try(i int) error {
	c.rung, c.failure, c.highest, c.bytes = i, nil, 0, 0
	c.unmade, c.delivered, c.ended = false, false, false
	r := c.l.rungs[i]
	m, err := r.take(c.ctx)
	if err != nil {
		c.unmade = true
		return err
	}
	defer r.release()
	ctx := c.ctx
	if i > 0 {
		ctx = context.WithValue(ctx, failuresKey{}, slices.Clip(c.before))
	}
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = clockwork.WithTimeout(ctx, c.l.cfg.Clock, r.Timeout)
		defer cancel()
	}
	m.Stream(ctx, c.req)(c.each)
	switch {
	case c.left || c.failure == nil && c.ended:
		return nil
	case c.failure == nil:
		c.failure = messages.Errorf(messages.Transient, r.Name, "the stream ended before its last chunk")
	case ctx.Err() != nil && c.ctx.Err() == nil:
		c.failure = messages.Errorf(messages.Timeout, r.Name, "it took longer than its %v: %w", r.Timeout, c.failure)
	}
	return c.failure
}

// each passes a chunk on under the call's own count of attempts, and keeps an
// error.
func (c *climb) each(chunk Chunk, err error) bool {
	if err != nil {
		c.failure = err
		return false
	}
	c.highest = max(c.highest, chunk.Attempt, 1)
	if c.rung > 0 {
		chunk.Attempt = c.base + max(chunk.Attempt, 1)
	}
	if chunk.Stop != "" {
		c.ended = true
		if c.rung > 0 {
			chunk.Origin = c.origin(chunk.Origin)
			chunk.Usage.Duration = c.l.cfg.Clock.Since(c.start)
			c.l.emit(messages.Event{Kind: messages.LadderFallback, Session: c.req.Session, Count: c.rung, Text: c.l.rungs[c.rung].Name})
		}
	}
	c.delivered = true
	c.bytes += len(chunk.Text)
	c.left = !c.yield(chunk, nil)
	return !c.left
}

// origin is what a lower rung's reply says of itself; inner is what that rung
// said, being a ladder, a router or a cache.
func (c *climb) origin(inner *messages.Origin) *messages.Origin {
	o := messages.Origin{Name: c.l.rungs[c.rung].Name}
	if inner != nil {
		o = *inner
		if o.Name == "" {
			o.Name = c.l.rungs[c.rung].Name
		}
	}
	o.Rung, o.Fallback = c.rung, true
	o.Before = slices.Concat(c.before, o.Before)
	return &o
}

// onward takes note of a rung's failure and reports whether the next rung shall
// try; if not, it has yielded the call's error.
func (c *climb) onward(i int, failure error) bool {
	r := c.l.rungs[i]
	e := messages.AsError(failure, messages.ClassOf(failure), r.Name)
	c.base += max(c.highest, e.Attempts, 1)
	ends := !c.unmade && c.l.ends(i, failure) || c.ctx.Err() != nil || errors.Is(failure, errLadderClosed)
	last := i == len(c.l.rungs)-1
	next := ""
	if !ends && !last {
		next = c.l.rungs[i+1].Name
	}
	c.l.emit(messages.Event{Kind: messages.LadderRung, Session: c.req.Session, Count: i, Text: next, Error: e})
	switch {
	case next != "":
		c.before = append(c.before, e)
		return !c.delivered || c.yield(brokenOff(c.base, c.bytes, failure), nil)
	case i == 0:
		c.yield(Chunk{}, failure)
	case ends:
		c.yield(Chunk{}, with(e, c.before, c.base))
	default:
		c.yield(Chunk{}, with(c.before[0], append(c.before[1:], e), c.base))
	}
	return false
}

// brokenOff is the chunk that says at once that what was delivered is to be
// discarded, since another attempt follows.
func brokenOff(attempt, bytes int, why error) Chunk {
	return Chunk{
		Attempt: attempt + 1,
		Broken:  fmt.Errorf("attempt %d broke after %d bytes of text, attempt %d follows: %w", attempt, bytes, attempt+1, why),
	}
}

// with returns a copy of an error with others attached after its own.
func with(e *messages.Error, others []*messages.Error, attempts int) *messages.Error {
	all := *e
	all.Others, all.Attempts = slices.Concat(e.Others, others), attempts
	return &all
}

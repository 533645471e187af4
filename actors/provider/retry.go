package provider

import (
	"context"
	"iter"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// RetryConfig says how a failed call is made again. The zero value makes up to
// 4 attempts, with waits of about 1, 2 and 4 seconds.
type RetryConfig struct {
	// Name is the model, in events and errors.
	Name string
	// Attempts is how many there are in all, the first one included. Zero: 4.
	// 1: no retry.
	Attempts int
	// Initial is the first wait before jitter. Zero: 1 s.
	Initial time.Duration
	// Factor multiplies from one wait to the next. Zero: 2. At least 1.
	Factor float64
	// Jitter is the share by which a wait varies: it is uniform in [1-Jitter,
	// 1+Jitter] times the wait. Zero: 0.5. Negative: none. At most 1.
	Jitter float64
	// MaxWait caps one wait, jitter and the server's Retry-After included. Zero:
	// 60 s.
	MaxWait time.Duration
	// MaxTotal caps the sum of the waits of one call; a wait that would pass it
	// is not begun. Zero: 2 minutes.
	MaxTotal time.Duration
	// AttemptTimeout bounds one attempt from its start to its last chunk; what
	// runs over it fails with class timeout and is retried. Zero: no bound but
	// the caller's.
	AttemptTimeout time.Duration
	// Clock measures waits. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of each failed attempt that another one follows
	// ([messages.ProviderRetry]). It must not block. nil: nobody.
	Observe func(messages.Event)
}

// Check returns an error of class invalid that names the first field that is
// out of range.
func (c RetryConfig) Check() error {
	switch {
	case c.Attempts < 0:
		return badField("retry", "attempts", c.Attempts, "a number of at least 1, or 0 for 4")
	case c.Initial < 0:
		return badField("retry", "initial", c.Initial, "a positive duration, or 0 for 1s")
	case c.Factor != 0 && (c.Factor < 1 || math.IsNaN(c.Factor) || math.IsInf(c.Factor, 0)):
		return badField("retry", "factor", c.Factor, "a number of at least 1, or 0 for 2")
	case c.Jitter > 1 || math.IsNaN(c.Jitter):
		return badField("retry", "jitter", c.Jitter, "at most 1; 0 for 0.5, negative for none")
	case c.MaxWait < 0:
		return badField("retry", "max_wait", c.MaxWait, "a positive duration, or 0 for 60s")
	case c.MaxTotal < 0:
		return badField("retry", "max_total", c.MaxTotal, "a positive duration, or 0 for 2m")
	case c.AttemptTimeout < 0:
		return badField("retry", "attempt_timeout", c.AttemptTimeout, "a positive duration, or 0 for none")
	}
	return nil
}

func (c RetryConfig) withDefaults() RetryConfig {
	if c.Attempts == 0 {
		c.Attempts = 4
	}
	if c.Initial == 0 {
		c.Initial = time.Second
	}
	if c.Factor == 0 {
		c.Factor = 2
	}
	if c.Jitter == 0 {
		c.Jitter = 0.5
	}
	if c.MaxWait == 0 {
		c.MaxWait = time.Minute
	}
	if c.MaxTotal == 0 {
		c.MaxTotal = 2 * time.Minute
	}
	if c.Clock == nil {
		c.Clock = clockwork.NewRealClock()
	}
	return c
}

// Retry makes a call again when its failure is [messages.Class.Retryable]:
// exponential backoff with jitter, raised to the server's Retry-After, and
// never past the caller's deadline. It holds no state between calls.
//
// Before the first chunk a retry is silent. After it, the next attempt's chunks
// carry a higher [Chunk.Attempt], the first of them with [Chunk.Broken]. When
// the attempts are spent, or the next wait would pass a limit, the last failure
// is returned at once: its class is kept, Attempts says how many there were,
// and Others are the failures before it. A panic is not retried.
type Retry struct{ cfg RetryConfig }

// NewRetry fails only with cfg's Check.
func NewRetry(cfg RetryConfig) (*Retry, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	return &Retry{cfg.withDefaults()}, nil
}

// Wrap is a [Middleware].
func (r *Retry) Wrap(m Model) Model {
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		return func(yield func(Chunk, error) bool) {
			c := &retried{cfg: &r.cfg, ctx: ctx, start: r.cfg.Clock.Now(), yield: yield}
			for again := true; again; {
				err := c.attempt(m, req)
				again = err != nil && c.waitAfter(err)
			}
		}
	})
}

// retried is one call on its way through its attempts.
type retried struct {
	cfg    *RetryConfig
	ctx    context.Context
	yield  func(Chunk, error) bool
	start  time.Time
	tries  int // attempts begun
	waited time.Duration
	waits  *backoff.ExponentialBackOff
	before []*messages.Error // failures of earlier attempts
	broken error             // why what was delivered last is to be discarded

	// of the attempt under way
	failure                error
	delivered, ended, left bool // a chunk, the last chunk; the caller broke off
}

// attempt makes one attempt and returns its failure, nil when the call is over.
func (c *retried) attempt(m Model, req *Request) error {
	c.tries++
	c.failure, c.delivered, c.ended = nil, false, false
	ctx := c.ctx
	if c.cfg.AttemptTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = clockwork.WithTimeout(ctx, c.cfg.Clock, c.cfg.AttemptTimeout)
		defer cancel()
	}
	m.Stream(ctx, req)(c.each)
	switch {
	case c.left || c.failure == nil && c.ended:
		return nil
	case c.failure == nil:
		c.failure = messages.Errorf(messages.Transient, c.cfg.Name, "the stream ended before its last chunk")
	case ctx.Err() != nil && c.ctx.Err() == nil:
		c.failure = messages.Errorf(messages.Timeout, c.cfg.Name, "attempt %d took longer than its %v: %w", c.tries, c.cfg.AttemptTimeout, c.failure)
	}
	if c.delivered {
		c.broken = c.failure
	}
	return c.failure
}

// each passes a chunk on under the attempt's number, and keeps an error.
func (c *retried) each(chunk Chunk, err error) bool {
	if err != nil {
		c.failure = err
		return false
	}
	chunk.Attempt = c.tries
	chunk.Broken, c.broken = c.broken, nil
	if chunk.Stop != "" {
		c.ended = true
		if c.tries > 1 {
			chunk.Usage.Duration = c.cfg.Clock.Since(c.start)
		}
	}
	c.delivered = true
	c.left = !c.yield(chunk, nil)
	return !c.left
}

// waitAfter waits for the next attempt's time and returns true, or yields the
// call's final error and returns false.
func (c *retried) waitAfter(failure error) bool {
	class := messages.ClassOf(failure)
	if !class.Retryable() || c.ctx.Err() != nil {
		c.fail(failure)
		return false
	}
	wait, ok := c.next(failure)
	if !ok {
		c.fail(failure)
		return false
	}
	e := messages.AsError(failure, class, c.cfg.Name)
	if c.cfg.Observe != nil {
		c.cfg.Observe(messages.Event{
			Kind: messages.ProviderRetry, Time: c.cfg.Clock.Now(), Name: c.cfg.Name,
			Attempt: c.tries, Wait: wait, Class: class, Error: e,
		})
	}
	c.before = append(c.before, e)
	timer := c.cfg.Clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		c.waited += wait
		return true
	case <-c.ctx.Done():
		c.fail(messages.Errorf(messages.ClassOf(c.ctx.Err()), c.cfg.Name, "gave up waiting to retry: %w", c.ctx.Err()))
		return false
	}
}

// next returns the wait before the next attempt; false when there is none.
func (c *retried) next(failure error) (time.Duration, bool) {
	if c.tries >= c.cfg.Attempts {
		return 0, false
	}
	if c.waits == nil {
		c.waits = &backoff.ExponentialBackOff{
			InitialInterval:     c.cfg.Initial,
			Multiplier:          c.cfg.Factor,
			MaxInterval:         c.cfg.MaxWait,
			RandomizationFactor: max(c.cfg.Jitter, 0),
		}
	}
	wait := c.waits.NextBackOff()
	if e := messages.AsError(failure, "", ""); e.RetryAfter > wait {
		wait = e.RetryAfter
	}
	wait = min(wait, c.cfg.MaxWait)
	if c.waited+wait > c.cfg.MaxTotal {
		return 0, false
	}
	if deadline, ok := c.ctx.Deadline(); ok && c.cfg.Clock.Now().Add(wait).After(deadline) {
		return 0, false
	}
	return wait, true
}

// fail yields the call's last error. A first and only failure passes as it is.
func (c *retried) fail(failure error) {
	if c.tries > 1 || len(c.before) > 0 {
		e := *messages.AsError(failure, messages.ClassOf(failure), c.cfg.Name)
		e.Attempts, e.Others = c.tries, c.before
		failure = &e
	}
	c.yield(Chunk{}, failure)
}

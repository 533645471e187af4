package provider

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// Retry makes a call again when its failure's class is one of
// [RetryConfig.Classes]: exponential backoff with jitter, raised to the server's
// Retry-After, and never past the caller's deadline. It holds no state between
// calls.
//
// Before the first chunk a retry is silent. When an attempt breaks after it, a
// chunk without content follows at once, before the wait: its [Chunk.Attempt] is
// the next attempt's, and [Chunk.Broken] says how much was delivered in vain.
// When the attempts are spent, or the next wait would pass a limit, the last
// failure is returned at once: its class is kept, Attempts says how many there
// were, and Others are the failures before it. A panic is not retried.
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
		return func(yield func(Chunk, error) bool) { r.stream(ctx, m, req, yield) }
	})
}

func (r *Retry) stream(ctx context.Context, m Model, req *Request, yield func(Chunk, error) bool) {
	c := &retried{cfg: &r.cfg, ctx: ctx, req: req, start: r.cfg.Clock.Now(), yield: yield}
	c.most, c.initial = r.cfg.Attempts, r.cfg.Initial
	if a := r.cfg.Adaptive; a != nil {
		c.most, c.initial = a.Policy(c.most, c.initial)
	}
	var err error
	for again := true; again; {
		err = c.attempt(m)
		again = err != nil && c.again(err)
	}
	if a := r.cfg.Adaptive; a != nil && (err == nil && c.ended || err != nil && ctx.Err() == nil && canBlame(messages.ClassOf(err))) {
		a.Record(err == nil)
	}
}

// retried is one call on its way through its attempts.
type retried struct {
	cfg     *RetryConfig
	ctx     context.Context
	req     *Request
	yield   func(Chunk, error) bool
	start   time.Time
	most    int           // attempts in all
	initial time.Duration // the first wait
	tries   int           // attempts begun
	waited  time.Duration
	waits   *waits
	before  []*messages.Error // failures of earlier attempts

	// of the attempt under way
	failure                error
	delivered, ended, left bool // a chunk, the last chunk; the caller broke off
	bytes                  int  // of text delivered
}

// attempt makes one attempt and returns its failure, nil when the call is over.
func (c *retried) attempt(m Model) error {
	c.tries++
	c.failure, c.delivered, c.ended, c.bytes = nil, false, false, 0
	begun := c.start
	if c.tries > 1 {
		begun = c.cfg.Clock.Now()
	}
	ctx := c.ctx
	if c.cfg.AttemptTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = clockwork.WithTimeout(ctx, c.cfg.Clock, c.cfg.AttemptTimeout)
		defer cancel()
	}
	m.Stream(ctx, c.req)(c.each)
	switch {
	case c.left:
		return nil
	case c.failure == nil && c.ended:
	case c.failure == nil:
		c.failure = messages.Errorf(messages.Transient, c.cfg.Name, "the stream ended before its last chunk")
	case ctx.Err() != nil && c.ctx.Err() == nil:
		c.failure = messages.Errorf(messages.Timeout, c.cfg.Name, "attempt %d took longer than its %v: %w", c.tries, c.cfg.AttemptTimeout, c.failure)
	}
	if c.cfg.Observe != nil {
		now := c.cfg.Clock.Now()
		class := messages.ClassOf(c.failure)
		c.cfg.Observe(about(c.req, messages.Event{
			Kind: messages.ProviderAttempt, Time: now, Name: c.cfg.Name, Attempt: c.tries, Wait: now.Sub(begun),
			Class: class, Error: messages.AsError(c.failure, class, c.cfg.Name),
		}))
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
	c.bytes += len(chunk.Text)
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

// again waits for the next attempt's time and returns true, or yields the call's
// final error and returns false; also when the caller left.
func (c *retried) again(failure error) bool {
	class := messages.ClassOf(failure)
	if !slices.Contains(c.cfg.Classes, class) || c.ctx.Err() != nil {
		c.failed(failure, true)
		return false
	}
	wait, ok := c.next(class, failure)
	if !ok {
		c.failed(failure, true)
		return false
	}
	e := messages.AsError(failure, class, c.cfg.Name)
	if c.cfg.Observe != nil {
		c.cfg.Observe(about(c.req, messages.Event{
			Kind: messages.ProviderRetry, Time: c.cfg.Clock.Now(), Name: c.cfg.Name,
			Attempt: c.tries, Wait: wait, Class: class, Error: e,
		}))
	}
	if c.delivered {
		broken := fmt.Errorf("attempt %d broke after %d bytes of text, attempt %d follows in %v: %w",
			c.tries, c.bytes, c.tries+1, wait.Round(time.Millisecond), failure)
		if !c.yield(Chunk{Attempt: c.tries + 1, Broken: broken}, nil) {
			return false
		}
	}
	c.before = append(c.before, e)
	if err := c.sleep(wait); err != nil {
		c.fail(messages.Errorf(messages.ClassOf(err), c.cfg.Name, "gave up waiting to retry: %w", err))
		return false
	}
	c.waited += wait
	if c.cfg.Before == nil {
		return true
	}
	if err := c.cfg.Before(c.ctx, c.req, c.tries+1); err != nil {
		c.refused(err)
		return false
	}
	return true
}

func (c *retried) sleep(wait time.Duration) error {
	timer := c.cfg.Clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// next returns the wait before the next attempt; false when there is none.
func (c *retried) next(class messages.Class, failure error) (time.Duration, bool) {
	if c.tries >= c.most {
		return 0, false
	}
	if c.waits == nil {
		c.waits = newWaits(c.cfg, c.initial)
	}
	wait := c.waits.next(class, messages.AsError(failure, "", "").RetryAfter)
	if c.waited+wait > c.cfg.MaxTotal {
		return 0, false
	}
	if deadline, ok := c.ctx.Deadline(); ok && c.cfg.Clock.Now().Add(wait).After(deadline) {
		return 0, false
	}
	return wait, true
}

// fail yields the call's last error. A first and only failure that delivered
// nothing passes as it is.
func (c *retried) fail(failure error) { c.failed(failure, false) }

func (c *retried) failed(failure error, own bool) {
	vain := own && c.delivered
	if c.tries > 1 || len(c.before) > 0 || vain {
		e := *messages.AsError(failure, messages.ClassOf(failure), c.cfg.Name)
		e.Attempts, e.Others = c.tries, append(slices.Clone(e.Others), c.before...)
		if vain {
			text := e.Message
			if text == "" {
				text = failure.Error()
			}
			e.Message = fmt.Sprintf("broke after %d bytes of text, no attempt follows: %s", c.bytes, text)
		}
		failure = &e
	}
	c.yield(Chunk{}, failure)
}

// refused yields the error of a call whose next attempt was not allowed: the
// last failure, as for every limit, with the refusal after those before it; or
// the refusal, when it is the caller's end.
func (c *retried) refused(err error) {
	if c.ctx.Err() != nil {
		c.fail(err)
		return
	}
	c.before[len(c.before)-1] = messages.AsError(err, messages.ClassOf(err), c.cfg.Name)
	c.failed(c.failure, true)
}

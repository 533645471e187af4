package provider

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/covey-run/covey/messages"
)

// answering is one call on its way to an answer that can be used.
type answering struct {
	cfg    *OutputConfig
	ctx    context.Context
	first  *Request
	yield  func(Chunk, error) bool
	start  time.Time
	wanted Wanted

	made      int // attempts
	refused   int // of them, answers that could not be used
	waited    time.Duration
	before    []*messages.Error
	usage     messages.Usage // of refused answers
	base      int            // attempts as chunks count them
	delivered bool           // a chunk of this attempt went out
	bytes     int            // of its text
	last      Chunk          // the attempt's last chunk, held back
	left      bool           // the caller broke off
}

// attempt makes one call and judges its answer. It returns the next request,
// nil when the call is over.
func (c *answering) attempt(m Model, req *Request) *Request {
	c.made++
	c.last, c.delivered, c.bytes = Chunk{}, false, 0
	highest := 1
	reply, err := Collect(c.live(m.Stream(c.ctx, req), &highest), nil)
	c.base += highest
	switch {
	case c.left:
		return nil
	case err != nil:
		return c.failed(req, err)
	}
	if len(reply.Message.ToolCalls) > 0 {
		c.finish(reply, "", nil, verdict{})
		return nil
	}
	meaning, strategy, v, bad := c.judge(req, reply)
	if bad == nil {
		c.finish(reply, strategy, &meaning, v)
		return nil
	}
	c.usage = c.usage.Add(reply.Usage)
	return c.refuse(reply, bad)
}

// streams reports whether chunks go out before the answer is judged.
func (c *answering) streams() bool {
	return !c.wanted.JSON() && !slices.ContainsFunc(c.wanted.Strategies, func(s Strategy) bool { return !s.Raw })
}

// live passes a stream through, and to the caller if the text is free; the last
// chunk is held back.
func (c *answering) live(seq iter.Seq2[Chunk, error], highest *int) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		for chunk, err := range seq {
			if err == nil {
				*highest = max(*highest, chunk.Attempt)
				if chunk.Stop != "" {
					c.last = chunk
				} else if c.streams() && !c.pass(chunk) {
					return
				}
			}
			if !yield(chunk, err) || err != nil {
				return
			}
		}
	}
}

// pass yields a chunk under the call's own count of attempts.
func (c *answering) pass(chunk Chunk) bool {
	if c.made > 1 {
		chunk.Attempt = c.base + max(chunk.Attempt, 1)
	}
	c.delivered = true
	c.bytes += len(chunk.Text)
	c.left = !c.yield(chunk, nil)
	return !c.left
}

// finish yields the last chunk. meaning is nil for a reply that was not judged.
func (c *answering) finish(reply *Reply, strategy string, meaning *string, v verdict) {
	last := c.last
	if !c.streams() {
		last = reply.chunk()
		if last.Attempt > 1 || c.made > 1 {
			last.Attempt = c.base
		}
		if meaning != nil {
			last.Text = *meaning
		}
	} else if c.made > 1 {
		last.Attempt = c.base
	}
	if meaning != nil {
		o := messages.Origin{}
		if last.Origin != nil {
			o = *last.Origin
		}
		o.Strategy, o.Confidence = strategy, v.confidence
		if v.confidence <= c.cfg.Accept && len(c.cfg.Validators) > 0 {
			o.Note = fmt.Sprintf("confidence %.2f", v.confidence)
			if v.notes != "" {
				o.Note += ": " + v.notes
			}
		}
		last.Origin = &o
	}
	if c.made > 1 {
		last.Usage = c.usage.Add(last.Usage)
		last.Usage.Duration = c.cfg.Clock.Since(c.start)
	}
	c.yield(last, nil)
}

// judge reads an answer. bad says why it cannot be used.
func (c *answering) judge(req *Request, reply *Reply) (meaning, strategy string, v verdict, bad *TierError) {
	meaning, strategy, err := Parse(reply.Message.Content, c.wanted)
	if err != nil {
		bad = &TierError{Tier: TierParse, Retry: messages.ClassOf(err) != messages.Invalid, Err: err}
		switch reply.Stop {
		case messages.StopFiltered:
			bad.Retry, bad.Err = false, messages.Errorf(messages.Malformed, "", "the provider withheld the answer: %w", err)
		case messages.StopLength:
			bad.Err = messages.Errorf(messages.ClassOf(err), "", "it is cut off at the limit of tokens: %w", err)
		}
		return "", "", v, bad
	}
	v, err = validate(c.ctx, c.cfg.Validators, req, meaning)
	switch {
	case err != nil && refuses(err):
		bad = &TierError{Tier: TierValidation, Retry: true, Err: messages.Errorf(messages.Malformed, "", "%w", err)}
	case err != nil:
		bad = &TierError{Tier: TierValidation, Err: err}
	case len(c.cfg.Validators) > 0 && v.confidence < c.cfg.Reject:
		why := v.notes
		if why == "" {
			why = "the validators are not content"
		}
		bad = &TierError{Tier: TierValidation, Retry: true, Err: messages.Errorf(messages.Malformed, "",
			"confidence %.2f, at least %.2f is needed: %s", v.confidence, c.cfg.Reject, why)}
	}
	return meaning, strategy, v, bad
}

// refuse decides what follows an answer that cannot be used.
func (c *answering) refuse(reply *Reply, bad *TierError) *Request {
	c.refused++
	class := messages.ClassOf(bad)
	e := messages.Errorf(class, c.cfg.Name, "%w", bad)
	wait, ok := c.next(0)
	if !bad.Retry || !ok || c.ctx.Err() != nil {
		c.fail(e)
		return nil
	}
	var next *Request
	how := "repair"
	switch {
	case c.refused <= c.cfg.Repairs:
		next = c.cfg.Repair(c.first, reply, bad.Err)
	case c.cfg.Simplify != nil:
		how, next = "simpler", c.cfg.Simplify(c.first, bad.Err)
	default:
		how, next = "simpler", simplerPrompt(c.first, c.wanted, bad.Err)
	}
	if !c.pause(e, how, wait) {
		return nil
	}
	if next.Key == c.first.Key && next.Key != "" {
		again := *next
		again.Key = fmt.Sprintf("%s#%d", next.Key, c.made+1)
		next = &again
	}
	return next
}

// failed decides what follows a call that failed.
func (c *answering) failed(req *Request, failure error) *Request {
	class := messages.ClassOf(failure)
	e := messages.AsError(failure, class, c.cfg.Name)
	wait, ok := c.next(e.RetryAfter)
	if !c.cfg.RetryCalls || !class.Retryable() || !ok || c.ctx.Err() != nil {
		if len(c.before) > 0 {
			failure = with(e, c.before, c.base)
		}
		c.yield(Chunk{}, failure)
		return nil
	}
	if !c.pause(e, "again", wait) {
		return nil
	}
	return req
}

// next returns the wait before the next attempt; false when there is none.
func (c *answering) next(least time.Duration) (time.Duration, bool) {
	if c.made >= c.cfg.Attempts {
		return 0, false
	}
	wait := c.cfg.Wait << (c.made - 1)
	if c.cfg.Wait > 0 && (wait>>(c.made-1) != c.cfg.Wait || wait < 0) {
		return 0, false // beyond any cap
	}
	wait = max(wait, least)
	if c.waited+wait > c.cfg.MaxTotal {
		return 0, false
	}
	if deadline, ok := c.ctx.Deadline(); ok && c.cfg.Clock.Now().Add(wait).After(deadline) {
		return 0, false
	}
	return wait, true
}

// pause tells what failed, keeps it and waits; false when the caller's context
// ended the call.
func (c *answering) pause(e *messages.Error, how string, wait time.Duration) bool {
	c.before = append(c.before, e)
	if c.cfg.Observe != nil {
		c.cfg.Observe(messages.Event{
			Kind: messages.OutputRepaired, Time: c.cfg.Clock.Now(), Name: c.cfg.Name, Session: c.first.Session,
			Attempt: c.made, Text: how, Wait: wait, Class: e.Class, Error: e,
		})
	}
	if c.delivered && !c.yield(brokenOff(c.base, c.bytes, e), nil) {
		return false
	}
	if wait == 0 {
		return true
	}
	timer := c.cfg.Clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.Chan():
		c.waited += wait
		return true
	case <-c.ctx.Done():
		e := messages.Errorf(messages.ClassOf(c.ctx.Err()), c.cfg.Name, "gave up waiting to ask again: %w", c.ctx.Err())
		c.yield(Chunk{}, with(e, c.before, c.base))
		return false
	}
}

// fail yields the error of a call whose last answer was refused.
func (c *answering) fail(e *messages.Error) {
	if c.made == 1 {
		c.yield(Chunk{}, e)
		return
	}
	end := messages.Errorf(e.Class, c.cfg.Name, "no usable answer after %d attempts: %w", c.made, e.Unwrap())
	c.yield(Chunk{}, with(end, c.before, c.base))
}

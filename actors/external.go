package actors

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// offerEvery is how often an ask is offered again to the program that works on
// it: it may have been started anew.
const offerEvery = 10 * time.Second

// relay has a program answer the ask: it is offered until the program's reply
// has come to the member's own address.
func (t *turn) relay(ctx context.Context) (messages.Answer, error) {
	s, program := t.scope, t.agent.External
	ask := t.ask
	ask.From = t.path // where the reply goes
	e := messages.Envelope{Run: s.run, Writer: s.owner, Step: ask.Step, Body: &ask}
	absent := supervisor.Backoff{Initial: 100 * time.Millisecond, Max: 5 * time.Second}
	for misses := 0; ; {
		if err := s.proceed(); err != nil {
			return messages.Answer{}, err
		}
		e.Time = s.rt.sys.Clock().Now()
		err := s.rt.bus.Offer(ctx, program, e)
		wait := offerEvery
		switch c := messages.ClassOf(err); {
		case err == nil:
			misses = 0
			t.say(messages.Running, fmt.Sprintf("step %s: %s works on it", ask.Step, program), time.Time{})
		case ctx.Err() != nil:
			return messages.Answer{}, ended(ctx, t.path)
		case c == messages.Unavailable || c.Retryable():
			misses++
			wait = absent.Wait(misses, nil)
			until := s.rt.sys.Clock().Now().Add(wait)
			t.say(messages.Parked, fmt.Sprintf("step %s: waits for a program that serves %s", ask.Step, program), until)
			if misses == 1 {
				t.emit(messages.Event{Kind: messages.TurnParked, Name: program, Class: c, Error: messages.AsError(err, c, t.path), Wait: wait, Until: until})
			}
		default:
			return messages.Answer{}, err
		}
		timer := s.rt.sys.Clock().NewTimer(wait)
		select {
		case r := <-t.replies:
			timer.Stop()
			return t.external(ctx, r)
		case <-timer.Chan():
		case <-s.drained:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return messages.Answer{}, ended(ctx, t.path)
		}
	}
}

// external is what a program's reply is to whoever asked.
func (t *turn) external(ctx context.Context, r messages.Reply) (messages.Answer, error) {
	switch {
	case r.Error != nil:
		return messages.Answer{}, r.Error
	case r.Answer == nil:
		return messages.Answer{}, messages.Errorf(messages.Malformed, t.path, "the reply of %s to step %s holds neither an answer nor an error", t.agent.External, r.Step)
	}
	text := strings.TrimSpace(r.Answer.Text)
	if err := t.judge(ctx, text); err != nil {
		return messages.Answer{}, messages.Errorf(messages.Malformed, t.path, "the answer of %s cannot be used: %w", t.agent.External, err)
	}
	return messages.Answer{Run: t.scope.run, By: t.path, Text: text, Usage: r.Answer.Usage, Model: r.Answer.Model, Stop: r.Answer.Stop}, nil
}

// replied hands a program's reply over; a second one falls away.
func (t *turn) replied(r messages.Reply) {
	if r.Step != t.ask.Step {
		return
	}
	select {
	case t.replies <- r:
	default:
	}
}

package actors

import (
	"context"
	"slices"
	"sync"

	"github.com/covey-run/covey/messages"
)

// poisonAfter is how many crashes one step may cause before it is quarantined.
const poisonAfter = 3

// asks are a host's questions that wait for an answer, oldest first. They are
// kept outside the members, and so survive them. It is safe for concurrent use.
type asks struct {
	mu   sync.Mutex
	open []*openAsk
}

type openAsk struct {
	ask     messages.Ask
	reply   chan messages.Reply // 1
	crashes []*messages.Error
}

// put sends an ask and waits for its reply.
func (q *asks) put(ctx context.Context, s *scope, a messages.Ask) (messages.Reply, error) {
	o := &openAsk{ask: a, reply: make(chan messages.Reply, 1)}
	q.mu.Lock()
	q.open = append(q.open, o)
	q.mu.Unlock()
	defer q.remove(o)
	if err := s.send(ctx, a.To, &a); err != nil {
		return messages.Reply{}, err
	}
	select {
	case r := <-o.reply:
		return r, nil
	case <-ctx.Done():
		return messages.Reply{}, ended(ctx, s.run)
	}
}

func (q *asks) remove(o *openAsk) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = slices.DeleteFunc(q.open, func(x *openAsk) bool { return x == o })
}

// settle hands a reply to whoever waits for it; a second one falls away.
func (q *asks) settle(r messages.Reply) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, o := range q.open {
		if o.ask.Step == r.Step && o.ask.To == r.From {
			select {
			case o.reply <- r:
			default:
			}
		}
	}
}

// crashed counts a member's crash against the ask that it was working on: the
// oldest. One that has crashed its member too often is answered as poison. The
// others, which must be sent again, are returned.
func (q *asks) crashed(member string, failure *messages.Error) (again []messages.Ask) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := true
	for _, o := range q.open {
		if o.ask.To != member {
			continue
		}
		if first {
			first = false
			o.crashes = append(o.crashes, failure)
			if len(o.crashes) >= poisonAfter {
				e := messages.Errorf(messages.Poison, member, "step %s crashed its agent %d times and is quarantined: %w", o.ask.Step, len(o.crashes), failure)
				e.Stack, e.Others = failure.Stack, o.crashes
				o.answer(messages.Reply{Step: o.ask.Step, From: member, Error: e})
				continue
			}
		}
		again = append(again, o.ask)
	}
	return again
}

// fail answers everything that a member was asked.
func (q *asks) fail(member string, err *messages.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, o := range q.open {
		if o.ask.To == member {
			o.answer(messages.Reply{Step: o.ask.Step, From: member, Error: err})
		}
	}
}

func (o *openAsk) answer(r messages.Reply) {
	select {
	case o.reply <- r:
	default:
	}
}

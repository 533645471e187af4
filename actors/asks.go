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
	down map[string]*messages.Error // the members that answer no more, and why
}

type openAsk struct {
	ask     messages.Ask
	reply   chan reply // 1
	settled bool       // something was put into reply
	crashes []*messages.Error
}

// reply is what an ask came to.
type reply struct {
	messages.Reply
	ours bool // made by the host, in place of a member that cannot answer
}

// answer hands a reply over; a second one falls away. asks.mu is held.
func (o *openAsk) answer(r reply) {
	if !o.settled {
		o.settled = true
		o.reply <- r
	}
}

func (o *openAsk) fail(err *messages.Error) {
	o.answer(reply{messages.Reply{Step: o.ask.Step, From: o.ask.To, Error: err}, true})
}

// put sends an ask and waits for its reply, until ctx ends.
func (q *asks) put(ctx context.Context, run string, a messages.Ask, send func() error) (reply, error) {
	o := &openAsk{ask: a, reply: make(chan reply, 1)}
	q.mu.Lock()
	if down := q.down[a.To]; down != nil {
		o.fail(down)
		q.mu.Unlock()
		return <-o.reply, nil
	}
	q.open = append(q.open, o)
	q.mu.Unlock()
	defer q.remove(o)
	if err := send(); err != nil {
		return reply{}, err
	}
	select {
	case r := <-o.reply:
		return r, nil
	case <-ctx.Done():
		return reply{}, ended(ctx, run)
	}
}

func (q *asks) remove(o *openAsk) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = slices.DeleteFunc(q.open, func(x *openAsk) bool { return x == o })
}

// each calls f for the open asks of a member, or for one step of them.
func (q *asks) each(member, step string, f func(o *openAsk)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, o := range q.open {
		if o.ask.To == member && (step == "" || o.ask.Step == step) {
			f(o)
		}
	}
}

// settle hands a reply to whoever waits for it.
func (q *asks) settle(r messages.Reply) {
	if r.Step != "" {
		q.each(r.From, r.Step, func(o *openAsk) { o.answer(reply{Reply: r}) })
	}
}

// crashed counts a crash against the step that the member was working on. One
// that has crashed its member too often is answered as poison.
func (q *asks) crashed(member, step string, failure *messages.Error) {
	if step == "" {
		return
	}
	q.each(member, step, func(o *openAsk) {
		o.crashes = append(o.crashes, failure)
		if n := len(o.crashes); n >= poisonAfter {
			e := messages.Errorf(messages.Poison, member, "step %s crashed its agent %d times and is quarantined: %w", step, n, failure)
			e.Stack, e.Others = failure.Stack, o.crashes
			o.fail(e)
		}
	})
}

// again are the asks that a new incarnation of a member must be sent: those that
// nobody has answered. From here on the member can be asked, if it could not.
func (q *asks) again(member string) (asks []messages.Ask) {
	q.mu.Lock()
	delete(q.down, member)
	q.mu.Unlock()
	return q.unanswered(member)
}

// unanswered are the asks of a member that nobody has answered.
func (q *asks) unanswered(member string) (asks []messages.Ask) {
	q.each(member, "", func(o *openAsk) {
		if !o.settled {
			asks = append(asks, o.ask)
		}
	})
	return asks
}

// fail answers everything that a member was asked, and will be asked until it
// starts again.
func (q *asks) fail(member string, err *messages.Error) {
	q.mu.Lock()
	if q.down == nil {
		q.down = map[string]*messages.Error{}
	}
	q.down[member] = err
	q.mu.Unlock()
	q.each(member, "", func(o *openAsk) { o.fail(err) })
}

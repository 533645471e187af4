package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/covey-run/covey/messages"
)

const (
	// pullFor is how long one pull waits at the server for a task.
	pullFor = 5 * time.Second
	// unserved is after how long without a sign of life the server forgets a
	// one-run queue's consumers. The task stays: a new consumer finds it.
	unserved = time.Hour
)

// puller takes the tasks of one queue, those of a higher priority first, one at a
// time. It keeps one inbox of its own, rather than one for each pull, so that a
// task which crosses with the end of a pull is never lost.
type puller struct {
	q     *queue
	name  string
	lanes []*lane // the highest priority first
	inbox string  // pull n is answered on inbox.n; tasks come under their own subject
	n     int
	in    chan *nats.Msg
	sub   *nats.Subscription
}

// lane is one priority of a queue, and the one pull that it has at the server.
type lane struct {
	consumer, filter string
	asked            string    // where the pull is answered, "" for none
	until            time.Time // when a pull without an answer is given up
}

func newPuller(ctx context.Context, q *queue, name string) (*puller, error) {
	p := &puller{q: q, name: name, in: make(chan *nats.Msg, 64), inbox: q.nc.NewInbox()}
	for _, prio := range messages.Priorities() {
		p.lanes = append(p.lanes, &lane{
			consumer: "covey-" + name + "-" + prio.String(),
			filter:   messages.Subject(messages.SubjectTasks, name, prio.String(), "*"),
		})
	}
	if err := p.makeConsumers(ctx); err != nil {
		return nil, err
	}
	sub, err := q.nc.ChanSubscribe(p.inbox+".*", p.in)
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "task queue")
	}
	p.sub = sub
	return p, nil
}

// makeConsumers makes the queue's consumers, or finds them.
func (p *puller) makeConsumers(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range p.lanes {
		c := jetstream.ConsumerConfig{
			Name:          l.consumer,
			FilterSubject: l.filter,
			AckPolicy:     jetstream.AckExplicitPolicy,
			AckWait:       p.q.AckWait,
			MaxDeliver:    -1,
			MaxAckPending: -1,
		}
		switch {
		case !p.q.Shared:
			c.MemoryStorage = true
			c.InactiveThreshold = 10 * 365 * 24 * time.Hour // as long as its server
		case isOwnQueue(p.name):
			c.MemoryStorage = true
			c.InactiveThreshold = unserved
		default:
			c.Durable = c.Name
		}
		g.Go(func() error {
			return p.q.Retrying.retry(ctx, "task queue: consumer "+c.Name, func(ctx context.Context) error {
				return guarded(ctx, p.q.nc, "$JS.API.CONSUMER.CREATE."+taskStream+"."+c.Name+".>", func(ctx context.Context) error {
					_, err := p.q.js.CreateOrUpdateConsumer(ctx, taskStream, c)
					return err
				})
			})
		})
	}
	return g.Wait()
}

// run pulls until ctx ends. A slot is taken first, and a task that waits is
// taken with it. Where none waits the slot is given back, so that an idle queue
// keeps no room from a busy one, and the pulls wait at the server without one.
func (p *puller) run(ctx context.Context) {
	defer p.close()
	for attempt := 0; ctx.Err() == nil; {
		err := p.room(ctx)
		got := false
		if err == nil {
			if got, err = p.take(ctx); !got {
				p.q.slots <- struct{}{}
			}
		}
		if err == nil && !got {
			err = p.idle(ctx)
		}
		if err == nil || ctx.Err() != nil {
			attempt = 0
			continue
		}
		attempt++
		p.recover(ctx, attempt, err)
	}
}

// recover waits before the next pull, and makes the consumers anew if the server
// lacks one.
func (p *puller) recover(ctx context.Context, attempt int, err error) {
	if p.q.Retrying.pause(ctx, "task queue "+p.name, attempt, time.Now(), err) != nil {
		return
	}
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, errConsumerGone) {
		if err := p.makeConsumers(ctx); err != nil && ctx.Err() == nil {
			p.q.bad(err)
		}
	}
}

var errConsumerGone = errors.New("the consumer is gone")

// room waits for a slot. A task that comes meanwhile, to a pull that was left at
// the server, goes to a node that has room.
func (p *puller) room(ctx context.Context) error {
	for {
		select {
		case <-p.q.slots:
			return nil
		case m := <-p.in:
			if _, err := p.hear(m, false); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take uses a slot for a task that waits, of the highest priority. A lane with a
// pull at the server has none, for that pull would have had it.
func (p *puller) take(ctx context.Context) (got bool, err error) {
	for len(p.in) > 0 {
		if task, err := p.hear(<-p.in, true); task || err != nil {
			return task, err
		}
	}
	for _, l := range p.lanes {
		if l.asked != "" && time.Now().Before(l.until) {
			continue
		}
		if err := p.ask(l, 0); err != nil {
			return false, err
		}
		for l.asked != "" {
			if task, err := p.answer(ctx, true); task || err != nil {
				return task, err
			}
		}
	}
	return false, nil
}

// idle waits, without a slot, until a task has come.
func (p *puller) idle(ctx context.Context) error {
	for {
		for _, l := range p.lanes {
			if l.asked == "" {
				if err := p.ask(l, pullFor); err != nil {
					return err
				}
			}
		}
		if task, err := p.answer(ctx, false); task || err != nil {
			return err
		}
	}
}

// ask asks the server for one task of a lane. With wait 0 it answers at once.
func (p *puller) ask(l *lane, wait time.Duration) error {
	req := struct {
		Batch   int           `json:"batch"`
		Expires time.Duration `json:"expires,omitempty"`
		NoWait  bool          `json:"no_wait,omitempty"`
	}{1, wait, wait == 0}
	b, err := json.Marshal(req)
	if err != nil {
		return err
	}
	p.n++
	inbox := p.inbox + "." + strconv.Itoa(p.n)
	if err := p.q.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+taskStream+"."+l.consumer, inbox, b); err != nil {
		return err
	}
	l.asked, l.until = inbox, time.Now().Add(wait+attemptTimeout)
	return nil
}

// answer waits for the next message to the inbox, or for a pull to be given up.
func (p *puller) answer(ctx context.Context, slot bool) (task bool, err error) {
	var first *lane
	for _, l := range p.lanes {
		if l.asked != "" && (first == nil || l.until.Before(first.until)) {
			first = l
		}
	}
	t := time.NewTimer(time.Until(first.until))
	defer t.Stop()
	select {
	case m := <-p.in:
		return p.hear(m, slot)
	case <-t.C:
		first.asked = ""
		return false, nats.ErrTimeout
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// hear takes a message to the inbox: a task, with the slot if there is one, or
// the end of a pull.
func (p *puller) hear(m *nats.Msg, slot bool) (task bool, err error) {
	s := status(m)
	if s == "" {
		if md, err := m.Metadata(); err == nil {
			p.answered(func(l *lane) bool { return l.consumer == md.Consumer })
		}
		p.q.arrived(m, slot)
		return true, nil
	}
	if s == "100" || !p.answered(func(l *lane) bool { return l.asked == m.Subject }) {
		return false, nil // no end, or that of a pull that was given up
	}
	switch s {
	case "404", "408": // none there, time is up
		return false, nil
	case "503":
		return false, nats.ErrNoResponders
	}
	return false, fmt.Errorf("%w: %s %s", errConsumerGone, s, m.Header.Get("Description"))
}

// answered notes that the pull of a lane has come to its end.
func (p *puller) answered(is func(*lane) bool) bool {
	for _, l := range p.lanes {
		if is(l) {
			l.asked = ""
			return true
		}
	}
	return false
}

// status is JetStream's status of a message, "" for a task.
func status(m *nats.Msg) string {
	if len(m.Header) == 0 {
		return ""
	}
	return m.Header.Get("Status")
}

// close ends the inbox, and hands back a task that was on its way to it: what
// the server sent before it heard of the end still arrives.
func (p *puller) close() {
	gone := make(chan struct{})
	p.sub.SetClosedHandler(func(string) { close(gone) })
	if err := p.sub.Drain(); err != nil {
		return // the connection is closed
	}
	t := time.NewTimer(attemptTimeout)
	defer t.Stop()
	for {
		select {
		case m := <-p.in:
			p.handBack(m)
		case <-gone:
			for len(p.in) > 0 {
				p.handBack(<-p.in)
			}
			return
		case <-t.C:
			return
		}
	}
}

func (p *puller) handBack(m *nats.Msg) {
	if status(m) == "" {
		_ = p.q.nc.Publish(m.Reply, ackNak) // else it comes again after AckWait
	}
}

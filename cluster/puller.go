package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pullFor is how long one pull waits at the server for a task.
const pullFor = 5 * time.Second

// puller takes one team's tasks from its consumer, one at a time. It keeps one
// inbox of its own, rather than one for each pull, so that a task which crosses
// with the end of a pull is never lost.
type puller struct {
	q       *queue
	team    string
	subject string // where pulls are asked for
	inbox   string // pull n is answered on inbox.n; tasks come under their own subject
	n       int
	in      chan *nats.Msg
	sub     *nats.Subscription
}

func newPuller(ctx context.Context, q *queue, team string) (*puller, error) {
	p := &puller{
		q: q, team: team, in: make(chan *nats.Msg, 64), inbox: q.nc.NewInbox(),
		subject: "$JS.API.CONSUMER.MSG.NEXT." + taskStream + "." + consumerName(team),
	}
	if err := p.makeConsumer(ctx); err != nil {
		return nil, err
	}
	sub, err := q.nc.ChanSubscribe(p.inbox+".*", p.in)
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "task queue")
	}
	p.sub = sub
	return p, nil
}

func consumerName(team string) string { return "covey-" + team }

// makeConsumer makes the team's consumer, or finds it.
func (p *puller) makeConsumer(ctx context.Context) error {
	c := jetstream.ConsumerConfig{
		Name:          consumerName(p.team),
		FilterSubject: messages.Subject(messages.SubjectTasks, p.team),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       p.q.AckWait,
		MaxDeliver:    -1,
		MaxAckPending: -1,
	}
	if p.q.Shared {
		c.Durable = c.Name
	} else {
		c.MemoryStorage = true
		c.InactiveThreshold = 10 * 365 * 24 * time.Hour // as long as its server
	}
	return p.q.Retrying.retry(ctx, "task queue: consumer of team "+p.team, func(ctx context.Context) error {
		_, err := p.q.js.CreateOrUpdateConsumer(ctx, taskStream, c)
		return err
	})
}

// run pulls until ctx ends. A slot is taken first, and a task that waits is
// taken with it. Where none waits the slot is given back, so that an idle team
// keeps no room from a busy one, and the pull waits at the server without one.
func (p *puller) run(ctx context.Context) {
	defer p.close()
	for attempt := 0; ctx.Err() == nil; {
		select {
		case <-p.q.slots:
		case <-ctx.Done():
			return
		}
		got, err := p.pull(ctx, 0, true)
		if !got {
			p.q.slots <- struct{}{}
		}
		if err == nil && !got {
			_, err = p.pull(ctx, pullFor, false)
		}
		if err == nil || ctx.Err() != nil {
			attempt = 0
			continue
		}
		attempt++
		p.recover(ctx, attempt, err)
	}
}

// recover waits before the next pull, and makes the consumer anew if the server
// has none.
func (p *puller) recover(ctx context.Context, attempt int, err error) {
	if p.q.Retrying.pause(ctx, "task queue: team "+p.team, attempt, time.Now(), err) != nil {
		return
	}
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, errConsumerGone) {
		if err := p.makeConsumer(ctx); err != nil && ctx.Err() == nil {
			p.q.bad(err)
		}
	}
}

var errConsumerGone = errors.New("the consumer is gone")

// pull asks for one task and takes what comes, with the slot if there is one.
// got means that the slot was used. With wait 0 the server answers at once.
func (p *puller) pull(ctx context.Context, wait time.Duration, slot bool) (got bool, err error) {
	select {
	case m := <-p.in: // from an earlier pull that was given up
		if status(m) == "" {
			p.q.arrived(m, slot)
			return slot, nil
		}
	default:
	}
	req := struct {
		Batch   int           `json:"batch"`
		Expires time.Duration `json:"expires,omitempty"`
		NoWait  bool          `json:"no_wait,omitempty"`
	}{1, wait, wait == 0}
	b, err := json.Marshal(req)
	if err != nil {
		return false, err
	}
	p.n++
	inbox := p.inbox + "." + strconv.Itoa(p.n)
	if err := p.q.nc.PublishRequest(p.subject, inbox, b); err != nil {
		return false, err
	}
	t := time.NewTimer(wait + attemptTimeout)
	defer t.Stop()
	for {
		select {
		case m := <-p.in:
			s := status(m)
			switch {
			case s == "":
				p.q.arrived(m, slot)
				return slot, nil
			case m.Subject != inbox: // the end of a pull that was given up
			case s == "404", s == "408": // none there, time is up
				return false, nil
			case s == "503":
				return false, nats.ErrNoResponders
			case s != "100":
				return false, fmt.Errorf("%w: %s %s", errConsumerGone, s, m.Header.Get("Description"))
			}
		case <-t.C:
			return false, nats.ErrTimeout
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
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

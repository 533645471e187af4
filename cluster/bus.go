package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
)

const (
	// busBacklog is how many messages may wait for the bus's one goroutine. More
	// are dropped by the NATS client, and their senders send again.
	busBacklog = 16384
	// busAttempt bounds the wait for one receipt before a message is sent again.
	busAttempt = time.Second
)

// busReceipt is the reply that says: it is in the mailbox. Any other reply is an
// error's JSON.
const busReceipt = "+OK"

// bus carries messages between members on core NATS: a request to the member's
// subject, answered as soon as the member's node has handed it over. All
// subscriptions of a node share one channel and one goroutine.
type bus struct {
	nc   *nats.Conn
	in   chan *nats.Msg
	quit chan struct{}
	done chan struct{}

	mu     sync.Mutex // guards the fields below; never held while a handler runs
	subs   map[*nats.Subscription]func(messages.Envelope)
	closed bool
}

// newBus starts a bus on nc.
func newBus(nc *nats.Conn) *bus {
	b := &bus{
		nc: nc, in: make(chan *nats.Msg, busBacklog), quit: make(chan struct{}), done: make(chan struct{}),
		subs: map[*nats.Subscription]func(messages.Envelope){},
	}
	go b.receive()
	return b
}

// Serve implements [actors.Bus]. Once it has returned, every node's Send finds
// the member; once stop has returned, no further call of handle begins.
func (b *bus) Serve(run, member string, handle func(messages.Envelope)) (stop func(), err error) {
	subject, err := busSubject(run, member)
	if err != nil {
		return nil, err
	}
	sub, err := b.subscribe(subject, handle)
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, subject)
	}
	stop = func() {
		b.mu.Lock()
		delete(b.subs, sub)
		b.mu.Unlock()
		_ = sub.Drain() // what is still on its way here is refused, not lost; fails only on a closed connection
	}
	// Without a connection there is nobody to wait for: it is restored with its
	// subscriptions.
	if err := b.nc.FlushTimeout(attemptTimeout); err != nil && b.nc.IsConnected() {
		stop()
		return nil, messages.AsError(err, messages.Unavailable, subject)
	}
	return stop, nil
}

func (b *bus) subscribe(subject string, handle func(messages.Envelope)) (*nats.Subscription, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, messages.Errorf(messages.Stopping, subject, "this node's bus is closed")
	}
	sub, err := b.nc.ChanSubscribe(subject, b.in)
	if err == nil {
		b.subs[sub] = handle
	}
	return sub, err
}

// Send implements [actors.Bus]. While the own connection is away it waits, until
// ctx ends.
func (b *bus) Send(ctx context.Context, run, member string, e messages.Envelope) error {
	subject, err := busSubject(run, member)
	if err != nil {
		return err
	}
	return b.send(ctx, subject, e)
}

// Offer implements [actors.Bus].
func (b *bus) Offer(ctx context.Context, program string, e messages.Envelope) error {
	if err := messages.CheckName("program", program); err != nil {
		return err
	}
	return b.send(ctx, messages.Subject(messages.SubjectMembers, program), e)
}

// send is a request until it is answered.
func (b *bus) send(ctx context.Context, subject string, e messages.Envelope) error {
	if e.Trace == "" {
		e.Trace = traceparent(ctx)
	}
	h, data, err := messages.Encode(e)
	if err != nil {
		return messages.AsError(err, messages.Invalid, subject)
	}
	m := &nats.Msg{Subject: subject, Header: h, Data: data}
	for attempt, first := 1, time.Now(); ; attempt++ {
		var r *nats.Msg
		tctx, cancel := context.WithTimeout(ctx, busAttempt)
		err := guarded(tctx, b.nc, subject, func(ctx context.Context) (err error) {
			r, err = b.nc.RequestMsgWithContext(ctx, m)
			return err
		})
		cancel()
		switch {
		case err == nil:
			return receipt(r.Data, subject)
		case errors.Is(err, nats.ErrNoResponders):
			return messages.Errorf(messages.Unavailable, subject, "nobody serves this address: %w", err)
		case errors.Is(err, nats.ErrMaxPayload):
			return messages.Errorf(messages.Invalid, subject, "message of %d bytes is too large, the server takes up to %d: %w", m.Size(), b.nc.MaxPayload(), err)
		case ctx.Err() == nil && !passes(err):
			return classed(err, subject)
		}
		if err := retrying(nil).pause(ctx, subject, attempt, first, err); err != nil {
			return err
		}
	}
}

// receipt reads the receiving node's answer.
func receipt(data []byte, subject string) error {
	if string(data) == busReceipt {
		return nil
	}
	e := new(messages.Error)
	if err := json.Unmarshal(data, e); err != nil {
		return messages.Errorf(messages.Invalid, subject, "%w: receipt %q", messages.ErrWire, data)
	}
	return e
}

func (b *bus) receive() {
	defer close(b.done)
	for {
		select {
		case m := <-b.in:
			b.take(m)
		case <-b.quit:
			return
		}
	}
}

// take hands one message over and sends the receipt. A message without an inbox
// for it is none of [bus.Send].
func (b *bus) take(m *nats.Msg) {
	if !toInbox(m.Reply) {
		return
	}
	b.mu.Lock()
	handle := b.subs[m.Sub]
	b.mu.Unlock()
	e, err := messages.Decode(m.Header, m.Data)
	switch {
	case handle == nil:
		err = messages.Errorf(messages.Unavailable, m.Subject, "this member has just stopped")
	case err == nil:
		handle(e)
		_ = m.Respond([]byte(busReceipt)) // without it the sender sends again
		return
	default:
		err = classed(err, m.Subject)
	}
	_ = m.Respond(receiptFor(err))
}

// close ends every subscription, and waits for a handler that is running.
func (b *bus) close() {
	b.mu.Lock()
	subs, again := b.subs, b.closed
	b.subs, b.closed = nil, true
	b.mu.Unlock()
	if again {
		<-b.done
		return
	}
	for s := range subs {
		_ = s.Unsubscribe()
	}
	close(b.quit)
	<-b.done
}

func busSubject(run, member string) (string, error) {
	if err := checkRun(run); err != nil {
		return "", err
	}
	for part := range strings.SplitSeq(member, "/") {
		if err := messages.CheckName("member", part); err != nil {
			return "", err
		}
	}
	return messages.Subject(messages.SubjectBus, run, member), nil
}

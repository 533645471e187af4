package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
)

// What a node says of a delivery to the server.
var (
	ackDone     = []byte("+ACK")
	ackNak      = []byte("-NAK")
	ackProgress = []byte("+WPI")
)

func nakAfter(d time.Duration) []byte { return fmt.Appendf(nil, `-NAK {"delay": %d}`, d.Nanoseconds()) }

// delivery is a task that this node holds. The server hears every third of
// AckWait that it does, until one of done, release and drop is called; what is
// called after the first of them does nothing.
type delivery struct {
	Task messages.Task
	// Deliveries counts how often the task was handed out, this time included.
	Deliveries int

	q   *queue
	ack string // guarded by q.mu: a redelivery to the same node replaces it
}

// Ack returns the subject that answers this delivery, for the run's claim: see
// [nakDeliveries].
func (d *delivery) Ack() string {
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	return d.ack
}

// done takes the task out of the queue for good, and returns when the server
// has said so. Call it only once the run's last record is in the journal. When
// it fails, the task is delivered again after AckWait.
func (d *delivery) done(ctx context.Context) error {
	if !d.letGo() {
		return nil
	}
	return d.q.Retrying.retry(ctx, "task "+d.Task.ID+": acknowledging it", func(ctx context.Context) error {
		_, err := d.q.nc.RequestWithContext(ctx, d.ack, ackDone)
		return err
	})
}

// release hands the task back, to be delivered after a delay; 0 means at once.
func (d *delivery) release(after time.Duration) error {
	if !d.letGo() {
		return nil
	}
	answer := ackNak
	if after > 0 {
		answer = nakAfter(after)
	}
	if err := d.q.nc.Publish(d.ack, answer); err != nil {
		return messages.Errorf(messages.Unavailable, "task "+d.Task.ID, "it comes again only after %v: %w", d.q.AckWait, err)
	}
	return nil
}

// drop forgets the task and tells the server nothing. It is for a node that was
// fenced: the task is another node's, and an answer from here would reach the
// other's delivery.
func (d *delivery) drop() { d.letGo() }

// letGo ends the holding and frees the room; false if it had ended before.
func (d *delivery) letGo() bool {
	q := d.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held[d.Task.ID] != d {
		return false
	}
	delete(q.held, d.Task.ID)
	q.slots <- struct{}{} // never blocks: the token was taken for this delivery
	return true
}

// nakDeliveries hands a dead node's tasks on, by the subjects that the runs'
// claims recorded, and returns when the server has the word. The tasks are
// delivered at once to nodes with room. Never call it for a node that may be
// alive: the server cannot tell an old delivery of a task from its present one.
func nakDeliveries(ctx context.Context, nc *nats.Conn, acks ...string) error {
	var bad error // of one, which keeps no other from being handed on
	for _, ack := range acks {
		if !strings.HasPrefix(ack, "$JS.ACK.") || !strings.Contains(ack, "."+taskStream+".") {
			bad = messages.Errorf(messages.Invalid, "task queue", "%q answers no delivery of a task", ack)
			continue
		}
		if err := nc.Publish(ack, ackNak); err != nil {
			return messages.AsError(err, messages.Unavailable, "task queue: handing on")
		}
	}
	if err := flush(ctx, nc); err != nil {
		return messages.AsError(err, messages.Unavailable, "task queue: handing on")
	}
	return bad
}

// flush returns when the server has everything that nc published before, within
// ctx and at most [attemptTimeout].
func flush(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return nc.FlushWithContext(ctx)
}

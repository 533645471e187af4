package cluster

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

const (
	// handOnRounds is how often, a second apart, a dead node's tasks are looked
	// after until somebody has claimed them: the server may first offer one to a
	// frozen node that still asks for tasks.
	handOnRounds = 10
	// handOnFor is how long the right to hand a node's tasks on is one survivor's.
	handOnFor = 30 * time.Second
	// sweepEvery is how often the queue is searched for tasks of owners who have
	// no lease: those that a survivor was handing on when it died itself.
	sweepEvery = time.Minute
)

// owner names this node, by its present lease.
func (n *Node) owner() string {
	if n.cluster == nil {
		return n.cfg.Name
	}
	return n.cluster.Self().Owner()
}

// fence stops what runs in the name of this node's lease, which is over. What
// was delivered under it is another node's now, or comes again.
func (n *Node) fence(why *messages.Error) {
	n.warn("this node stops what it works on")(why)
	n.emit(messages.NodeFenced, n.cfg.Name, why)
	if n.ready.Load() { // there is nothing to stop before
		n.rt.Fence(why)
	}
}

// lost hears of every lease that is over. A node that was draining has handed its
// tasks back itself: another may have been given them a moment ago.
func (n *Node) lost(i messages.NodeInfo) {
	n.emit(messages.NodeLost, i.Owner(), nil)
	if n.ready.Load() && n.running.Err() == nil { // the first sweep comes after
		were := 0
		if i.Draining {
			were = 1
		}
		n.sweeps.Go(func() {
			n.handOn(map[string]messages.Claim{i.Owner(): {Node: i.Node, Epoch: i.Epoch}}, were)
		})
	}
}

// joined hears of every lease that begins.
func (n *Node) joined(i messages.NodeInfo) { n.emit(messages.NodeJoined, i.Owner(), nil) }

// leave gives this node's lease back, and ends what looks after others'.
func (n *Node) leave(ctx context.Context) {
	n.halt()
	if n.cluster == nil {
		return
	}
	if err := n.cluster.leave(ctx); err != nil {
		n.warn("stopping")(err)
	}
	n.sweeps.Wait()
}

func (n *Node) emit(kind messages.EventKind, name string, err *messages.Error) {
	ev := messages.Event{Kind: kind, Time: n.cfg.Clock.Now(), Node: n.cfg.Name, Name: name, Error: err}
	if err != nil {
		ev.Class = err.Class
	}
	n.sys.Events().Emit(ev)
}

// sweep hands on, now and then, what owners without a lease have left behind.
func (n *Node) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(n.running, sweepEvery)
		held, err := n.heldTasks(ctx)
		cancel()
		dead, left := map[string]messages.Claim{}, 0
		for _, c := range held {
			if n.cluster.roster.over(c.Node, c.Epoch) {
				dead[messages.Owner(c.Node, c.Epoch)] = c
				left++
			}
		}
		switch {
		case err != nil && n.running.Err() == nil:
			n.warn("looking for tasks that nobody works on")(err)
		case len(dead) > 0:
			n.handOn(dead, left)
		}
		select {
		case <-tick.C:
		case <-n.running.Done():
			return
		}
	}
}

// handOn hands on the tasks of owners whose leases are over, so that they come
// to another node at once and not after the queue's AckWait. One survivor does
// it. A task that another node was given and has not claimed yet would go to two
// when it is handed on: while the tasks become fewer, they are left alone. were is
// how many there were a moment ago, 0 when nobody can have been given one.
func (n *Node) handOn(owners map[string]messages.Claim, were int) {
	ctx, cancel := context.WithTimeout(n.running, handOnFor)
	defer cancel()
	mine := map[string]bool{}
	for owner, c := range owners {
		is, err := n.mayHandOn(ctx, c)
		if err != nil {
			n.warn("handing on the tasks of " + owner)(err)
		}
		mine[owner] = is
	}
	pause := time.Second
	for round := 0; round < handOnRounds; round++ {
		if were > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
		began := time.Now()
		held, err := n.heldTasks(ctx)
		if err != nil {
			if n.running.Err() == nil {
				n.warn("handing on a dead node's tasks")(err)
			}
			return
		}
		pause = max(time.Second, 10*time.Since(began)) // looking shall not keep from working
		var acks []string
		for _, c := range held {
			if mine[messages.Owner(c.Node, c.Epoch)] {
				acks = append(acks, c.Ack)
			}
		}
		if len(acks) == 0 {
			return
		}
		if were == 0 || len(acks) >= were {
			if err := nakDeliveries(ctx, n.nc, acks...); err != nil {
				n.warn("handing on a dead node's tasks")(err)
			}
		} else {
			round = 0 // somebody works on it
		}
		were = len(acks)
	}
}

// hurry ends the lease of a run's owner that is not connected, without the grace
// that its neighbours give it: somebody waits for that very run.
func (n *Node) hurry(info *messages.RunInfo) {
	l, there := n.cluster.roster.of(info.Node)
	if !there || l.Epoch != info.Epoch || info.Node == n.cfg.Name {
		return
	}
	n.sweeps.Go(func() {
		if _, err := n.client.ping(n.running, info.Node); errors.Is(err, nats.ErrNoResponders) {
			_ = endLease(n.running, n.cluster.lease.kv, info.Node, l.rev) // else it was renewed, or its neighbours do it
		}
	})
}

// mayHandOn is true for one node only.
func (n *Node) mayHandOn(ctx context.Context, c messages.Claim) (is bool, err error) {
	what := "the right to hand on the tasks of " + messages.Owner(c.Node, c.Epoch)
	key := "handed." + c.Node + "." + strconv.FormatUint(c.Epoch, 10)
	err = retrying(n.away).retry(ctx, what, func(ctx context.Context) error {
		_, err := n.cluster.lease.kv.Create(ctx, key, []byte(n.cfg.Name), jetstream.KeyTTL(handOnFor))
		is = err == nil
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
		// It may be this node's: the acknowledgement may have been lost.
		e, err := n.cluster.lease.kv.Get(ctx, key)
		is = err == nil && string(e.Value()) == n.cfg.Name
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return errSettling
		}
		return err
	})
	return is, err
}

// heldTasks are the newest claims of the runs whose tasks are in the queue, those
// that nobody has claimed left out.
func (n *Node) heldTasks(ctx context.Context) (held []messages.Claim, err error) {
	tasks, err := n.queue.waiting(ctx)
	if err != nil {
		return nil, err
	}
	for part := range slices.Chunk(tasks, lastPerGet) {
		subjects := make([]string, len(part))
		for i, t := range part {
			subjects[i] = messages.Subject(messages.SubjectClaims, t.ID, messages.PlanWriter)
		}
		err := n.client.journal.pub.retrying.retryWithin(ctx, listTimeout, "the owners of tasks", func(ctx context.Context) error {
			_, err := getBatch(ctx, n.nc, journalStream, getRequest{MultiLast: subjects, MaxBytes: batchBytes}, func(m *nats.Msg, seq uint64) error {
				e, err := decodeRecord(m.Header, m.Data, seq)
				if c, ok := e.Body.(*messages.Claim); ok && err == nil && c.Ack != "" {
					held = append(held, *c)
				}
				return nil // one that cannot be read is told of by whoever works on the run
			})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return held, nil
}

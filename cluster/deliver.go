package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// notTaken is for how long a task is handed back that the node cannot work on.
const notTaken = 30 * time.Second

// sessionAgain is when a task comes again whose session could not go on.
const sessionAgain = time.Second

// concludeIn bounds what is done about a task whose run has ended.
const concludeIn = 10 * time.Second

// deliver takes a task from the queue.
func (n *Node) deliver(d *delivery) {
	n.work.Go(func() {
		run, err := n.begin(d)
		if err != nil {
			// A run that has ended needs nobody who could work on it.
			if last, lost := n.lastRecord(d.Task.ID); lost == nil && last != nil {
				n.conclude(d)
				n.finish(d.Task.ID, resultOf(last))
				return
			}
			if messages.ClassOf(err) != messages.Stopping || !n.movesOn() {
				n.finish(d.Task.ID, result{err: err})
			}
			n.handBack(d, err)
			return
		}
		<-run.Done()
		answer, err := run.Result()
		if run.Ended() {
			n.conclude(d)
		} else {
			n.handBack(d, err)
		}
		if messages.ClassOf(err) == messages.Fenced && n.cfg.shared() {
			return // somebody goes on with it, and whoever waits here hears of its end
		}
		n.finish(d.Task.ID, result{ended: run.Ended(), answer: answer, err: err})
	})
}

// movesOn reports whether a task that this node cannot begin now is begun by
// another one, or later here: whoever waits for it waits on.
func (n *Node) movesOn() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cfg.shared() && !n.draining
}

func (n *Node) lastRecord(run string) (messages.Body, error) {
	ctx, cancel := context.WithTimeout(context.Background(), concludeIn)
	defer cancel()
	return n.client.journal.ended(ctx, run)
}

// conclude takes the task of a run that has ended out of the queue, once its
// session has gone on. When it cannot, the task comes again, and with it this.
func (n *Node) conclude(d *delivery) {
	ctx, cancel := context.WithTimeout(context.Background(), concludeIn)
	defer cancel()
	if d.Task.Session != "" {
		ended, err := n.client.waits.settle(ctx, d.Task)
		if err != nil {
			n.warn("a session goes on later")(err)
		}
		if err != nil || !ended { // not ended: it was opened again
			n.release(d, sessionAgain)
			return
		}
	}
	if lost := d.done(ctx); lost != nil {
		n.warn("acknowledging a task")(lost)
	}
}

// begin starts the run of a delivery, with the team that its task defines or
// that was given to the node.
func (n *Node) begin(d *delivery) (*actors.Run, error) {
	m, err := n.memberFor(d.Task)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if n.cluster != nil {
		if err := n.cluster.lease.wait(ctx); err != nil {
			return nil, messages.Errorf(messages.Stopping, "task "+d.Task.ID, "this node has no lease now: %w", err)
		}
	}
	return n.rt.Start(ctx, d.Task, m, d.Ack())
}

// memberFor is the team of a task.
func (n *Node) memberFor(t messages.Task) (actors.Member, error) {
	if len(t.Definition) > 0 && n.cfg.Load != nil {
		return n.load(t)
	}
	n.mu.Lock()
	m := n.members[t.Team]
	n.mu.Unlock()
	if m == nil {
		return nil, messages.Errorf(messages.Invalid, "", "task %s: the node does not know the team %q", t.ID, t.Team)
	}
	return m, nil
}

// handBack gives a task up that has not ended.
func (n *Node) handBack(d *delivery, err error) {
	switch messages.ClassOf(err) {
	case messages.Fenced:
		d.drop()
	case messages.Stopping:
		n.release(d, 0)
	default:
		n.seldom("a task is left to other nodes")(err)
		after := notTaken
		if isNewer(err) {
			after = unheldDelay
		}
		n.release(d, after)
	}
}

func (n *Node) release(d *delivery, after time.Duration) {
	if err := d.release(after); err != nil {
		n.warn("handing a task back")(err)
	}
}

// finish tells every waiter of this process what became of a run.
func (n *Node) finish(run string, r result) {
	n.mu.Lock()
	handles := n.handles[run]
	delete(n.handles, run)
	n.mu.Unlock()
	for _, h := range handles {
		h.finish(r)
	}
}

// forget drops one waiter, whose task was not put in.
func (n *Node) forget(r *Run) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handles[r.ID] = slices.DeleteFunc(n.handles[r.ID], func(h *Run) bool { return h == r })
	if len(n.handles[r.ID]) == 0 {
		delete(n.handles, r.ID)
	}
}

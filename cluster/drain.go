package cluster

import (
	"context"

	"github.com/covey-run/covey/messages"
)

// Drain has the node take nothing more, and hand over what it has: no new step
// begins, and each run goes to another node once the steps under way are done.
// The node stays up, and says that it drains, until Stop. When ctx ends first the
// steps that remain are cut off and named in the error, of class timeout; runs
// are resumable all the same. A second Drain waits for the same.
func (n *Node) Drain(ctx context.Context) error {
	n.beginDrain()
	return n.rt.Drain(ctx)
}

// beginDrain leaves the queues.
func (n *Node) beginDrain() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.draining {
		return
	}
	n.draining = true
	for _, name := range n.queue.serves() {
		n.queue.leave(name)
	}
	if n.cluster != nil {
		n.cluster.lease.renewNow()
	}
}

// notDraining refuses to have begun to serve a queue on a node that drains.
func (n *Node) notDraining(queue string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.draining {
		return nil
	}
	n.queue.leave(queue)
	return messages.Errorf(messages.Stopping, "node "+n.cfg.Name, "it drains and takes nothing more")
}

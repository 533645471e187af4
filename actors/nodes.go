package actors

import (
	"context"

	"github.com/covey-run/covey/messages"
)

// Nodes are the nodes of a cluster, on which members can live; package cluster
// implements it by leases. A runtime that has none is alone.
type Nodes interface {
	// Self is this node, by its present lease: its name and epoch.
	Self() messages.NodeInfo
	// Confirm returns once it is sure that nobody has ended this node's lease of
	// that epoch until a moment ago: at once, as a rule. A process that was frozen,
	// or cut off, does not know that its lease was ended. Class fenced: it is over.
	Confirm(ctx context.Context, epoch uint64) error
	// Live are the nodes that have a lease, this one included, and a channel that
	// is closed when that next changes (a node comes, goes, or begins to drain).
	// What they say of their load is up to a second old.
	Live() (nodes []messages.NodeInfo, changed <-chan struct{})
	// Lost returns a channel that is closed once the lease of that epoch is over:
	// at once for one that is over already, or was never there.
	Lost(node string, epoch uint64) <-chan struct{}
	// Place asks a node to take a member, to keep it, or to let it go. Class
	// unavailable: there is no such node, or it does not have a member that it is
	// said to know; stopping: it is draining; throttled: it is full; invalid: it
	// does not know the team.
	Place(ctx context.Context, node string, p messages.Place) error
}

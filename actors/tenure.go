package actors

import (
	"context"

	"github.com/covey-run/covey/messages"
)

// tenure is a lease of this node's, under which something was begun. The zero
// value is that of a node which is alone, and has none.
type tenure struct {
	nodes Nodes
	epoch uint64
}

func (rt *Runtime) tenure(c messages.Claim) tenure { return tenure{rt.cfg.Nodes, c.Epoch} }

// holds reports whether the lease does, by this node's own clock. It is asked
// before each step: a process that was frozen for longer than its lease begins
// none, whichever of its goroutines comes first.
func (t tenure) holds() bool {
	return t.nodes == nil || t.epoch != 0 && t.nodes.Self().Epoch == t.epoch
}

// confirm makes sure that the lease holds, also by the others' clocks. It is asked
// right before what must not happen twice.
func (t tenure) confirm(ctx context.Context) error {
	if t.nodes == nil {
		return nil
	}
	return t.nodes.Confirm(ctx, t.epoch)
}

func (t tenure) ended(source string) *messages.Error {
	return messages.Errorf(messages.Fenced, source, "this node's lease is over, under which it was begun")
}

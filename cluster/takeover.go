package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
)

// takeOverEvery is how often the owner of a run that is waited for is looked
// after.
const takeOverEvery = time.Second

// takeOver looks after a run that this node waits for while another one holds
// its task. When that node is gone, or has not answered twice, the task is
// handed on, rather than after the queue's AckWait: at once, and again until
// somebody has claimed the run, for the server may first offer it to a frozen
// node that still asks for tasks. A node that is alive after all is fenced.
func (n *Node) takeOver(r *Run) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-r.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	tick := time.NewTicker(takeOverEvery)
	defer tick.Stop()
	silent := map[string]int{}
	for {
		claim, _, err := n.client.journal.LastClaim(ctx, r.ID)
		switch {
		case err != nil || claim.Ack == "": // not begun
		case claim.Node == n.cfg.Name:
			return
		default:
			switch err := n.client.ping(ctx, claim.Node); {
			case err == nil:
				silent[claim.Node] = 0
			case errors.Is(err, nats.ErrNoResponders):
				silent[claim.Node] = 2
			default:
				silent[claim.Node]++
			}
			if silent[claim.Node] >= 2 && ctx.Err() == nil {
				if err := nakDelivery(ctx, n.nc, claim.Ack); err != nil {
					n.warn("taking a run over")(err)
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

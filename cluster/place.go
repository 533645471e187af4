package cluster

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// hostWithin bounds the work on one word about a member that shall live here.
const hostWithin = 20 * time.Second

// respondPlace answers [membership.Place].
func (n *Node) respondPlace(r micro.Request) {
	ctx, cancel := context.WithTimeout(context.Background(), hostWithin)
	defer cancel()
	_ = r.Respond(receiptFor(n.host(ctx, r))) // without it the owner asks again
}

func (n *Node) host(ctx context.Context, r micro.Request) error {
	e, err := messages.Decode(r.Headers(), r.Data())
	if err != nil {
		return classed(err, "place")
	}
	p, ok := e.Body.(*messages.Place)
	if !ok {
		return messages.Errorf(messages.Invalid, "place", "%w: a %s", messages.ErrWire, messages.KindOf(e.Body))
	}
	return n.rt.Host(ctx, *p, func() (actors.Member, error) {
		// An owner that is taken for dead must not take a member from its heir.
		owner, err := n.client.journal.owner(ctx, p.Task.ID)
		if err != nil {
			return nil, err
		}
		if owner != p.Owner {
			return nil, messages.Errorf(messages.Fenced, "run "+p.Task.ID, "it is %q's by now, and not %q's", owner, p.Owner)
		}
		return n.memberFor(p.Task)
	})
}

// receiptFor is the answer to a request: see [receipt].
func receiptFor(err error) []byte {
	if err == nil {
		return []byte(busReceipt)
	}
	text, jerr := json.Marshal(messages.AsError(err, messages.Unavailable, ""))
	if jerr != nil {
		return []byte(err.Error())
	}
	return text
}

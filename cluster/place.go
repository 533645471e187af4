package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// verbPlace asks a node to be the home of a member of another node's run.
const verbPlace = "place"

// hostWithin bounds the work on one such request.
const hostWithin = 20 * time.Second

// requestPlace implements the Place of [actors.Nodes].
func requestPlace(ctx context.Context, nc *nats.Conn, node string, p messages.Place) error {
	what := "node " + node
	h, data, err := messages.Encode(messages.Envelope{Run: p.Task.ID, Time: now(), Trace: traceparent(ctx), Body: &p})
	if err != nil {
		return messages.AsError(err, messages.Invalid, what)
	}
	r, err := nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: nodeSubject(node, verbPlace), Header: h, Data: data})
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return messages.Errorf(messages.Unavailable, what, "there is no such node: %w", err)
	case err != nil:
		return messages.AsError(err, messages.Unavailable, what)
	}
	return receipt(r.Data, what)
}

// respondPlace answers such a request.
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
		claim, _, err := n.client.journal.LastClaim(ctx, p.Task.ID)
		if err != nil {
			return nil, err
		}
		if owner := messages.Owner(claim.Node, claim.Epoch); owner != p.Owner {
			return nil, messages.Errorf(messages.Fenced, "run "+p.Task.ID, "it is %s's by now, not %s's", owner, p.Owner)
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

package cluster

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// What a node answers, at covey.nodes.<node>.<verb> and covey.nodes.all.<verb>.
const (
	verbPing  = "ping"
	verbInfo  = "info"
	verbTree  = "tree"
	verbDrain = "drain" // of one node only
	verbPlace = "place" // of one node only
	allNodes  = "all"
)

func pulseSubject(node string) string { return messages.Subject(messages.SubjectPulse, node) }

// servePulse has a node say that it lives, and as which owner.
func servePulse(nc *nats.Conn, node string, owner func() string) error {
	_, err := nc.Subscribe(pulseSubject(node), func(m *nats.Msg) {
		if toInbox(m.Reply) {
			_ = m.Respond([]byte(owner())) // without it, whoever asked asks again
		}
	})
	if err != nil {
		return messages.AsError(err, messages.Unavailable, "node "+node)
	}
	return nil
}

func nodeSubject(node, verb string) string {
	return messages.Subject(messages.SubjectNodes, node, verb)
}

// serveNode answers requests for the node as a NATS micro service, so that
// `nats micro ls` sees it.
func (n *Node) serveNode() (micro.Service, error) {
	if n.cluster == nil {
		if err := servePulse(n.nc, n.cfg.Name, n.owner); err != nil {
			return nil, err
		}
	}
	svc, err := micro.AddService(n.nc, micro.Config{
		Name: "covey", Version: "0.1.0", Description: "a node that runs teams of agents",
		Metadata:           map[string]string{"node": n.cfg.Name},
		QueueGroupDisabled: true,
	})
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "node "+n.cfg.Name)
	}
	for _, at := range []string{n.cfg.Name, allNodes} {
		for verb, handle := range map[string]micro.HandlerFunc{
			verbPing:  func(r micro.Request) { _ = r.Respond([]byte(n.owner())) },
			verbInfo:  n.respondInfo,
			verbTree:  func(r micro.Request) { go n.respondTree(r) },
			verbDrain: n.respondDrain,
			verbPlace: func(r micro.Request) { go n.respondPlace(r) },
		} {
			if at == allNodes && (verb == verbDrain || verb == verbPlace) {
				continue
			}
			name := verb + "-" + at
			if err := svc.AddEndpoint(name, answering(handle), micro.WithEndpointSubject(nodeSubject(at, verb))); err != nil {
				return nil, errors.Join(messages.AsError(err, messages.Unavailable, "node "+n.cfg.Name), svc.Stop())
			}
		}
	}
	return svc, nil
}

// answering drops what asks for no answer in an inbox: see [toInbox].
func answering(handle micro.HandlerFunc) micro.HandlerFunc {
	return func(r micro.Request) {
		if toInbox(r.Reply()) {
			handle(r)
		}
	}
}

// toInbox reports whether a request's answer goes to an inbox. A NATS server
// checks what a client publishes to, and not where it wants the answer: a node
// that answered anywhere would lend its rights to whoever may ask it. What a
// server sends on someone's behalf has no reply at all.
func toInbox(reply string) bool { return strings.HasPrefix(reply, nats.InboxPrefix) }

func (n *Node) respondInfo(r micro.Request) {
	i := n.self()
	respond(r, &i)
}

// respondDrain answers once the drain has begun.
func (n *Node) respondDrain(r micro.Request) {
	n.beginDrain()
	go func() { _ = n.rt.Drain(context.Background()) }() // never cut off, so no error
	n.respondInfo(r)
}

func respond(r micro.Request, b messages.Body) {
	h, data, err := messages.Encode(messages.Envelope{Time: now(), Body: b})
	if err != nil {
		_ = r.Error("500", err.Error(), nil)
		return
	}
	_ = r.Respond(data, micro.WithHeaders(h))
}

// maxTree is the largest tree that is sent whole; below it the children of each
// actor are cut to a tenth until it fits.
const maxTree = 1 << 20

func (n *Node) respondTree(r micro.Request) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var data []byte
	var h map[string][]string
	for most := 1000; ; most /= 10 {
		tree := n.sys.Tree(ctx, supervisor.TreeOptions{Children: most})
		var err error
		if h, data, err = messages.Encode(messages.Envelope{Time: now(), Body: &tree}); err != nil {
			_ = r.Error("500", err.Error(), nil)
			return
		}
		if len(data) <= maxTree || most <= 10 {
			break
		}
	}
	_ = r.Respond(data, micro.WithHeaders(h))
}

package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// What a node answers, at covey.nodes.<node>.<verb> and covey.nodes.all.<verb>.
const (
	verbPing = "ping"
	verbTree = "tree"
	allNodes = "all"
)

func nodeSubject(node, verb string) string {
	return messages.Subject(messages.SubjectNodes, node, verb)
}

// serveNode answers requests for the node as a NATS micro service, so that
// `nats micro ls` sees it.
func (n *Node) serveNode() (micro.Service, error) {
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
			verbPing: func(r micro.Request) { _ = r.Respond([]byte(n.cfg.Name)) },
			verbTree: func(r micro.Request) { go n.respondTree(r) },
		} {
			name := verb + "-" + at
			if err := svc.AddEndpoint(name, handle, micro.WithEndpointSubject(nodeSubject(at, verb))); err != nil {
				return nil, errors.Join(messages.AsError(err, messages.Unavailable, "node "+n.cfg.Name), svc.Stop())
			}
		}
	}
	return svc, nil
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

// Tree asks every node for its supervision tree. It waits for the first answer
// within ctx, and 200 ms more for others; no answer is an error of class
// unavailable.
func (c *Client) Tree(ctx context.Context) ([]messages.TreeNode, error) {
	in := make(chan *nats.Msg, 256)
	inbox := nats.NewInbox()
	sub, err := c.nc.ChanSubscribe(inbox, in)
	if err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "tree")
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.nc.PublishRequest(nodeSubject(allNodes, verbTree), inbox, nil); err != nil {
		return nil, messages.AsError(err, messages.Unavailable, "tree")
	}
	var trees []messages.TreeNode
	var more <-chan time.Time
	for {
		select {
		case m := <-in:
			if m.Header.Get("Status") == "503" {
				return nil, messages.Errorf(messages.Unavailable, "tree", "no node is there")
			}
			e, err := messages.Decode(m.Header, m.Data)
			if err != nil {
				return trees, messages.AsError(err, messages.Invalid, "tree")
			}
			if t, ok := e.Body.(*messages.TreeNode); ok {
				trees = append(trees, *t)
			}
			more = time.After(200 * time.Millisecond)
		case <-more:
			slices.SortFunc(trees, func(a, b messages.TreeNode) int { return strings.Compare(a.Name, b.Name) })
			return trees, nil
		case <-ctx.Done():
			if len(trees) > 0 {
				return trees, nil
			}
			return nil, messages.AsError(context.Cause(ctx), messages.Timeout, "tree: no node answers")
		}
	}
}

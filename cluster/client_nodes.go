package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/messages"
)

// NodeStatus is how a node is, as a client sees it.
type NodeStatus string

// How a node can be.
const (
	NodeReady    NodeStatus = "ready"
	NodeDraining NodeStatus = "draining"
	// NodeSilent has a lease and does not answer: it is frozen, cut off, or has
	// just died and its lease is not over yet.
	NodeSilent NodeStatus = "no answer"
	// NodeGone was there when a watcher last looked.
	NodeGone NodeStatus = "gone"
)

// NodeState is a node, and how it is. Of one that does not answer, all but State
// is what it said last.
type NodeState struct {
	messages.NodeInfo
	State NodeStatus `json:"state"`
}

// answerWithin is how long a node that has a lease is waited for.
const answerWithin = time.Second

// strangersWithin is how long others are waited for after the first answer,
// where there is no list of who is there.
const strangersWithin = 200 * time.Millisecond

// Nodes lists every node, by name: those that have a lease, whether they answer
// or not, and those that answer without one. It takes at most about a second
// longer than the reading of the leases.
func (c *Client) Nodes(ctx context.Context) ([]NodeState, error) {
	roster, err := c.roster(ctx)
	if err != nil {
		return nil, err
	}
	answers := map[string]messages.NodeInfo{}
	err = c.gather(ctx, verbInfo, roster, func(b messages.Body) string {
		i, ok := b.(*messages.NodeInfo)
		if !ok {
			return ""
		}
		answers[i.Node] = *i
		return i.Node
	})
	if err != nil {
		return nil, err
	}
	all := []NodeState{}
	for _, i := range answers {
		s := NodeState{i, NodeReady}
		if i.Draining {
			s.State = NodeDraining
		}
		all = append(all, s)
	}
	for _, i := range roster {
		if _, ok := answers[i.Node]; !ok {
			all = append(all, NodeState{i, NodeSilent})
		}
	}
	slices.SortFunc(all, func(a, b NodeState) int { return strings.Compare(a.Node, b.Node) })
	return all, nil
}

// roster is what the nodes' leases say; none where nodes have none.
func (c *Client) roster(ctx context.Context) ([]messages.NodeInfo, error) {
	var roster []messages.NodeInfo
	err := c.journal.pub.retrying.retry(ctx, "leases of the nodes", func(ctx context.Context) error {
		roster = nil
		_, err := getBatch(ctx, c.nc, "KV_"+leaseBucket, getRequest{MultiLast: []string{leaseSubject("*")}}, func(m *nats.Msg, rev uint64) error {
			var i messages.NodeInfo
			if m.Header.Get("KV-Operation") != "" || m.Header.Get(jetstream.MarkerReasonHeader) != "" || json.Unmarshal(m.Data, &i) != nil || i.Node == "" {
				return nil // a lease that is over
			}
			i.Epoch = cmp.Or(i.Epoch, rev) // it is the first record that says none
			roster = append(roster, i)
			return nil
		})
		if errors.Is(err, nats.ErrNoResponders) {
			return nil
		}
		return err
	})
	return roster, err
}

// gather asks all nodes at once. note takes each answer and names its node. It
// waits for every node of the roster, and without one for the first answer and a
// moment more. That nobody is there is no error.
func (c *Client) gather(ctx context.Context, verb string, roster []messages.NodeInfo, note func(messages.Body) string) error {
	in := make(chan *nats.Msg, 1024)
	inbox := c.nc.NewInbox()
	sub, err := c.nc.ChanSubscribe(inbox, in)
	if err != nil {
		return messages.AsError(err, messages.Unavailable, verb)
	}
	defer func() { _ = sub.Unsubscribe() }()
	subject := nodeSubject(allNodes, verb)
	return guarded(ctx, c.nc, subject, func(ctx context.Context) error {
		if err := c.nc.PublishRequest(subject, inbox, nil); err != nil {
			return messages.AsError(err, messages.Unavailable, verb)
		}
		return collect(ctx, verb, in, roster, note)
	})
}

// collect takes the answers that gather asked for.
func collect(ctx context.Context, verb string, in <-chan *nats.Msg, roster []messages.NodeInfo, note func(messages.Body) string) error {
	missing := map[string]bool{}
	for _, i := range roster {
		missing[i.Node] = true
	}
	timer := time.NewTimer(answerWithin)
	defer timer.Stop()
	for {
		select {
		case m := <-in:
			if m.Header.Get("Status") == "503" {
				return nil
			}
			if e, err := messages.Decode(m.Header, m.Data); err == nil {
				delete(missing, note(e.Body))
			} // else a node of another version; who has a lease is shown as one that does not answer
			switch {
			case len(roster) == 0:
				timer.Reset(strangersWithin)
			case len(missing) == 0:
				return nil
			}
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return messages.AsError(context.Cause(ctx), messages.Timeout, verb)
		}
	}
}

// ask sends one node a request, and returns its answer. Class unavailable: there
// is no such node, and the error names those that are there; timeout: it does
// not answer within ctx, or 5 s.
func (c *Client) ask(ctx context.Context, node, verb string) (messages.Body, error) {
	if err := messages.CheckName("node", node); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var m *nats.Msg
	subject := nodeSubject(node, verb)
	err := guarded(ctx, c.nc, subject, func(ctx context.Context) (err error) {
		m, err = c.nc.RequestWithContext(ctx, subject, nil)
		return err
	})
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, c.noSuchNode(ctx, node)
	case messages.ClassOf(err) == messages.Unauthorized:
		return nil, err
	case err != nil:
		return nil, messages.Errorf(messages.Timeout, "node "+node, "it does not answer: %w", err)
	}
	if text := m.Header.Get("Nats-Service-Error"); text != "" {
		return nil, messages.Errorf(messages.Crashed, "node "+node, "%s", text)
	}
	e, err := messages.Decode(m.Header, m.Data)
	if err != nil {
		return nil, messages.AsError(err, messages.Invalid, "node "+node)
	}
	return e.Body, nil
}

func (c *Client) noSuchNode(ctx context.Context, node string) error {
	there, err := c.Nodes(ctx)
	if err != nil || len(there) == 0 {
		return messages.Errorf(messages.Unavailable, "", "node %q is not there, nor is any other", node)
	}
	var names []string
	for _, n := range there {
		if n.Node == node {
			return messages.Errorf(messages.Unavailable, "", "node %q has a lease and is not connected: it has just died, or cannot reach NATS", node)
		}
		names = append(names, n.Node)
	}
	return messages.Errorf(messages.Unavailable, "", "node %q is not there; there are %s", node, strings.Join(names, ", "))
}

// Drain has a node take nothing more and hand over what it has: its runs end at
// their next step boundary and go to other nodes. It returns once the node has
// begun, with what it has at that moment; [Client.Nodes] tells of its progress.
// The node stays up, draining, until it is stopped. Errors are as of a node that
// is not there (unavailable) or does not answer (timeout).
func (c *Client) Drain(ctx context.Context, node string) (messages.NodeInfo, error) {
	b, err := c.ask(ctx, node, verbDrain)
	if err != nil {
		return messages.NodeInfo{}, err
	}
	i, ok := b.(*messages.NodeInfo)
	if !ok {
		return messages.NodeInfo{}, messages.Errorf(messages.Invalid, "node "+node, "it answers with a %s", messages.KindOf(b))
	}
	return *i, nil
}

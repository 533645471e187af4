package supervisor

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/covey-run/covey/messages"
)

// TreeOptions bound a snapshot.
type TreeOptions struct {
	// Depth is how many levels below the root are shown. Zero: all.
	Depth int
	// Children is how many children of one actor are shown. Zero: 1,000. The
	// rest is counted in the parent's detail "more".
	Children int
	// Wait is how long an actor has to answer before it is shown as
	// unresponsive. Zero: 250 ms.
	Wait time.Duration
}

func (o TreeOptions) withDefaults() TreeOptions {
	if o.Children == 0 {
		o.Children = 1000
	}
	if o.Wait == 0 {
		o.Wait = 250 * time.Millisecond
	}
	return o
}

// view is what a shell says of itself and of its children.
type view struct {
	status   messages.Status
	since    time.Time
	children []childView
}

type childView struct {
	ref  Ref
	node messages.TreeNode
}

// Tree is a snapshot of the live tree. Each actor is asked in its own time, so
// the parts are of slightly different moments; one that does not answer within
// opts.Wait is shown as unresponsive, with what its supervisor knows of it.
func (s *System) Tree(ctx context.Context, opts TreeOptions) messages.TreeNode {
	return s.TreeOf(ctx, s.top, opts)
}

// TreeOf is the part of the tree below one actor.
func (s *System) TreeOf(ctx context.Context, r Ref, opts TreeOptions) messages.TreeNode {
	opts = opts.withDefaults()
	w := walker{opts: opts, room: make(chan struct{}, 32)}
	node := messages.TreeNode{Name: r.Path(), Kind: "node", State: messages.Running}
	w.fill(ctx, r, &node, 0)
	w.wait.Wait()
	return node
}

type walker struct {
	opts TreeOptions
	wait sync.WaitGroup
	room chan struct{}
}

// fill completes node with what r says of itself, and goes on below it.
func (w *walker) fill(ctx context.Context, r Ref, node *messages.TreeNode, depth int) {
	w.room <- struct{}{}
	asked, cancel := context.WithTimeout(ctx, w.opts.Wait)
	v, err := Ask[*view](asked, r, &inspect{})
	cancel()
	<-w.room
	if err != nil {
		node.State = messages.Unresponsive
		return
	}
	node.Since = v.since
	if v.status.State != "" {
		node.State = v.status.State
	}
	node.Step, node.Detail = v.status.Step, v.status.Detail
	if !v.status.Until.IsZero() {
		node.Until = v.status.Until
	}
	if w.opts.Depth > 0 && depth >= w.opts.Depth {
		return
	}
	shown := v.children
	if len(shown) > w.opts.Children {
		shown = shown[:w.opts.Children]
		node.Detail = withMore(node.Detail, len(v.children)-len(shown))
	}
	node.Children = make([]messages.TreeNode, len(shown))
	for i, c := range shown {
		node.Children[i] = c.node
		if at := &node.Children[i]; at.State == messages.Running {
			w.wait.Go(func() { w.fill(ctx, c.ref, at, depth+1) })
		}
	}
}

func (s *shell) view() *view {
	v := &view{since: s.since, status: messages.Status{State: messages.Idle}}
	switch r, ok := s.inner.(Reporter); {
	case s.over:
		v.status.State = messages.StoppingNow
	case ok:
		s.guard(nil, func() error { v.status = r.Report(); return nil })
	case s.inner == nil:
		v.status.State = messages.Running
	}
	if s.kids == nil {
		return v
	}
	now := s.cell.sys.clock.Now()
	for _, ch := range s.kids.ordered() {
		n := messages.TreeNode{Name: ch.cell.spec.Name, Kind: ch.cell.spec.Kind, State: ch.state, Mailbox: ch.cell.box.UserMessageCount()}
		if h := ch.history; h != nil {
			h.prune(s.kids.policy, now)
			n.Restarts, n.Total = len(h.window), h.total
			n.LastFailure, n.FailedAt, n.Until = h.failure, h.at, h.until
		}
		v.children = append(v.children, childView{ch.cell.ref(), n})
	}
	return v
}

func withMore(detail map[string]string, n int) map[string]string {
	out := map[string]string{"more": strconv.Itoa(n)}
	for k, v := range detail {
		out[k] = v
	}
	return out
}

// stuckIn names the actors below n that did not answer, or were not done.
func stuckIn(n messages.TreeNode, prefix string) (paths []string) {
	path := prefix + n.Name
	for _, c := range n.Children {
		paths = append(paths, stuckIn(c, path+"/")...)
	}
	if n.State == messages.Unresponsive && len(paths) == 0 {
		paths = []string{path}
	}
	slices.Sort(paths)
	return paths
}

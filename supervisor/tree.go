package supervisor

import (
	"context"
	"fmt"
	"maps"
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
	kind     string
	status   messages.Status
	since    time.Time
	mailbox  int
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

// TreeOf is the part of the tree below one actor; its name is its path. An actor
// that is no more is shown as stopped.
func (s *System) TreeOf(ctx context.Context, r Ref, opts TreeOptions) messages.TreeNode {
	opts = opts.withDefaults()
	w := walker{opts: opts, room: make(chan struct{}, asking)}
	node := messages.TreeNode{State: messages.Running}
	if parent, name := r.parent(); !parent.IsZero() {
		asked, cancel := context.WithTimeout(ctx, opts.Wait)
		if v, err := Ask[*view](asked, parent, &urgent{&inspect{}}); err == nil {
			for _, c := range v.children {
				if c.node.Name == name {
					node = c.node
				}
			}
		}
		cancel()
	}
	node.Name = r.Path()
	w.room <- struct{}{}
	w.fill(ctx, r, &node, 0)
	w.wait.Wait()
	return node
}

// asking is how many actors are asked at a time.
const asking = 1024

type walker struct {
	opts TreeOptions
	wait sync.WaitGroup
	room chan struct{}
}

// fill completes node with what r says of itself, and goes on below it. The
// caller has taken a place in room for it.
func (w *walker) fill(ctx context.Context, r Ref, node *messages.TreeNode, depth int) {
	asked, cancel := context.WithTimeout(ctx, w.opts.Wait)
	v, err := Ask[*view](asked, r, &urgent{&inspect{}})
	cancel()
	<-w.room
	if err != nil {
		node.State = messages.Unresponsive
		if c := messages.ClassOf(err); c == messages.Unavailable || c == messages.Stopping {
			node.State = messages.Stopped
		}
		return
	}
	node.Kind, node.Since, node.Mailbox = v.kind, v.since, v.mailbox
	node.Step, node.Detail = v.status.Step, v.status.Detail
	if node.State == messages.Running { // otherwise its supervisor knows better
		if v.status.State != "" {
			node.State = v.status.State
		}
		if !v.status.Until.IsZero() {
			node.Until = v.status.Until
		}
	}
	if w.opts.Depth > 0 && depth >= w.opts.Depth {
		return
	}
	shown := v.children
	if len(shown) > w.opts.Children {
		shown = shown[:w.opts.Children]
		node.Detail = withDetail(node.Detail, "more", strconv.Itoa(len(v.children)-len(shown)))
	}
	node.Children = make([]messages.TreeNode, len(shown))
	for i, c := range shown {
		node.Children[i] = c.node
		at := &node.Children[i]
		w.room <- struct{}{}
		w.wait.Go(func() { w.fill(ctx, c.ref, at, depth+1) })
	}
}

func (s *shell) view() *view {
	v := &view{kind: s.cell.spec.Kind, since: s.since, status: s.report(), mailbox: s.cell.box.UserMessageCount()}
	if s.kids == nil {
		return v
	}
	now := s.cell.sys.clock.Now()
	for _, ch := range s.kids.ordered() {
		n := messages.TreeNode{Name: ch.cell.spec.Name, Kind: ch.cell.spec.Kind, State: ch.state, Mailbox: ch.cell.box.UserMessageCount()}
		if ch.due != nil {
			n.Until = ch.due.until
		}
		if h := ch.history; h != nil {
			h.prune(s.kids.policy, now)
			n.Restarts, n.Total = len(h.window), h.total
			n.LastFailure, n.FailedAt = h.failure, h.at
		}
		v.children = append(v.children, childView{ch.cell.ref(), n})
	}
	return v
}

// report asks the actor what it is doing. A panic of its Report is shown, and
// is no failure of the actor: looking must not change what is seen.
func (s *shell) report() (st messages.Status) {
	r, ok := s.inner.(Reporter)
	switch {
	case s.over:
		return messages.Status{State: messages.StoppingNow}
	case s.inner == nil:
		return messages.Status{State: messages.Running}
	case s.failing || !ok:
		return messages.Status{State: messages.Idle}
	}
	done := false
	defer func() {
		if done {
			return
		}
		reason := recover()
		if reason == nil {
			reason, s.cell.box.reported = errGoexit, true
			defer func() { s.ctx.Reply(&view{kind: s.cell.spec.Kind, since: s.since, status: st}) }()
		}
		st = messages.Status{Detail: map[string]string{"report": fmt.Sprintf("panic: %v", reason)}}
	}()
	st = r.Report()
	done = true
	return st
}

func withDetail(detail map[string]string, key, value string) map[string]string {
	out := maps.Clone(detail)
	if out == nil {
		out = map[string]string{}
	}
	out[key] = value
	return out
}

// stuckIn names the actors below n that did not answer.
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

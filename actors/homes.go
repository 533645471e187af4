package actors

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
)

const (
	// keepEvery is how often a home hears that its guest is still wanted, and
	// guestExpiry after how long without that it lets the guest go.
	keepEvery   = 5 * time.Second
	guestExpiry = 30 * time.Second
	// keepTries is how many times, one second apart, a home may refuse that, or
	// not be connected: a connection that is restored costs nobody a restart.
	keepTries = 3
	// placeWithin bounds one request to place a member: its home claims a writer,
	// which an election of the journal's servers delays by seconds.
	placeWithin = 15 * time.Second
	// keepWithin bounds a word about a member that is placed.
	keepWithin = 5 * time.Second
	// leaveWithin bounds the word that it may go.
	leaveWithin = 2 * time.Second
	// searchEvery is how often a member without a home looks for one where
	// nothing has changed.
	searchEvery = 3 * time.Second
	// loadAge is how old a node's word of its load may be.
	loadAge = 2 * time.Second
)

// fits reports whether a node is one on which the agent can live.
func (a Agent) fits(n messages.NodeInfo) bool {
	if a.Pool != "" && !slices.Contains(n.Pools, a.Pool) {
		return false
	}
	return !slices.ContainsFunc(a.Uses, func(name string) bool { return !slices.Contains(n.Tools, name) })
}

// wants says in words what node the agent needs.
func (a Agent) wants() string {
	s := "a node"
	if a.Pool != "" {
		s += " of pool " + a.Pool
	}
	if len(a.Uses) > 0 {
		s += " with the tools " + strings.Join(a.Uses, ", ")
	}
	return s
}

// away reports whether the agent must live on another node.
func (rt *Runtime) away(a Agent) bool {
	own := messages.NodeInfo{Pools: rt.cfg.Pools}
	for name := range rt.cfg.Tools {
		own.Tools = append(own.Tools, name)
	}
	return !a.fits(own)
}

// toolsOf are an agent's tools on this node: its own, and those that it uses.
func (rt *Runtime) toolsOf(a Agent) []tool.Tool {
	tools := slices.Clip(a.Tools)
	for _, name := range a.Uses {
		tools = append(tools, rt.cfg.Tools[name])
	}
	return tools
}

// homes are the nodes on which an agent can live.
func (rt *Runtime) homes(nodes []messages.NodeInfo, a Agent) (fit []messages.NodeInfo) {
	for _, n := range nodes {
		if !n.Draining && n.Node != rt.cfg.Node && a.fits(n) {
			fit = append(fit, n)
		}
	}
	return fit
}

// placements remember what this node has placed a moment ago: what others say of
// their load does not show it yet.
type placements struct {
	mu sync.Mutex
	on map[string][]time.Time // by node
}

// pick takes the least loaded node out of nodes, one of several at random, and
// counts a placement there.
func (p *placements) pick(nodes []messages.NodeInfo, now time.Time) (messages.NodeInfo, []messages.NodeInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on == nil {
		p.on = map[string][]time.Time{}
	}
	load := func(n messages.NodeInfo) float64 {
		fresh := slices.DeleteFunc(p.on[n.Node], func(t time.Time) bool { return now.Sub(t) > loadAge })
		if p.on[n.Node] = fresh; len(fresh) == 0 {
			delete(p.on, n.Node)
		}
		n.Guests += len(fresh)
		return n.Load()
	}
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	slices.SortStableFunc(nodes, func(x, y messages.NodeInfo) int { return cmp.Compare(load(x), load(y)) })
	p.on[nodes[0].Node] = append(p.on[nodes[0].Node], now)
	return nodes[0], nodes[1:]
}

// home is one placement of a member.
type home struct {
	node        messages.NodeInfo
	incarnation int64
	over        chan struct{} // closed once the member lives there no more
}

// find looks for a home until there is one; it returns a *home, a *lost if the
// run is another node's by now, a drain, or nil once ctx has ended.
func (p *proxyActor) find(ctx context.Context, pause time.Duration) any {
	s := p.host.scope
	_ = s.pause(ctx, pause) // why it ended early is seen below
	for told := ""; ctx.Err() == nil; {
		if s.proceed() != nil {
			return drain{}
		}
		found, changed, why := p.try(ctx)
		if found != nil {
			return found
		}
		if step := "waits for " + p.agent.wants() + why; step != told {
			told = step
			p.say(messages.Parked, step)
			s.emit(messages.Event{Kind: messages.MemberWaits, Path: p.path, Name: p.agent.Name, Text: step})
		}
		timer := s.rt.sys.Clock().NewTimer(searchEvery)
		select {
		case <-changed:
		case <-timer.Chan():
		case <-s.drained:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil
}

// try asks the nodes that there are. why says what came of it, in words.
func (p *proxyActor) try(ctx context.Context) (found any, changed <-chan struct{}, why string) {
	rt := p.host.scope.rt
	if rt.cfg.Nodes == nil {
		return nil, nil, ": this node is alone"
	}
	nodes, changed := rt.cfg.Nodes.Live()
	for nodes = rt.homes(nodes, *p.agent); len(nodes) > 0; {
		var n messages.NodeInfo
		n, nodes = rt.placed.pick(nodes, rt.sys.Clock().Now())
		h := &home{node: n, incarnation: rt.incarnations.Add(1), over: make(chan struct{})}
		p.latest.Store(h)
		err := p.ask(ctx, h)
		if err == nil {
			return h, nil, ""
		}
		switch c := messages.ClassOf(err); {
		case ctx.Err() != nil, c == messages.Timeout: // it may have taken the member all the same
			p.leave(h)
		case c == messages.Fenced:
			return &lost{home: h, err: messages.AsError(err, c, p.path)}, nil, ""
		}
		if ctx.Err() != nil {
			return nil, nil, ""
		}
		why = fmt.Sprintf(": %s refuses: %v", n.Node, err)
	}
	return nil, changed, why
}

// ask asks a node to take the member, for as long as that node has its lease.
func (p *proxyActor) ask(ctx context.Context, h *home) error {
	ctx, cancel := context.WithTimeout(ctx, placeWithin)
	defer cancel()
	gone := p.host.scope.rt.cfg.Nodes.Lost(h.node.Node, h.node.Epoch)
	go func() {
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	return p.place(ctx, h, messages.Place{Task: p.host.scope.task})
}

// place sends a word about a placement to its node.
func (p *proxyActor) place(ctx context.Context, h *home, word messages.Place) error {
	s := p.host.scope
	word.Owner, word.Member, word.Incarnation = s.owner, p.path, h.incarnation
	if word.Task.ID == "" { // the home knows the rest
		word.Task = messages.Task{ID: s.run, Team: s.task.Team}
	}
	return s.rt.cfg.Nodes.Place(ctx, h.node.Node, word)
}

// leave tells a home that the member may go. A home that does not hear it lets
// the member go by itself.
func (p *proxyActor) leave(h *home) {
	p.host.scope.rt.leaving.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
		defer cancel()
		_ = p.place(ctx, h, messages.Place{Leave: true})
	})
}

// keep tells the home that the member is still wanted there, until it is lost.
func (p *proxyActor) keep(ctx context.Context, h *home) any {
	s := p.host.scope
	gone, drained := s.rt.cfg.Nodes.Lost(h.node.Node, h.node.Epoch), s.drained
	word, clock := messages.Place{Known: true}, s.rt.sys.Clock()
	wait, tries, heard := keepEvery, 0, clock.Now()
	for {
		timer := s.rt.sys.Clock().NewTimer(wait)
		select {
		case <-timer.Chan():
		case <-drained:
			drained, word.Finish = nil, true
		case <-gone:
		case <-h.over:
		case <-ctx.Done():
		}
		timer.Stop()
		select {
		case <-gone:
			return &lost{h, messages.Errorf(messages.Unavailable, p.path, "the node %s, on which the member lived, is gone", h.node.Node)}
		case <-h.over:
			return nil
		case <-ctx.Done():
			return nil
		default:
		}
		switch err := p.remind(ctx, h, word); {
		case err == nil:
			wait, tries, heard = keepEvery, 0, clock.Now()
		case messages.ClassOf(err) == messages.Timeout && clock.Since(heard) < guestExpiry:
			wait = time.Second // the connection may be away: the lease tells whether the home is
		default:
			if tries++; tries >= keepTries {
				return &lost{h, messages.Errorf(messages.Unavailable, p.path, "the node %s has lost the member: %w", h.node.Node, err)}
			}
			wait = time.Second
		}
	}
}

// remind tells a home that the member is still wanted, and what it was asked and
// has not answered: whoever took that may have been the member's last home.
func (p *proxyActor) remind(ctx context.Context, h *home, word messages.Place) error {
	ctx, cancel := context.WithTimeout(ctx, keepWithin)
	defer cancel()
	if err := p.place(ctx, h, word); err != nil {
		return err
	}
	s := p.host.scope
	for _, a := range p.host.asks.unanswered(p.path) {
		e := messages.Envelope{Run: s.run, Writer: s.owner, Time: s.rt.sys.Clock().Now(), Body: &a}
		if err := s.rt.bus.Send(ctx, s.run, p.path, e); err != nil {
			return err
		}
	}
	return nil
}

package actors

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// proxyActor stands in its run's tree for a member that lives on another node.
// It finds the member a home, keeps it there, and fails as the member does: so
// the run's policy holds for members wherever they live.
type proxyActor struct {
	host   *host
	path   string // the member's, within the run
	agent  *Agent
	home   *home // nil while it has none
	moves  int   // that no failure asked for
	early  *messages.Gone
	latest atomic.Pointer[home] // the latest that was asked to take it
	status atomic.Pointer[messages.Status]
}

type (
	// lost: the member's home is gone, or has lost it.
	lost struct {
		home *home
		err  *messages.Error
	}
	// drain: this node begins no new step.
	drain struct{}
	// undelivered: an ask could not be sent.
	undelivered struct {
		ask messages.Ask
		err error
	}
)

// proxySpec describes the proxy of a member of this host.
func (h *host) proxySpec(path string, a Agent) supervisor.Spec {
	return supervisor.Spec{Name: a.Name, Kind: "agent", Restart: a.Restart, New: func() (supervisor.Actor, error) {
		return &proxyActor{host: h, path: path, agent: &a}, nil
	}}
}

func (p *proxyActor) Start(c *supervisor.Context) error {
	p.seek(c, 0)
	return nil
}

func (p *proxyActor) Stop(*supervisor.Context) {
	if h := p.latest.Load(); h != nil {
		p.leave(h)
	}
}

func (p *proxyActor) Report() messages.Status {
	s := messages.Status{State: messages.Starting}
	switch now := p.status.Load(); {
	case p.home != nil:
		s.State = messages.Idle
		if open := p.host.asks.unanswered(p.path); len(open) > 0 {
			s.State, s.Step = messages.Running, "working on step "+open[0].Step+" on "+p.home.node.Node
		}
	case now != nil:
		s = *now
	}
	s.Detail = map[string]string{"model": p.agent.Model}
	if p.home != nil {
		s.Detail["node"] = p.home.node.Node
	}
	return s
}

func (p *proxyActor) say(state messages.State, step string) {
	p.status.Store(&messages.Status{State: state, Step: step})
}

func (p *proxyActor) Receive(c *supervisor.Context, msg any) error {
	switch m := msg.(type) {
	case messages.Envelope:
		a, ok := m.Body.(*messages.Ask)
		switch {
		case !ok:
		case p.home != nil:
			p.deliver(c, *a)
		case p.host.scope.proceed() != nil:
			p.interrupt()
		}
	case *home:
		return p.settled(c, m)
	case *messages.Gone:
		return p.gone(c, m)
	case drain:
		p.interrupt()
	case *lost:
		switch {
		case m.err.Class == messages.Fenced: // the run is another's
			p.host.scope.top.Tell(&abort{m.err})
		case m.home == p.home:
			return m.err
		}
	case undelivered:
		failure := failureOf(m.err, p.path)
		p.host.asks.each(p.path, m.ask.Step, func(o *openAsk) { o.fail(failure) })
	}
	return nil
}

// seek looks for a home, after a pause.
func (p *proxyActor) seek(c *supervisor.Context, pause time.Duration) {
	c.Go("finding a home", func(ctx context.Context) any { return p.find(ctx, pause) })
}

// settled: the member has a home, which is told what the member was asked.
func (p *proxyActor) settled(c *supervisor.Context, h *home) error {
	p.home = h
	p.host.scope.emit(messages.Event{Kind: messages.MemberPlaced, Path: p.path, Name: h.node.Node})
	c.Go("keeping the member on "+h.node.Node, func(ctx context.Context) any { return p.keep(ctx, h) })
	if early := p.early; early != nil && early.Incarnation == h.incarnation {
		return p.gone(c, early)
	}
	for _, a := range p.host.asks.unanswered(p.path) {
		p.deliver(c, a)
	}
	return nil
}

// gone: the member lives no more where it was placed. It moves, or has failed.
func (p *proxyActor) gone(c *supervisor.Context, g *messages.Gone) error {
	switch {
	case p.home == nil || g.Incarnation > p.home.incarnation:
		if p.early == nil || p.early.Incarnation < g.Incarnation {
			p.early = g
		}
		return nil
	case g.Incarnation < p.home.incarnation:
		return nil
	}
	from := p.home
	failure := g.Error
	if failure == nil {
		failure = messages.Errorf(messages.Crashed, p.path, "gone from %s without an error", from.node.Node)
	}
	switch failure.Class {
	case messages.Stopping, messages.Fenced:
		close(from.over)
		p.home = nil
		p.moves++
		pause := time.Duration(0)
		if failure.Class == messages.Fenced { // by whom, the next home finds out
			pause = supervisor.Backoff{Initial: 10 * time.Millisecond, Max: searchEvery}.Wait(p.moves, nil)
		}
		p.host.scope.emit(messages.Event{Kind: messages.MemberMoves, Path: p.path, Name: from.node.Node, Class: failure.Class, Error: failure})
		p.seek(c, pause)
		return nil
	}
	if g.Step != "" {
		p.host.scope.working.Store(p.path, g.Step)
	}
	return failure
}

// deliver sends an ask to the member. It may come there twice, and is answered
// once.
func (p *proxyActor) deliver(c *supervisor.Context, a messages.Ask) {
	c.Go("handing over step "+a.Step, func(ctx context.Context) any {
		err := p.host.scope.send(ctx, p.path, &a)
		if err == nil || interrupted(err) || ctx.Err() != nil {
			return nil
		}
		return undelivered{a, err}
	})
}

// interrupt ends the wait of whoever has asked, for the node is stopping.
func (p *proxyActor) interrupt() {
	err := messages.AsError(p.host.scope.proceed(), messages.Stopping, p.path)
	p.host.asks.each(p.path, "", func(o *openAsk) { o.fail(err) })
}

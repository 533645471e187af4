package actors

import (
	"context"
	"sync/atomic"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// agentActor is an agent in a run. Its turn, which may take minutes, runs
// outside the actor, so that status, cancel and stop are answered at once.
type agentActor struct {
	scope *scope
	path  string // within the run, and its journal writer
	agent Agent
	calls *provider.Settings // of its model calls
	tools string             // path of the supervisor of its tools
	turns turns
	turn  *turn // the one that runs, nil when idle
}

// turned is what a turn came to.
type turned struct {
	ask messages.Ask
	err error
}

// turnLost: the turn crashed and its actor was told to go on all the same.
type turnLost struct{}

func newAgentActor(s *scope, path string, a Agent, _, tools string) *agentActor {
	return &agentActor{scope: s, path: path, agent: a, calls: a.Settings(), tools: tools}
}

func (a *agentActor) Report() messages.Status {
	s := a.turns.status("working on")
	if a.turn != nil {
		if now := a.turn.status.Load(); now != nil {
			now := *now
			now.Detail = s.Detail
			s = now
		}
	}
	if s.Detail == nil {
		s.Detail = map[string]string{}
	}
	s.Detail["model"] = a.agent.Model
	return s
}

func (a *agentActor) Receive(c *supervisor.Context, msg any) error {
	switch m := msg.(type) {
	case messages.Envelope:
		switch b := m.Body.(type) {
		case *messages.Ask:
			a.turns.add(*b)
		case *messages.Resolve:
			if a.turn != nil {
				a.turn.resolve(*b)
			}
		}
	case turnLost:
		a.turns.now, a.turn = nil, nil
	case *turned:
		a.turns.finish(m.ask)
		a.turn = nil
		if c := messages.ClassOf(m.err); m.err != nil && c != messages.Stopping && c != messages.Fenced {
			return m.err
		}
	}
	if ask, ok := a.turns.start(); ok {
		t := newTurn(a, ask)
		a.turn = t
		c.Go("the turn of step "+ask.Step, func(ctx context.Context) any {
			return &turned{ask, t.run(ctx)}
		})
	}
	return nil
}

// status is what a turn is doing, for the live tree.
type status = atomic.Pointer[messages.Status]

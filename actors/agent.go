package actors

import (
	"cmp"
	"context"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// agentActor is an agent in a run. Its turn, which may take minutes, runs
// outside the actor, so that status, cancel and stop are answered at once.
type agentActor struct {
	scope *scope
	path  string // within the run, and its journal writer
	agent *Agent
	calls *provider.Settings // of its model calls
	tools string             // path of the supervisor of its tools
	turns turns
	turn  *turn // that of turns.now
	// idle is told once no turn is under way; none begins from then on. Zero:
	// nobody is.
	idle supervisor.Ref
}

// turned is what a turn came to.
type turned struct {
	turn *turn
	err  error
}

type (
	// untilIdle has an agent begin no turn, and say when the one under way is over.
	untilIdle struct{ tell supervisor.Ref }
	idle      struct{}
)

// turnLost: the turn may have crashed, and its actor was told to go on.
type turnLost struct{}

// tooLong: a turn did not end when its time was up.
type tooLong struct{ turn *turn }

// turnGrace is how long a turn may take to notice that its time is up. One that
// does not is answered for, and its goroutine left behind by name.
const turnGrace = time.Second

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
	s.Detail["model"] = cmp.Or(a.agent.Model, a.agent.External)
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
		case *messages.Reply: // a program's
			if a.turn != nil {
				a.turn.replied(*b)
			}
		}
	case untilIdle:
		a.idle = m.tell
	case turnLost:
		if a.turns.lost(); a.turns.now == nil {
			a.turn = nil
		}
	case tooLong:
		if a.turn == m.turn {
			c.Go("answering for a turn that does not end", func(ctx context.Context) any {
				if !m.turn.settled.CompareAndSwap(false, true) {
					return nil // it has ended after all
				}
				return &turned{m.turn, m.turn.giveUp(ctx)}
			})
		}
	case *turned:
		current := a.turns.finish(m.turn.turning)
		if current {
			a.turn = nil
		}
		m.turn.late()
		if m.err != nil && !interrupted(m.err) {
			return m.err
		}
		if current {
			a.scope.working.Delete(a.path)
		}
	}
	if !a.idle.IsZero() {
		if a.turns.now == nil {
			a.idle.Tell(idle{})
		}
		return nil
	}
	if now := a.turns.start(); now != nil {
		a.begin(c, now)
	}
	return nil
}

func (a *agentActor) begin(c *supervisor.Context, now *turning) {
	t := newTurn(a, now)
	a.turn = t
	a.scope.working.Store(a.path, now.ask.Step)
	if d := a.agent.Timeout; d > 0 {
		t.late = c.After(d+turnGrace, tooLong{t})
	}
	c.Go("the turn of step "+now.ask.Step, func(ctx context.Context) any {
		defer now.over.Store(true)
		return &turned{t, t.run(ctx)}
	})
}

package actors

import (
	"context"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// teamActor is a team as a member of a run: it takes asks as an agent does, and
// answers each by its plan.
type teamActor struct {
	host
	turns turns
}

// planned is what a walk came to.
type planned struct {
	turn *turning
	err  error
}

func newTeamActor(s *scope, path string, t Team) *teamActor {
	return &teamActor{host: host{scope: s, path: path, members: t.Members, plan: t.Plan}}
}

func (t *teamActor) Start(c *supervisor.Context) error { return t.open(c) }

func (t *teamActor) Stop(*supervisor.Context) { t.close() }

func (t *teamActor) ChildChanged(c *supervisor.Context, change supervisor.ChildChange) {
	t.changed(c, change)
}

func (t *teamActor) Report() messages.Status {
	return t.turns.status("working on")
}

func (t *teamActor) Receive(c *supervisor.Context, msg any) error {
	switch m := msg.(type) {
	case messages.Envelope:
		switch b := m.Body.(type) {
		case *messages.Ask:
			t.turns.add(*b)
		case *messages.Reply:
			t.asks.settle(*b)
		case *messages.Gone:
			t.gone(b)
		}
	case turnLost:
		t.turns.lost()
	case *planned:
		current := t.turns.finish(m.turn)
		if m.err != nil && !interrupted(m.err) {
			return m.err
		}
		if current {
			t.scope.working.Delete(t.path)
		}
	}
	if now := t.turns.start(); now != nil {
		t.scope.working.Store(t.path, now.ask.Step)
		c.Go("the plan of step "+now.ask.Step, func(ctx context.Context) any {
			defer now.over.Store(true)
			return &planned{now, t.work(ctx, now.ask)}
		})
	}
	return nil
}

// work answers one ask by the plan. Its own steps are numbered below the ask's.
func (t *teamActor) work(ctx context.Context, a messages.Ask) error {
	if rec := find[messages.Answered](t.scope.log, t.path, a.Step, nil); rec != nil {
		return t.scope.answer(ctx, a, rec.Reply, false)
	}
	ans, cut, err := t.perform(ctx, a.Prompt, a.Discussion, a.Format, a.Step+".")
	ans.By = t.path
	return t.scope.answer(ctx, a, replyOf(t.path, a.Step, ans, err), cut)
}

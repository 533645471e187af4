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
	team  Team
	reply string // where its answers go
	turns turns
}

type planned struct {
	ask   messages.Ask
	reply messages.Reply
	err   error
}

func newTeamActor(s *scope, path string, t Team) *teamActor {
	return &teamActor{team: t, host: host{scope: s, path: path, members: t.Members, plan: t.Plan}}
}

func (t *teamActor) Start(c *supervisor.Context) error { return t.open(c) }

func (t *teamActor) Stop(*supervisor.Context) { t.close() }

func (t *teamActor) ChildChanged(_ *supervisor.Context, change supervisor.ChildChange) {
	t.changed(change)
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
		}
	case turnLost:
		t.turns.now = nil
	case *planned:
		t.turns.finish(m.ask)
		if m.err != nil && messages.ClassOf(m.err) != messages.Stopping && messages.ClassOf(m.err) != messages.Fenced {
			return m.err
		}
	}
	if a, ok := t.turns.start(); ok {
		c.Go("the plan of step "+a.Step, func(ctx context.Context) any { return t.work(ctx, a) })
	}
	return nil
}

// work answers one ask by the plan. Its own steps are numbered below the ask's.
func (t *teamActor) work(ctx context.Context, a messages.Ask) *planned {
	out := &planned{ask: a}
	if rec := find[messages.Answered](t.scope.log, t.path, a.Step, nil); rec != nil {
		out.reply = rec.Reply
	} else {
		ans, err := t.perform(ctx, a.Prompt, a.Discussion, a.Format, a.Step+".")
		ans.By = t.path
		out.reply = replyOf(t.path, a.Step, ans, err)
	}
	out.err = t.scope.answer(ctx, t.path, a, out.reply)
	return out
}

// replyOf makes a reply of what a turn came to.
func replyOf(from, step string, ans messages.Answer, err error) messages.Reply {
	r := messages.Reply{Step: step, From: from}
	if err != nil {
		r.Error = messages.AsError(err, messages.Crashed, from)
	} else {
		r.Answer = &ans
	}
	return r
}

// answer records a reply, unless that was done before or the work was only
// interrupted, and sends it to whoever asked.
func (s *scope) answer(ctx context.Context, writer string, a messages.Ask, r messages.Reply) error {
	final := true
	if r.Error != nil {
		switch r.Error.Class {
		case messages.Fenced:
			return r.Error
		case messages.Stopping, messages.Canceled, messages.Timeout, messages.Diverged:
			final = false // not the member's doing: it may be asked again
		}
	}
	if final && find[messages.Answered](s.log, writer, a.Step, nil) == nil {
		if err := s.append(ctx, writer, a.Step, &messages.Answered{Reply: r}); err != nil {
			return err
		}
	}
	return s.send(ctx, a.From, &r)
}

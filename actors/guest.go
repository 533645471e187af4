package actors

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// guestActor is a member of another node's run on the node where it lives. It
// writes in the journal under a claim of this node, and takes its asks from the
// bus. It ends with its agent, and tells the run's owner.
type guestActor struct {
	g       *guest
	agent   Agent
	scope   *scope
	claim   messages.Claim
	unserve func()
	opened  bool
	over    bool
}

type (
	// settledIn: the member's writer is claimed and the run's records read.
	settledIn struct {
		log *runLog
		err error
	}
	// move has a guest end the step under way and then go elsewhere.
	move struct{}
	// leave has a guest go without a word.
	leave struct{}
	// expired: it may be that the owner has not been heard for too long.
	expired struct{}
)

// goneWithin bounds the attempts to tell an owner that its member is gone.
const goneWithin = 10 * time.Second

func (rt *Runtime) guestSpec(g *guest, a Agent, claim messages.Claim) supervisor.Spec {
	a.Restart = supervisor.Temporary
	return supervisor.Spec{Name: g.name, Kind: "guest", Restart: supervisor.Temporary, New: func() (supervisor.Actor, error) {
		rt.guests.mu.Lock()
		rt.guests.alive[g.name] = g
		rt.guests.mu.Unlock()
		p := g.place
		s := &scope{rt: rt, run: p.Task.ID, task: p.Task, owner: p.Owner, drained: g.drained, moves: g.moves}
		s.flights.lease = rt.tenure(claim)
		return &guestActor{g: g, agent: a, scope: s, claim: claim}, nil
	}}
}

func (a *guestActor) Start(c *supervisor.Context) error {
	s, p := a.scope, a.g.place
	s.top = c.Self()
	c.Go("taking the member over", func(ctx context.Context) any {
		log, err := openMember(ctx, s.rt.journal, p.Task, p.Member, a.claim)
		return &settledIn{log, err}
	})
	c.Go("watching its owner", func(ctx context.Context) any {
		select {
		case <-s.rt.cfg.Nodes.Lost(messages.SplitOwner(p.Owner)):
			return leave{}
		case <-ctx.Done():
			return nil
		}
	})
	c.Go("waiting for a drain", func(ctx context.Context) any {
		select {
		case <-s.rt.drained:
			return move{}
		case <-ctx.Done():
			return nil
		}
	})
	c.After(guestExpiry, expired{})
	return nil
}

// openMember takes one member's writer over, and then reads the run.
func openMember(ctx context.Context, j Journal, task messages.Task, member string, claim messages.Claim) (*runLog, error) {
	w, err := j.Claim(ctx, task.ID, member, claim)
	if err != nil {
		return nil, err
	}
	l, err := readLog(ctx, j, task)
	if err != nil {
		return nil, err
	}
	l.writers = map[string]Writer{member: w}
	return l, nil
}

func (a *guestActor) Stop(*supervisor.Context) {
	a.scope.flights.over.Store(true)
	if a.unserve != nil {
		a.unserve()
	}
}

func (a *guestActor) Report() messages.Status {
	s := messages.Status{State: messages.Starting}
	if a.opened {
		s.State = messages.Idle
		if step, ok := a.scope.working.Load(a.g.place.Member); ok {
			s.State, s.Step = messages.Running, fmt.Sprintf("working on step %s", step)
		}
	}
	s.Detail = map[string]string{"run": a.scope.run, "owner": a.g.place.Owner}
	return s
}

func (a *guestActor) Receive(c *supervisor.Context, msg any) error {
	switch m := msg.(type) {
	case leave:
		c.Stop()
	case *abort:
		a.end(c, "", messages.AsError(m.err, messages.Stopping, a.g.place.Member))
	case expired:
		if left := a.g.expires().Sub(c.Now()); left > 0 {
			c.After(left, expired{})
		} else {
			c.Stop()
		}
	case *settledIn:
		if m.err == nil {
			m.err = a.settle(c, m.log)
		}
		if m.err != nil {
			a.end(c, "", failureOf(m.err, a.g.place.Member))
		}
	case move:
		if agent, ok := c.Child(a.agent.Name); ok {
			agent.Tell(untilIdle{c.Self()})
		} else {
			a.moved(c)
		}
	case idle:
		a.moved(c)
	}
	return nil
}

// settle starts the agent with its tools, and has its address served.
func (a *guestActor) settle(c *supervisor.Context, log *runLog) error {
	if a.over {
		return nil
	}
	s, member := a.scope, a.g.place.Member
	s.log = log
	tools := supervisor.Spec{Name: toolsName, Kind: "supervisor", Policy: supervisor.Policy{Spent: supervisor.DoQuarantine}}
	for _, t := range s.rt.toolsOf(a.agent) {
		tools.Children = append(tools.Children, toolSpec(a.agent.Name, t))
	}
	if len(tools.Children) > 0 {
		if _, err := c.Spawn(tools); err != nil {
			return err
		}
	}
	spec, err := memberSpec(s, member, a.agent, c.Path()+"/"+toolsName)
	if err != nil {
		return err
	}
	agent, err := c.Spawn(spec)
	if err != nil {
		return err
	}
	if a.unserve, err = s.serve(member, agent); err != nil {
		return err
	}
	a.opened = true
	a.g.settle(nil)
	return nil
}

func (a *guestActor) ChildChanged(c *supervisor.Context, change supervisor.ChildChange) {
	if change.Name != a.agent.Name || change.Kind != messages.ActorFailed {
		return
	}
	step, _ := a.scope.working.LoadAndDelete(a.g.place.Member)
	key, _ := step.(string)
	a.end(c, key, change.Failure)
}

// moved: nothing is under way, and the node is being stopped.
func (a *guestActor) moved(c *supervisor.Context) {
	a.end(c, "", messages.Errorf(messages.Stopping, a.g.place.Member, "the node %s is being stopped", a.scope.rt.cfg.Node))
}

// end stops what is under way, tells the owner why, and goes.
func (a *guestActor) end(c *supervisor.Context, step string, why *messages.Error) {
	if a.over {
		return
	}
	a.over = true
	a.g.settle(why) // unless it could be asked: then its owner is told
	if !a.opened {
		c.Stop()
		return
	}
	a.unserve() // what comes now is for its next home
	a.scope.flights.over.Store(true)
	c.StopChild(a.agent.Name)
	c.StopChild(toolsName)
	p := a.g.place
	gone := &messages.Gone{Member: p.Member, Incarnation: p.Incarnation, Step: step, Error: why}
	c.Go("telling the owner", func(ctx context.Context) any {
		a.scope.tellOwner(ctx, gone)
		return leave{}
	})
}

// tellOwner tells whoever supervises a member that it is gone. An owner that
// cannot be told asks for the member, and hears that it is not here.
func (s *scope) tellOwner(ctx context.Context, g *messages.Gone) {
	ctx, cancel := context.WithTimeout(ctx, goneWithin)
	defer cancel()
	at := messages.PlanWriter
	if team := path.Dir(g.Member); team != "." {
		at = join(team, at)
	}
	e := messages.Envelope{Run: s.run, Writer: s.owner, Time: s.rt.sys.Clock().Now(), Body: g}
	backoff := supervisor.Backoff{Initial: 10 * time.Millisecond, Max: time.Second}
	for n := 1; s.rt.bus.Send(ctx, s.run, at, e) != nil; n++ {
		t := time.NewTimer(backoff.Wait(n, nil))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

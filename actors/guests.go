package actors

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// guests are the members of other nodes' runs that live on this one.
type guests struct {
	ref supervisor.Ref // their supervisor; zero on a node that is alone

	mu    sync.Mutex
	all   map[string]*guest // by name
	alive map[string]*guest // those whose actors have not stopped, by name
}

// guest is one placement of a member, on its home's side.
type guest struct {
	name  string // of its actor: the run, and the member's path
	place messages.Place
	ref   supervisor.Ref
	done  chan struct{} // closed once its actors have stopped
	ended sync.Once

	once  sync.Once
	ready chan struct{} // closed once it can be asked, or cannot live here for err
	err   error

	closing sync.Once
	drained chan struct{} // closed once no new step may begin

	mu     sync.Mutex
	heard  time.Time // of its owner
	answer bool      // an ask that is cut off is answered so
}

// Host has a member of another node's run live here, keeps it, or lets it go, as
// p says; see [messages.Place]. It returns once the member can be asked here:
// what it was asked before, others may have taken who are gone. team finds the team of p's task, and is asked
// only for a member that is new here. Its errors are those of [Nodes].
func (rt *Runtime) Host(ctx context.Context, p messages.Place, team func() (Member, error)) error {
	if rt.guests.ref.IsZero() {
		return messages.Errorf(messages.Unavailable, rt.cfg.Node, "the node is alone, and takes no members of others")
	}
	if err := messages.CheckName("place: run", p.Task.ID); err != nil {
		return err
	}
	name := p.Task.ID + "." + strings.ReplaceAll(p.Member, "/", ".")
	g, old, err := rt.admit(name, p)
	if err != nil || g == nil {
		return err
	}
	if g == old {
		return g.hear(ctx, p, rt.sys.Clock().Now())
	}
	if err := rt.house(ctx, g, old, team); err != nil {
		rt.guests.drop(g)
		g.settle(err)
	}
	return g.wait(ctx)
}

// admit finds or makes the guest of a word about a placement; old is whom it
// replaces, the same one for a word to a guest that is here, nil for none. No
// guest and no error: nothing is to be done.
func (rt *Runtime) admit(name string, p messages.Place) (g, old *guest, err error) {
	gs := &rt.guests
	gs.mu.Lock()
	defer gs.mu.Unlock()
	old = gs.all[name]
	switch {
	case old != nil && old.place.Owner == p.Owner && old.place.Incarnation == p.Incarnation:
		return old, old, nil
	case p.Leave:
		return nil, nil, nil
	case p.Known || p.Finish:
		return nil, nil, messages.Errorf(messages.Unavailable, rt.cfg.Node, "the member %s of run %s does not live here", p.Member, p.Task.ID)
	case old != nil && old.place.Owner == p.Owner && old.place.Incarnation > p.Incarnation:
		return nil, nil, messages.Errorf(messages.Unavailable, rt.cfg.Node, "the member %s of run %s was placed here anew", p.Member, p.Task.ID)
	case rt.proceed() != nil:
		return nil, nil, messages.Errorf(messages.Stopping, rt.cfg.Node, "the node is stopping and takes no member")
	case old == nil && len(gs.all) >= rt.cfg.MaxGuests:
		return nil, nil, messages.Errorf(messages.Throttled, rt.cfg.Node, "the node is full: %d members of other nodes live on it", len(gs.all))
	}
	g = &guest{
		name: name, place: p, ref: rt.sys.At(gs.ref.Path() + "/" + name), heard: rt.sys.Clock().Now(),
		ready: make(chan struct{}), done: make(chan struct{}), drained: make(chan struct{}),
	}
	if gs.all == nil {
		gs.all, gs.alive = map[string]*guest{}, map[string]*guest{}
	}
	gs.all[name] = g
	return g, old, nil
}

// drop forgets a guest that cannot live here. Whoever lives under its name stays:
// an owner that is refused takes nothing from its heir.
func (gs *guests) drop(g *guest) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	here := gs.alive[g.name]
	if gs.all[g.name] == g {
		delete(gs.all, g.name)
		if here != nil {
			gs.all[g.name] = here
		}
	}
	if here != g { // else it is on its way down
		g.over()
	}
}

// present are the guests at this moment.
func (gs *guests) present() (all []*guest) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	for _, g := range gs.all {
		all = append(all, g)
	}
	for name, g := range gs.alive {
		if gs.all[name] != g { // it is being replaced
			all = append(all, g)
		}
	}
	return all
}

// Guests is how many members of other nodes' runs live here.
func (rt *Runtime) Guests() int {
	rt.guests.mu.Lock()
	defer rt.guests.mu.Unlock()
	return len(rt.guests.all)
}

// house starts a guest's actors, once those of whom it replaces have stopped.
func (rt *Runtime) house(ctx context.Context, g, old *guest, team func() (Member, error)) error {
	m, err := team()
	if err != nil {
		return err
	}
	a, err := memberAt(m, g.place.Member)
	if err == nil {
		err = a.Check()
	}
	if err != nil {
		return err
	}
	if rt.away(a) {
		return messages.Errorf(messages.Invalid, rt.cfg.Node, "agent %q cannot live here: it needs %s", a.Name, a.wants())
	}
	if err := rt.CheckModels(a); err != nil {
		return err
	}
	// Not under the caller's context: see spawnProvider.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spawnWait)
	defer cancel()
	if old != nil {
		if err := rt.sys.StopActor(ctx, old.ref); err != nil && messages.ClassOf(err) != messages.Unavailable {
			return err
		}
	}
	claim := rt.claim("")
	lease := rt.tenure(claim)
	if lease.holds() {
		if _, err = rt.sys.Spawn(ctx, rt.guests.ref, rt.guestSpec(g, a, claim)); err != nil {
			return err
		}
	}
	if !lease.holds() { // Fence may have come before there was anybody to hear it
		g.ref.Tell(leave{})
		return messages.Errorf(messages.Unavailable, rt.cfg.Node, "the node has no lease now")
	}
	return nil
}

// memberAt is the agent at a path below a team, or the one that the run is of.
func memberAt(m Member, path string) (Agent, error) {
	m = value(m)
	if a, ok := m.(Agent); ok && a.Name == path {
		return a, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		t, _ := m.(Team)
		m = nil
		for _, sub := range t.Members {
			if sub = value(sub); sub.MemberName() == name {
				m = sub
			}
		}
	}
	if a, ok := m.(Agent); ok {
		return a, nil
	}
	return Agent{}, messages.Errorf(messages.Invalid, "", "the team has no agent %q here: its definition is not the owner's", path)
}

// hear takes a word of the guest's owner.
func (g *guest) hear(ctx context.Context, p messages.Place, now time.Time) error {
	if p.Leave {
		g.ref.Tell(leave{})
		return nil
	}
	if err := g.wait(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	g.heard, g.answer = now, g.answer || p.Finish
	g.mu.Unlock()
	if p.Finish {
		g.close()
	}
	return nil
}

// settle says that the guest can be asked now, or that it cannot live here.
func (g *guest) settle(err error) {
	g.once.Do(func() {
		g.err = err
		close(g.ready)
	})
}

func (g *guest) wait(ctx context.Context) error {
	select {
	case <-g.ready:
		return g.err
	case <-ctx.Done():
		return messages.AsError(context.Cause(ctx), messages.Timeout, g.name)
	}
}

// over says that its actors have stopped, or never were.
func (g *guest) over() { g.ended.Do(func() { close(g.done) }) }

// close lets no new step begin.
func (g *guest) close() { g.closing.Do(func() { close(g.drained) }) }

// moves reports whether what is cut off here goes on elsewhere.
func (g *guest) moves() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.answer
}

// expires is when the guest goes if it hears nothing of its owner.
func (g *guest) expires() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heard.Add(guestExpiry)
}

// guestsActor supervises the guests. One that fails is not started again here:
// that is the affair of its run's policy.
type guestsActor struct{ rt *Runtime }

func (*guestsActor) Receive(*supervisor.Context, any) error { return nil }

func (a *guestsActor) ChildChanged(_ *supervisor.Context, change supervisor.ChildChange) {
	if change.Kind != messages.ActorStopped {
		return
	}
	gs := &a.rt.guests
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if g := gs.alive[change.Name]; g != nil {
		delete(gs.alive, g.name)
		if gs.all[g.name] == g {
			delete(gs.all, g.name)
		}
		g.settle(messages.Errorf(messages.Unavailable, g.name, "the member has gone"))
		g.over()
	}
}

func (*guestsActor) Report() messages.Status { return messages.Status{State: messages.Running} }

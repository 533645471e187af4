package supervisor_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// family is a supervisor with children a, b, c and d.
type family struct {
	*kit
	p          supervisor.Ref
	a, b, c, d supervisor.Ref
}

func newFamily(t *testing.T, p supervisor.Policy, restart supervisor.Restart) *family {
	k := newKit(t, supervisor.Config{})
	f := &family{kit: k}
	f.p = k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "p", Policy: p})
	f.a, f.b, f.c = k.probe(f.p, "a"), k.probe(f.p, "b"), k.probe(f.p, "c")
	f.d = k.spawn(f.p, supervisor.Spec{Name: "d", Restart: restart})
	for _, r := range []supervisor.Ref{f.a, f.b, f.c, f.d} {
		k.alive(r)
	}
	k.forget()
	return f
}

// state is the four children's states, as their supervisor sees them.
func (f *family) states() (s string) {
	for _, n := range f.node(f.p).Children {
		switch n.State {
		case messages.Idle:
			s += n.Name
		case messages.BackingOff:
			s += "-"
		case messages.Quarantined:
			s += "q"
		default:
			s += "?"
		}
	}
	return s
}

func TestStrategies(t *testing.T) {
	const wait = 100 * time.Millisecond
	for _, c := range []struct {
		strategy  supervisor.Strategy
		held      string
		restarted []string
	}{
		{supervisor.OneForOne, "a-cd", []string{"covey/p/b"}},
		{supervisor.RestForOne, "a---", []string{"covey/p/b", "covey/p/c", "covey/p/d"}},
		{supervisor.AllForOne, "----", []string{"covey/p/a", "covey/p/b", "covey/p/c", "covey/p/d"}},
	} {
		t.Run(string(c.strategy), func(t *testing.T) {
			f := newFamily(t, supervisor.Policy{Strategy: c.strategy}, supervisor.Transient)
			inC := f.block(f.c) // a sibling in the middle of a handler
			_ = f.panic(f.b)
			f.event(messages.ActorBackingOff, "covey/p/b")
			inC()
			// A held sibling takes no message until its restart.
			got := make(chan error, 1)
			go func() { _, err := supervisor.Ask[string](f.ctx, f.d, "x"); got <- err }()
			if s := f.states(); s != c.held {
				t.Fatalf("held %q, want %q", s, c.held)
			}
			if c.strategy != supervisor.OneForOne {
				for f.node(f.d).Mailbox != 1 {
					select {
					case err := <-got:
						t.Fatal("a held actor answered: ", err)
					case <-f.ctx.Done():
						t.Fatal("the message is nowhere")
					default:
					}
				}
			}
			f.clock.Advance(wait)
			if err := <-got; err != nil {
				t.Fatal(err)
			}
			for _, r := range []supervisor.Ref{f.a, f.b, f.c, f.d} {
				f.alive(r)
			}
			wantPaths(t, f.order(messages.ActorRestarted), c.restarted...)
			if n := f.node(f.b); n.Restarts != 1 {
				t.Fatalf("%+v", n)
			}
			if n := f.node(f.d); n.Restarts != 0 { // a sibling's failure is not its own
				t.Fatalf("%+v", n)
			}
		})
	}
}

func TestTwoChildrenFailingAtOnceAreOneRestart(t *testing.T) {
	for _, wait := range []time.Duration{-1, 0} {
		f := newFamily(t, supervisor.Policy{Strategy: supervisor.AllForOne, Intensity: 1, Spent: supervisor.DoQuarantine, Backoff: supervisor.Backoff{Initial: wait}}, "")
		// Both fail while the supervisor is in a handler, so that it learns of
		// both together.
		release := f.block(f.p)
		var wg sync.WaitGroup
		for _, r := range []supervisor.Ref{f.a, f.c} {
			wg.Go(func() { _ = f.panic(r) })
		}
		wg.Wait()
		release()
		f.event(messages.ActorFailed, "covey/p/a")
		f.alive(f.p)
		f.clock.Advance(time.Second)
		for _, r := range []supervisor.Ref{f.a, f.b, f.c, f.d} {
			f.alive(r)
		}
		if n := len(f.order(messages.ActorRestarted)); n != 4 {
			t.Fatalf("wait %d: %d restarts: %q", wait, n, f.order(messages.ActorRestarted))
		}
	}
}

func TestAHeldSiblingIsInterruptedAndCannotStartWorkAnew(t *testing.T) {
	f := newFamily(t, supervisor.Policy{Strategy: supervisor.AllForOne}, "")
	in, out, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	kept := make(chan error, 1)
	go func() {
		kept <- f.ask(f.b, func(c *supervisor.Context) error {
			c.Asker()
			ctx := c.Context()
			close(in)
			<-ctx.Done()
			<-out
			c.Go("late", func(ctx context.Context) any { <-ctx.Done(); close(ended); return nil })
			return nil
		})
	}()
	f.wait(in)
	_ = f.panic(f.a)
	wantClass(t, <-kept, messages.Stopping)
	close(out)
	f.wait(ended) // while the backoff lasts: the clock stands
	f.event(messages.ActorBackingOff, "covey/p/b")
	f.clock.Advance(time.Second)
	f.alive(f.b)
}

func TestRestForOneKeepsTheOrderWhenAnEarlierOneFailsDuringTheBackoff(t *testing.T) {
	f := newFamily(t, supervisor.Policy{Strategy: supervisor.RestForOne}, "")
	_ = f.panic(f.c)
	f.event(messages.ActorBackingOff, "covey/p/c")
	f.clock.Advance(60 * time.Millisecond)
	_ = f.panic(f.a) // 40 ms before the others would be back
	f.event(messages.ActorBackingOff, "covey/p/a")
	f.clock.Advance(50 * time.Millisecond)
	if s := f.states(); s != "----" {
		t.Fatal(s)
	}
	f.clock.Advance(50 * time.Millisecond)
	f.alive(f.d)
	wantPaths(t, f.order(messages.ActorRestarted), "covey/p/a", "covey/p/b", "covey/p/c", "covey/p/d")
}

// A failure's group is not always part of the next one's.
func TestAReleasedChildsFailureLeavesAnEarlierBackoffAlone(t *testing.T) {
	f := newFamily(t, supervisor.Policy{Strategy: supervisor.RestForOne, OnClass: map[messages.Class]supervisor.Directive{messages.Poison: supervisor.DoQuarantine}}, "")
	_ = f.fail(f.b, messages.Poison)
	f.event(messages.ActorQuarantined, "covey/p/b")
	_ = f.panic(f.a)
	f.event(messages.ActorBackingOff, "covey/p/d")
	f.b.Release()
	f.event(messages.ActorRestarted, "covey/p/b")
	_ = f.panic(f.b)
	f.event(messages.ActorBackingOff, "covey/p/b")
	f.clock.Advance(time.Second)
	for _, r := range []supervisor.Ref{f.a, f.b, f.c, f.d} {
		f.alive(r)
	}
}

func TestATemporarySiblingIsStoppedAndNotRestarted(t *testing.T) {
	f := newFamily(t, supervisor.Policy{Strategy: supervisor.AllForOne}, supervisor.Temporary)
	_ = f.panic(f.a)
	f.event(messages.ActorStopped, "covey/p/d")
	f.clock.Advance(time.Second)
	f.alive(f.b)
	if s := f.states(); s != "abc" {
		t.Fatal(s)
	}
}

func TestAllForOneLeavesQuarantinedAndStoppingChildrenAlone(t *testing.T) {
	f := newFamily(t, supervisor.Policy{Strategy: supervisor.AllForOne, OnClass: map[messages.Class]supervisor.Directive{messages.Poison: supervisor.DoQuarantine}}, "")
	_ = f.fail(f.a, messages.Poison)
	release := f.block(f.b)
	f.in(f.p, func(c *supervisor.Context) { c.StopChild("b") })
	_ = f.panic(f.c)
	f.event(messages.ActorBackingOff, "covey/p/c")
	f.clock.Advance(time.Second)
	f.alive(f.c)
	f.alive(f.d)
	release()
	f.event(messages.ActorStopped, "covey/p/b")
	if s := f.states(); s != "qcd" {
		t.Fatal(s)
	}
	wantPaths(t, f.order(messages.ActorRestarted), "covey/p/c", "covey/p/d")
	wantClass(t, f.ask(f.a, nil), messages.Poison)
}

func TestStopDuringABackoff(t *testing.T) {
	for _, strategy := range []supervisor.Strategy{supervisor.OneForOne, supervisor.AllForOne} {
		f := newFamily(t, supervisor.Policy{Strategy: strategy}, "")
		_ = f.panic(f.a)
		f.event(messages.ActorBackingOff, "covey/p/a")
		if err := f.sys.StopActor(f.ctx, f.a); err != nil {
			t.Fatal(err)
		}
		again := f.probe(f.p, "a") // a new one, which the old one's timer means nothing to
		f.forget()
		f.clock.Advance(time.Minute)
		f.alive(again)
		f.alive(f.b)
		for _, path := range f.order(messages.ActorRestarted) {
			if path == "covey/p/a" {
				t.Fatal("restarted what was stopped")
			}
		}
	}
}

// A sibling that ends by itself while it is to be restarted: the stop wins.
func TestATransientThatStopsWhileItIsHeld(t *testing.T) {
	f := newFamily(t, supervisor.Policy{Strategy: supervisor.AllForOne, Backoff: supervisor.Backoff{Initial: -1}}, supervisor.Transient)
	x := f.spawn(f.d, supervisor.Spec{Name: "x"}) // so that its end takes two steps
	inX := f.block(x)
	in, out := make(chan struct{}), make(chan struct{})
	f.d.Tell(do(func(c *supervisor.Context) error { close(in); <-out; c.Stop(); return nil }))
	f.wait(in)
	_ = f.panic(f.a)
	f.event(messages.ActorRestarted, "covey/p/d")
	close(out)
	f.alive(f.a)
	inX()
	f.event(messages.ActorStopped, "covey/p/d/x")
	// Either the stop came first and it is gone, or the restart did and it is
	// back; in both cases it answers at once.
	if _, err := supervisor.Ask[string](f.ctx, f.d, "x"); err != nil {
		wantOneOf(t, err, messages.Stopping, messages.Unavailable)
	}
}

func wantOneOf(t *testing.T, err error, cs ...messages.Class) {
	t.Helper()
	for _, c := range cs {
		if messages.ClassOf(err) == c {
			return
		}
	}
	t.Fatalf("got %v, want one of %v", err, cs)
}

func TestAParentsRestartDuringAChildsBackoff(t *testing.T) {
	k := newKit(t, supervisor.Config{Policy: instant})
	p := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "p", Children: []supervisor.Spec{{Name: "a", New: newProbe}}})
	var a supervisor.Ref
	k.in(p, func(c *supervisor.Context) { a, _ = c.Child("a") })
	_ = k.panic(a)
	k.event(messages.ActorBackingOff, "covey/p/a")
	_ = k.panic(p)
	k.alive(p)
	k.alive(a) // at once: it is a new one
	k.forget()
	k.clock.Advance(time.Minute)
	k.alive(a)
	if got := k.order(messages.ActorRestarted); len(got) != 0 {
		t.Fatalf("a stale restart: %q", got)
	}
	if n := k.node(a); n.Total != 0 {
		t.Fatalf("%+v", n)
	}
}

// A supervisor that escalated is held itself; its children's restarts that fall
// due meanwhile mean nothing to its next incarnation.
func TestRestartsThatFallDueWhileTheSupervisorIsHeld(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	p := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "p",
		Policy:   supervisor.Policy{Backoff: supervisor.Backoff{Initial: 50 * time.Millisecond}, OnClass: map[messages.Class]supervisor.Directive{messages.Fenced: supervisor.DoEscalate}},
		Children: []supervisor.Spec{{Name: "a", New: newProbe}, {Name: "b", New: newProbe}}})
	var a, b supervisor.Ref
	k.in(p, func(c *supervisor.Context) { a, _ = c.Child("a"); b, _ = c.Child("b") })
	_ = k.panic(a)
	k.event(messages.ActorBackingOff, "covey/p/a")
	_ = k.fail(b, messages.Fenced)
	k.event(messages.ActorBackingOff, "covey/p")
	// b ends with its supervisor: its askers need not wait for that.
	_, err := supervisor.Ask[string](k.ctx, b, "x")
	wantClass(t, err, messages.Stopping)
	k.clock.Advance(60 * time.Millisecond)
	k.alive(a) // the restart does not wait for the supervisor's own
	k.clock.Advance(time.Minute)
	k.alive(p)
	k.alive(a)
	k.alive(b)
}

func TestEscalationThroughThreeLevels(t *testing.T) {
	once := supervisor.Policy{Backoff: supervisor.Backoff{Initial: -1}, Intensity: 1}
	spec := supervisor.Spec{Name: "d", New: newProbe}
	for _, name := range []string{"c", "b", "a"} {
		spec = supervisor.Spec{Name: name, New: newProbe, Policy: once, Children: []supervisor.Spec{spec}}
	}
	k := newKit(t, supervisor.Config{Policy: once})
	a := k.spawn(supervisor.Ref{}, spec)
	d := a
	for _, name := range []string{"b", "c", "d"} {
		k.in(d, func(c *supervisor.Context) { d, _ = c.Child(name) })
	}
	// Each level may restart once; d fails for ever.
	failures := 0
	for k.node(a).State != messages.Quarantined {
		if failures++; failures > 100 {
			t.Fatal("no end")
		}
		if err := k.fail(d, messages.Budget); messages.ClassOf(err) == messages.Unavailable {
			// between a parent's end and the next beginning
			failures--
		}
		if k.ctx.Err() != nil {
			t.Fatal(k.ctx.Err())
		}
	}
	for path, want := range map[string]int{"covey/a/b/c/d": 8, "covey/a/b/c": 4, "covey/a/b": 2, "covey/a": 1} {
		got := 0
		for _, p := range k.order(messages.ActorRestarted) {
			if p == path {
				got++
			}
		}
		if got != want {
			t.Errorf("%s restarted %d times, want %d", path, got, want)
		}
	}
	err := k.ask(a, nil)
	wantClass(t, err, messages.Budget)
	if !contains(err, "gave up after 1 restarts") {
		t.Error(err)
	}
	k.alive(k.probe(supervisor.Ref{}, "other"))
	a.Release()
	k.event(messages.ActorRestarted, "covey/a")
	k.alive(a)
	for k.ask(d, func(c *supervisor.Context) error { c.Reply(1); return nil }) != nil {
		if k.ctx.Err() != nil {
			t.Fatal("the branch is not back")
		}
	}
}

func TestASupervisorWithoutNewKeepsWhatWasSpawnedUnderIt(t *testing.T) {
	k := newKit(t, supervisor.Config{Policy: instant})
	p, err := k.sys.Spawn(k.ctx, supervisor.Ref{}, supervisor.Spec{Name: "p", Kind: "teams",
		Policy:   supervisor.Policy{OnClass: map[messages.Class]supervisor.Directive{messages.Fenced: supervisor.DoEscalate}},
		Children: []supervisor.Spec{{Name: "own", New: newProbe}}})
	if err != nil {
		t.Fatal(err)
	}
	a := k.probe(p, "a")
	gone := k.probe(p, "gone")
	k.spawn(p, supervisor.Spec{Name: "once", Restart: supervisor.Temporary})
	if err := k.sys.StopActor(k.ctx, gone); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		k.alive(a)
		k.forget()
		_ = k.fail(a, messages.Fenced)
		k.event(messages.ActorStarted, "covey/p/a")
		k.alive(a)
	}
	var names []string
	for _, n := range k.node(p).Children {
		names = append(names, n.Name)
	}
	wantPaths(t, names, "own", "a")
}

func TestSpawnWhileTheParentStops(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	in, spawned := make(chan struct{}), make(chan error, 1)
	p := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "p", New: func() (supervisor.Actor, error) {
		return hooks{stop: func(c *supervisor.Context) {
			_, err := c.Spawn(supervisor.Spec{Name: "late", New: newProbe})
			spawned <- err
			close(in)
		}}, nil
	}})
	release := k.block(k.probe(p, "a"))
	stopped := make(chan error, 1)
	go func() { stopped <- k.sys.StopActor(k.ctx, p) }()
	k.wait(in)
	wantClass(t, <-spawned, messages.Stopping)
	_, err := k.sys.Spawn(k.ctx, p, supervisor.Spec{Name: "b"})
	wantClass(t, err, messages.Stopping)
	release()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	_, err = k.sys.Spawn(k.ctx, p, supervisor.Spec{Name: "b"})
	wantClass(t, err, messages.Unavailable)
}

func TestStopOfTheSystem(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	wantClass(t, k.sys.StopActor(k.ctx, k.sys.Root()), messages.Invalid)
	wantClass(t, k.sys.StopActor(k.ctx, supervisor.Ref{}), messages.Unavailable)
	a := k.probe(supervisor.Ref{}, "a")
	_ = k.panic(a)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := k.sys.Stop(k.ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantClass(t, k.sys.StopActor(k.ctx, a), messages.Unavailable)
	_, err := k.sys.Spawn(k.ctx, supervisor.Ref{}, supervisor.Spec{Name: "b"})
	wantClass(t, err, messages.Unavailable)
	if n := k.sys.Tree(k.ctx, supervisor.TreeOptions{}); n.State != messages.Stopped {
		t.Fatalf("%+v", n)
	}
	a.Tell("nobody")
}

// told is a parent that notes what becomes of its children.
type told struct {
	probe
	changes chan supervisor.ChildChange
}

func (p told) ChildChanged(c *supervisor.Context, ch supervisor.ChildChange) {
	if ch.Name == "bad" {
		panic("in ChildChanged")
	}
	p.changes <- ch
}

func TestAParentIsToldWhatBecomesOfItsChildren(t *testing.T) {
	k := newKit(t, supervisor.Config{Policy: instant})
	p := told{changes: make(chan supervisor.ChildChange, 100)}
	ref := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "p", New: func() (supervisor.Actor, error) { return p, nil },
		Policy: supervisor.Policy{Backoff: supervisor.Backoff{Initial: -1}, OnClass: map[messages.Class]supervisor.Directive{
			messages.Tool: supervisor.DoResume, messages.Poison: supervisor.DoQuarantine, messages.Fenced: supervisor.DoStop}}})
	a := k.probe(ref, "a")
	want := func(kinds ...messages.EventKind) {
		t.Helper()
		for _, kind := range kinds {
			if ch := <-p.changes; ch.Kind != kind || ch.Name != "a" {
				t.Fatalf("%+v, want %s", ch, kind)
			}
		}
	}
	_ = k.panic(a)
	want(messages.ActorFailed, messages.ActorRestarted)
	_ = k.fail(a, messages.Tool)
	want(messages.ActorFailed, messages.ActorResumed)
	_ = k.fail(a, messages.Poison)
	want(messages.ActorFailed, messages.ActorQuarantined)
	a.Release()
	want(messages.ActorRestarted)
	_ = k.fail(a, messages.Fenced)
	want(messages.ActorFailed, messages.ActorStopped)

	// Its panic is the parent's failure; the child was dealt with before.
	bad := k.probe(ref, "bad")
	_ = k.panic(bad)
	if ev := k.event(messages.ActorFailed, "covey/p"); ev.Class != messages.Crashed {
		t.Fatalf("%+v", ev)
	}
	k.alive(ref)
}

package supervisor_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// hooks is a probe with a Start and a Stop.
type hooks struct {
	probe
	start func(c *supervisor.Context) error
	stop  func(c *supervisor.Context)
}

func (h hooks) Start(c *supervisor.Context) error {
	if h.start != nil {
		return h.start(c)
	}
	return nil
}

func (h hooks) Stop(c *supervisor.Context) {
	if h.stop != nil {
		h.stop(c)
	}
}

func TestAParentThatRestartsGetsItsChildrenAgain(t *testing.T) {
	k := newKit(t, supervisor.Config{Policy: instant})
	spec := func(name string, children ...supervisor.Spec) supervisor.Spec {
		return supervisor.Spec{Name: name, New: newProbe, Children: children, Policy: instant}
	}
	p := k.spawn(supervisor.Ref{}, spec("p", spec("a"), spec("b", spec("c"))))
	var b supervisor.Ref
	k.in(p, func(c *supervisor.Context) { b, _ = c.Child("b") })
	release := k.block(b) // the parent has to wait for a child
	wantClass(t, k.panic(p), messages.Crashed)
	k.event(messages.ActorRestarted, "covey/p")
	release()
	k.alive(p)
	k.in(p, func(c *supervisor.Context) {
		for _, name := range []string{"a", "b"} {
			if _, ok := c.Child(name); !ok {
				t.Errorf("%s is not there again", name)
			}
		}
	})
	k.alive(b)
	if n := k.node(p); len(n.Children) != 2 || len(n.Children[1].Children) != 1 {
		t.Fatalf("%+v", n)
	}
}

func TestAChildBlockedInReceiveIsNamed(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	all := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "all", Policy: supervisor.Policy{Strategy: supervisor.AllForOne, Backoff: supervisor.Backoff{Initial: -1}}})
	p := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "p", Children: []supervisor.Spec{{Name: "a", New: newProbe}, {Name: "b", New: newProbe}}})
	var a supervisor.Ref
	k.in(p, func(c *supervisor.Context) { a, _ = c.Child("a") })
	release := k.block(a)

	stuck := func(path string) {
		t.Helper()
		k.clock.Advance(time.Minute)
		k.event(messages.ActorStuck, path)
	}
	// Stopped by a live supervisor:
	k.in(p, func(c *supervisor.Context) { c.StopChild("a") })
	stuck("covey/p/a")
	// Restarted for a sibling's sake:
	q, r := k.probe(all, "q"), k.probe(all, "r")
	unblock := k.block(q)
	wantClass(t, k.panic(r), messages.Crashed)
	k.event(messages.ActorRestarted, "covey/all/r")
	k.alive(r)
	stuck("covey/all/q")
	unblock()
	k.alive(q)

	ctx, cancel := context.WithTimeout(k.ctx, 20*time.Millisecond)
	defer cancel()
	err := k.sys.Stop(ctx)
	wantClass(t, err, messages.Timeout)
	if want := "did not stop: covey/p/a: "; !contains(err, want) {
		t.Fatalf("%v does not say %q", err, want)
	}
	stuck("covey/p/a")
	release()
	if err := k.sys.Stop(k.ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(k.order(messages.ActorStuck)); n != 3 {
		t.Fatalf("%d events of stuck actors: %q", n, k.order(messages.ActorStuck))
	}
}

func TestWorkThatDoesNotEndIsNamedByStop(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	a := k.probe(supervisor.Ref{}, "a")
	out := make(chan struct{})
	k.in(a, func(c *supervisor.Context) { c.Go("a long tale", func(context.Context) any { <-out; return nil }) })
	ctx, cancel := context.WithTimeout(k.ctx, 20*time.Millisecond)
	defer cancel()
	if err := k.sys.Stop(ctx); !contains(err, "covey/a (a long tale)") {
		t.Fatal(err)
	}
	close(out)
}

func TestEscalationNeverReachesTheGuardian(t *testing.T) {
	k := newKit(t, supervisor.Config{Policy: supervisor.Policy{OnClass: map[messages.Class]supervisor.Directive{messages.Poison: supervisor.DoEscalate}}})
	a := k.probe(supervisor.Ref{}, "a")
	wantClass(t, k.fail(a, messages.Poison), messages.Poison)
	k.event(messages.ActorQuarantined, "covey/a")
	wantClass(t, k.ask(a, nil), messages.Poison)
	k.alive(k.probe(supervisor.Ref{}, "b"))
}

func TestAPanicInStopStillStops(t *testing.T) {
	for name, bad := range map[string]func(){"panic": func() { panic("in Stop") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, supervisor.Config{Policy: instant})
			starts := atomic.Int64{}
			a := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "a", New: func() (supervisor.Actor, error) {
				starts.Add(1)
				return hooks{stop: func(*supervisor.Context) { bad() }}, nil
			}})
			wantClass(t, k.panic(a), messages.Crashed) // a restart goes through Stop too
			k.alive(a)
			if ev := k.event(messages.ActorFailed, "covey/a"); ev.Text != "" {
				t.Fatalf("%+v", ev)
			}
			if ev := k.event(messages.ActorFailed, "covey/a"); ev.Text != "while stopping" || ev.Error.Stack == "" {
				t.Fatalf("%+v", ev)
			}
			if err := k.sys.StopActor(k.ctx, a); err != nil {
				t.Fatal(err)
			}
			if n := starts.Load(); n != 2 {
				t.Fatal(n)
			}
		})
	}
}

func TestAFailureOfNewAndStartIsTheChilds(t *testing.T) {
	boom := func() (supervisor.Actor, error) { panic("boom") }
	fail := func() (supervisor.Actor, error) { return nil, messages.Errorf(messages.Unauthorized, "", "no") }
	none := func() (supervisor.Actor, error) { return nil, nil }
	start := func(f func(*supervisor.Context) error) func() (supervisor.Actor, error) {
		return func() (supervisor.Actor, error) { return hooks{start: f}, nil }
	}
	for name, c := range map[string]struct {
		new  func() (supervisor.Actor, error)
		want messages.Class
	}{
		"New panics":       {boom, messages.Crashed},
		"New fails":        {fail, messages.Unauthorized},
		"New gives nil":    {none, messages.Crashed},
		"New goes":         {func() (supervisor.Actor, error) { runtime.Goexit(); return nil, nil }, messages.Crashed},
		"Start panics":     {start(func(*supervisor.Context) error { panic("boom") }), messages.Crashed},
		"Start fails":      {start(func(*supervisor.Context) error { return messages.Budget }), messages.Budget},
		"Start fails late": {start(func(c *supervisor.Context) error { _, err := c.Spawn(supervisor.Spec{}); return err }), messages.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, supervisor.Config{})
			p := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "p", Policy: supervisor.Policy{Intensity: 2, Spent: supervisor.DoQuarantine}})
			a := k.spawn(p, supervisor.Spec{Name: "a", New: c.new})
			for range 2 {
				if ev := k.event(messages.ActorBackingOff, "covey/p/a"); ev.Class != c.want {
					t.Fatalf("%+v", ev)
				}
				k.clock.Advance(time.Second)
			}
			k.event(messages.ActorQuarantined, "covey/p/a")
			wantClass(t, k.ask(a, nil), c.want)
			k.alive(p)
			for _, path := range k.order(messages.ActorFailed) {
				if path != "covey/p/a" {
					t.Errorf("%s failed too", path)
				}
			}
		})
	}
}

func TestGoexitInReceiveDoesNotKillTheMailbox(t *testing.T) {
	k := newKit(t, supervisor.Config{Policy: instant})
	a := k.probe(supervisor.Ref{}, "a")
	for range 20 {
		wantClass(t, k.ask(a, func(*supervisor.Context) error { runtime.Goexit(); return nil }), messages.Crashed)
		k.alive(a)
	}
	if n := k.node(a); n.Total != 20 { // each counts once
		t.Fatal(n.Total)
	}
}

func TestABurstGivesItsMemoryBack(t *testing.T) {
	k := newKit(t, supervisor.Config{Clock: nil})
	const actors, burst = 4, 20_000
	refs := make([]supervisor.Ref, actors)
	for i := range refs {
		refs[i] = k.probe(supervisor.Ref{}, fmt.Sprint(i))
		k.alive(refs[i])
	}
	before := heap()
	for _, r := range refs {
		release := k.block(r)
		for range burst {
			r.Tell(struct{}{})
		}
		release()
	}
	for _, r := range refs {
		k.alive(r)
	}
	if kept := (heap() - before) / actors; kept > 4096 {
		t.Fatalf("%d bytes kept for each actor", kept)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestAMessageToANameThatIsBeingSpawned(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	p := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "p", Policy: instant})
	first := k.probe(p, "a")
	if err := k.sys.StopActor(k.ctx, first); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					first.Tell("x") // by name: it means whoever has it
					_, _ = supervisor.Ask[string](k.ctx, first, "x")
					k.sys.TreeOf(k.ctx, first, supervisor.TreeOptions{})
				}
			}
		})
	}
	for range 1000 {
		a := k.probe(p, "a")
		_ = k.panic(a)
		k.alive(a)
		if err := k.sys.StopActor(k.ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestAStaleOutcomeNeverReachesTheNextIncarnation(t *testing.T) {
	k := newKit(t, supervisor.Config{Policy: instant})
	var incarnation atomic.Int64
	a := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "a", New: func() (supervisor.Actor, error) {
		self := incarnation.Add(1)
		return supervisor.ActorFunc(func(c *supervisor.Context, msg any) error {
			switch m := msg.(type) {
			case do:
				return m(c)
			case int64:
				if m != self {
					t.Errorf("incarnation %d got the outcome of %d", self, m)
				}
			}
			c.Reply(self)
			return nil
		}), nil
	}})
	var works sync.WaitGroup
	for i := range 300 {
		works.Add(1)
		k.in(a, func(c *supervisor.Context) {
			self := incarnation.Load()
			c.After(time.Second, self)
			c.Go("w", func(ctx context.Context) any {
				defer works.Done()
				<-ctx.Done()
				return self
			})
		})
		switch i % 3 {
		case 0:
			_ = k.panic(a)
		case 1:
			_ = k.fail(a, messages.Budget)
		default:
			k.in(a, (*supervisor.Context).Stop)
		}
		k.clock.Advance(time.Second)
	}
	works.Wait()
	if got, err := supervisor.Ask[int64](k.ctx, a, "who"); err != nil || got != 301 {
		t.Fatal(got, err)
	}
}

// The panic of work whose incarnation has ended is nobody's failure any more,
// but it is not silent.
func TestAPanicOfStaleWorkIsAnEvent(t *testing.T) {
	for _, stop := range []bool{false, true} {
		k := newKit(t, supervisor.Config{Policy: instant})
		a := k.probe(supervisor.Ref{}, "a")
		k.in(a, func(c *supervisor.Context) {
			c.Go("w", func(ctx context.Context) any { <-ctx.Done(); panic("too late") })
		})
		if stop {
			if err := k.sys.StopActor(k.ctx, a); err != nil {
				t.Fatal(err)
			}
		} else {
			_ = k.fail(a, messages.Budget)
			k.event(messages.ActorFailed, "covey/a")
		}
		ev := k.event(messages.ActorFailed, "covey/a")
		if ev.Class != messages.Crashed || ev.Text == "" {
			t.Fatalf("%+v", ev)
		}
	}
}

// batch is what protoactor would deliver item by item, and once more.
type batch []any

func (b batch) GetMessages() []any { return b }

func TestABatchIsDeliveredOnce(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	n := 0
	a := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "a", New: func() (supervisor.Actor, error) {
		return supervisor.ActorFunc(func(c *supervisor.Context, msg any) error { n++; c.Reply(n); return nil }), nil
	}})
	a.Tell(batch{1, 2, 3})
	if got, err := supervisor.Ask[int](k.ctx, a, batch{4, 5}); got != 2 || err != nil {
		t.Fatal(got, err)
	}
}

// Against RestartStatistics, which is never pruned.
func TestTheTenThousandthRestartCostsWhatTheTenthDid(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	p := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "p", Policy: supervisor.Policy{Backoff: supervisor.Backoff{Initial: -1}, Intensity: 1 << 30}})
	a := k.probe(p, "a")
	k.sub.Close()
	// The fastest of many: a busy machine slows some of them, never speeds one up.
	fastest := func(n int) time.Duration {
		best := time.Hour
		for range n {
			start := time.Now()
			_ = k.fail(a, messages.Budget)
			best = min(best, time.Since(start))
		}
		return best
	}
	early := fastest(500)
	fastest(9000)
	if late := fastest(500); late > 3*early+10*time.Microsecond {
		t.Fatalf("a restart took %s, and %s after 10,000", early, late)
	}
}

func contains(err error, s string) bool {
	return err != nil && strings.Contains(err.Error(), s)
}

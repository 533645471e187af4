package supervisor_test

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

func TestBackoffIsExponentialCappedAndJittered(t *testing.T) {
	b := supervisor.Backoff{}
	middle := func() float64 { return 0.5 }
	for n, want := range map[int]time.Duration{0: 100, 1: 100, 2: 200, 3: 400, 8: 12_800, 9: 25_600, 10: 30_000, 5000: 30_000} {
		if got := b.Wait(n, middle); got != want*time.Millisecond {
			t.Errorf("wait %d is %s, want %s", n, got, want*time.Millisecond)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	lowest, highest := math.Inf(1), 0.0
	for range 10_000 {
		share := float64(b.Wait(3, rng.Float64)) / float64(400*time.Millisecond)
		lowest, highest = min(lowest, share), max(highest, share)
	}
	if lowest < 0.8 || lowest > 0.81 || highest > 1.2 || highest < 1.19 {
		t.Errorf("jitter from %f to %f", lowest, highest)
	}
	if got := (supervisor.Backoff{Jitter: -1}).Wait(1, func() float64 { t.Error("asked for a number"); return 0 }); got != 100*time.Millisecond {
		t.Error(got)
	}
	if got := (supervisor.Backoff{Initial: -1}).Wait(9, nil); got != 0 {
		t.Error(got)
	}
	huge := supervisor.Backoff{Initial: math.MaxInt64, Max: math.MaxInt64, Factor: 1e300, Jitter: 1}
	if got := huge.Wait(9, func() float64 { return 0.999 }); got <= 0 {
		t.Error(got)
	}
}

// Against NewExponentialBackoffStrategy, whose waits are linear and hidden.
func TestBackoffIsObservable(t *testing.T) {
	k := newKit(t, supervisor.Config{Policy: supervisor.Policy{Intensity: 8}})
	a := k.probe(supervisor.Ref{}, "a")
	for n := range 6 {
		_ = k.panic(a)
		ev := k.event(messages.ActorBackingOff, "covey/a")
		wait := 100 * time.Millisecond << n
		if ev.Attempt != n+1 || ev.Wait != wait || !ev.Until.Equal(k.clock.Now().Add(wait)) || ev.Class != messages.Crashed {
			t.Fatalf("%+v, want wait %s", ev, wait)
		}
		if node := k.node(a); node.State != messages.BackingOff || !node.Until.Equal(ev.Until) || node.Restarts != n+1 {
			t.Fatalf("%+v", node)
		}
		k.clock.Advance(wait - time.Nanosecond)
		if node := k.node(a); node.State != messages.BackingOff {
			t.Fatalf("%+v", node)
		}
		k.clock.Advance(time.Nanosecond)
		k.alive(a)
	}
}

func TestBadPoliciesAndSpecsSayWhatIsAllowed(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	policy := func(p supervisor.Policy) supervisor.Spec { return supervisor.Spec{Name: "x", Policy: p} }
	for want, spec := range map[string]supervisor.Spec{
		`strategy: two_for_one is not allowed: use one_for_one, all_for_one or rest_for_one`: policy(supervisor.Policy{Strategy: "two_for_one"}),
		`spent: resume is not allowed: use escalate, stop or quarantine`:                     policy(supervisor.Policy{Spent: supervisor.DoResume}),
		`on_class: odd is not allowed`:                                                       policy(supervisor.Policy{OnClass: map[messages.Class]supervisor.Directive{"odd": supervisor.DoStop}}),
		`on_class tool: retry is not allowed: use restart, resume, stop`:                     policy(supervisor.Policy{OnClass: map[messages.Class]supervisor.Directive{messages.Tool: "retry"}}),
		`backoff.factor: 0.5 is not allowed: use a number of at least 1`:                     policy(supervisor.Policy{Backoff: supervisor.Backoff{Factor: 0.5}}),
		`backoff.factor: NaN is not allowed`:                                                 policy(supervisor.Policy{Backoff: supervisor.Backoff{Factor: math.NaN()}}),
		`backoff.jitter: 1.5 is not allowed: use at most 1`:                                  policy(supervisor.Policy{Backoff: supervisor.Backoff{Jitter: 1.5}}),
		`backoff.max: -1s is not allowed: use a positive duration`:                           policy(supervisor.Policy{Backoff: supervisor.Backoff{Max: -time.Second}}),
		`within: -1s is not allowed: use a positive duration`:                                policy(supervisor.Policy{Within: -time.Second}),
		`name: "" is not allowed: use 1 to 256 bytes`:                                        {},
		`name: "a/b" is not allowed: use no '/'`:                                             {Name: "a/b"},
		`name: "a b" is not allowed`:                                                         {Name: "a b"},
		`name: "a\u00a0b" is not allowed`:                                                    {Name: "a\u00a0b"},
		`restart: "often" is not allowed: use permanent, transient or temporary`:             {Name: "x", Restart: "often"},
		`children: the name "y" is there twice`:                                              {Name: "x", Children: []supervisor.Spec{{Name: "y"}, {Name: "y"}}},
		`name: "a\tb" is not allowed`:                                                        {Name: "x", Children: []supervisor.Spec{{Name: "a\tb"}}},
	} {
		_, err := k.sys.Spawn(k.ctx, supervisor.Ref{}, spec)
		wantClass(t, err, messages.Invalid)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if _, err := supervisor.NewSystem(supervisor.Config{Name: "a/b"}); err == nil {
		t.Error("a bad name of a system")
	}
	k.probe(supervisor.Ref{}, "twice")
	_, err := k.sys.Spawn(k.ctx, supervisor.Ref{}, supervisor.Spec{Name: "twice"})
	wantClass(t, err, messages.Invalid)
}

// counter keeps state, so that a resume can be told from a restart.
func counter() (supervisor.Actor, error) {
	n := 0
	return supervisor.ActorFunc(func(c *supervisor.Context, msg any) error {
		if f, ok := msg.(do); ok {
			return f(c)
		}
		n++
		c.Reply(n)
		return nil
	}), nil
}

func TestOnClass(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	p := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "p", Policy: supervisor.Policy{
		Backoff: supervisor.Backoff{Initial: -1},
		OnClass: map[messages.Class]supervisor.Directive{
			messages.Tool:   supervisor.DoResume,
			messages.Fenced: supervisor.DoStop,
			messages.Poison: supervisor.DoQuarantine,
			messages.Budget: supervisor.DoEscalate,
		},
	}})
	a := k.spawn(p, supervisor.Spec{Name: "a", New: counter})
	count := func(want int) {
		t.Helper()
		if got, err := supervisor.Ask[int](k.ctx, a, "n"); got != want || err != nil {
			t.Fatalf("%d, %v, want %d", got, err, want)
		}
	}
	count(1)

	// Resume keeps the state, and the work under way.
	asked, work := make(chan struct{}), make(chan struct{})
	got := make(chan error, 1)
	go func() {
		got <- k.ask(a, func(c *supervisor.Context) error {
			asker := c.Asker()
			ctx := c.Context()
			go func() { <-work; asker.Answer(ctx.Err()) }()
			close(asked)
			return nil
		})
	}()
	k.wait(asked)
	wantClass(t, k.fail(a, messages.Tool), messages.Tool)
	k.event(messages.ActorResumed, "covey/p/a")
	count(2)
	close(work)
	if err := <-got; err != nil {
		t.Fatal(err)
	}

	// Any other class restarts.
	wantClass(t, k.fail(a, messages.Malformed), messages.Malformed)
	count(1)

	// Quarantine answers with the failure until Release.
	wantClass(t, k.fail(a, messages.Poison), messages.Poison)
	k.event(messages.ActorQuarantined, "covey/p/a")
	for range 3 {
		wantClass(t, k.ask(a, nil), messages.Poison)
	}
	_, err := k.sys.Spawn(k.ctx, a, supervisor.Spec{Name: "x"})
	wantClass(t, err, messages.Poison)
	if n := k.node(a); n.State != messages.Quarantined || n.LastFailure.Class != messages.Poison {
		t.Fatalf("%+v", n)
	}
	a.Release()
	k.event(messages.ActorRestarted, "covey/p/a")
	count(1)
	if n := k.node(a); n.State != messages.Idle || n.Restarts != 0 {
		t.Fatalf("%+v", n)
	}
	a.Release() // nothing to release
	supervisor.Ref{}.Release()
	k.sys.Root().Release()

	// Escalate fails the supervisor, which gets a new incarnation without the
	// children that it did not have in its spec.
	wantClass(t, k.fail(a, messages.Budget), messages.Budget)
	k.event(messages.ActorEscalated, "covey/p/a")
	if ev := k.event(messages.ActorFailed, "covey/p"); ev.Class != messages.Budget {
		t.Fatalf("%+v", ev)
	}
	k.event(messages.ActorBackingOff, "covey/p")
	k.clock.Advance(time.Minute)
	k.event(messages.ActorStarted, "covey/p")

	// Stop is for good.
	a = k.spawn(p, supervisor.Spec{Name: "a2", New: counter})
	count(1)
	wantClass(t, k.fail(a, messages.Fenced), messages.Fenced)
	if ev := k.event(messages.ActorStopped, "covey/p/a2"); ev.Class != messages.Fenced {
		t.Fatalf("%+v", ev)
	}
	_, err = supervisor.Ask[int](k.ctx, a, "n")
	wantClass(t, err, messages.Unavailable)
}

func TestIntensityForgetsWhatHasLeftTheWindow(t *testing.T) {
	k := newKit(t, supervisor.Config{Policy: supervisor.Policy{Backoff: supervisor.Backoff{Initial: -1}, Intensity: 3, Within: time.Minute, Spent: supervisor.DoStop}})
	a := k.probe(supervisor.Ref{}, "a")
	for range 20 { // three in each minute, for ever
		_ = k.panic(a)
		k.alive(a)
		k.clock.Advance(21 * time.Second)
	}
	if n := k.node(a); n.Total != 20 || n.Restarts != 2 {
		t.Fatalf("%+v", n)
	}
	_ = k.panic(a)
	_ = k.panic(a)
	ev := k.event(messages.ActorStopped, "covey/a")
	if ev.Error == nil || !strings.Contains(ev.Error.Error(), "gave up after 3 restarts in 1m0s") || ev.Error.Stack == "" || len(ev.Error.Others) != 1 {
		t.Fatalf("%+v", ev.Error)
	}
}

func TestRestartKinds(t *testing.T) {
	for _, c := range []struct {
		restart          supervisor.Restart
		afterStop, after bool
	}{
		{supervisor.Permanent, true, true},
		{supervisor.Transient, false, true},
		{supervisor.Temporary, false, false},
	} {
		t.Run(string(c.restart), func(t *testing.T) {
			k := newKit(t, supervisor.Config{Policy: instant})
			end := map[string]func(a supervisor.Ref){
				"stop":    func(a supervisor.Ref) { k.in(a, (*supervisor.Context).Stop) },
				"failure": func(a supervisor.Ref) { _ = k.panic(a) },
			}
			for how, again := range map[string]bool{"stop": c.afterStop, "failure": c.after} {
				a := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: how, Restart: c.restart})
				end[how](a)
				if again {
					k.event(messages.ActorRestarted, a.Path())
					k.alive(a)
					continue
				}
				k.event(messages.ActorStopped, a.Path())
				_, err := supervisor.Ask[string](k.ctx, a, "x")
				wantClass(t, err, messages.Unavailable)
			}
		})
	}
}

// A permanent actor that stops by itself keeps the messages behind the stop.
func TestAPermanentActorKeepsItsMailboxOverItsStop(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	a := k.probe(supervisor.Ref{}, "a")
	release := k.block(a)
	a.Tell(do(func(c *supervisor.Context) error { c.Stop(); return nil }))
	got := make(chan error, 1)
	go func() { _, err := supervisor.Ask[string](k.ctx, a, "later"); got <- err }()
	for k.mailbox("a") < 2 {
		runtime.Gosched()
	}
	release()
	if ev := k.event(messages.ActorBackingOff, "covey/a"); ev.Class != messages.Stopping {
		t.Fatalf("%+v", ev)
	}
	k.clock.Advance(time.Second)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// There is nothing to resume in an actor whose start failed.
func TestAFailedStartIsNeverResumed(t *testing.T) {
	k := newKit(t, supervisor.Config{Policy: supervisor.Policy{OnClass: map[messages.Class]supervisor.Directive{messages.Tool: supervisor.DoResume}}})
	tries := 0
	a := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "a", New: func() (supervisor.Actor, error) {
		if tries++; tries < 3 {
			return nil, messages.Tool
		}
		return probe{}, nil
	}})
	for range 2 {
		k.event(messages.ActorBackingOff, "covey/a")
		k.clock.Advance(time.Second)
	}
	k.alive(a)
	wantClass(t, k.fail(a, messages.Tool), messages.Tool)
	k.event(messages.ActorResumed, "covey/a")
}

func TestStopNamesNobodyOnceAllHasStopped(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	if err := k.sys.Stop(k.ctx); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(k.ctx)
	cancel()
	for range 100 {
		if err := k.sys.Stop(over); err != nil {
			t.Fatal(err)
		}
	}
}

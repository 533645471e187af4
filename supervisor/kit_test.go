package supervisor_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// limit bounds every wait of a test.
const limit = 30 * time.Second

// kit is a system under a fed clock, and an ear for its events.
type kit struct {
	testing.TB
	sys   *supervisor.System
	clock *clockwork.FakeClock
	ctx   context.Context
	sub   *supervisor.Subscription
	heard []messages.Event
}

func newKit(t testing.TB, cfg supervisor.Config) *kit {
	t.Helper()
	k := &kit{TB: t, clock: clockwork.NewFakeClock()}
	if cfg.Clock == nil {
		cfg.Clock = k.clock
	}
	if cfg.Random == nil {
		cfg.Random = func() float64 { return 0.5 } // no jitter
	}
	var err error
	if k.sys, err = supervisor.NewSystem(cfg); err != nil {
		t.Fatal(err)
	}
	k.sub = k.sys.Events().Subscribe(100_000, nil)
	var cancel context.CancelFunc
	k.ctx, cancel = context.WithTimeout(context.Background(), limit)
	t.Cleanup(func() {
		defer cancel()
		if err := k.sys.Stop(k.ctx); err != nil {
			t.Error(err)
		}
		k.sub.Close()
	})
	return k
}

// do is a message that runs in the actor's turn.
type do func(c *supervisor.Context) error

// probe is an actor that takes do, and echoes what else it is asked.
type probe struct{}

func (probe) Receive(c *supervisor.Context, msg any) error {
	if f, ok := msg.(do); ok {
		return f(c)
	}
	c.Reply(msg)
	return nil
}

func newProbe() (supervisor.Actor, error) { return probe{}, nil }

// instant restarts without a wait, as often as is asked.
var instant = supervisor.Policy{Backoff: supervisor.Backoff{Initial: -1}, Intensity: -1}

func (k *kit) spawn(parent supervisor.Ref, spec supervisor.Spec) supervisor.Ref {
	k.Helper()
	if spec.New == nil {
		spec.New = newProbe
	}
	ref, err := k.sys.Spawn(k.ctx, parent, spec)
	if err != nil {
		k.Fatal(err)
	}
	return ref
}

func (k *kit) probe(parent supervisor.Ref, name string) supervisor.Ref {
	k.Helper()
	return k.spawn(parent, supervisor.Spec{Name: name, Kind: "probe"})
}

// in runs f in the actor's turn and waits for it.
func (k *kit) in(r supervisor.Ref, f func(c *supervisor.Context)) {
	k.Helper()
	if err := k.ask(r, func(c *supervisor.Context) error { f(c); c.Reply("done"); return nil }); err != nil {
		k.Fatal(err)
	}
}

func (k *kit) ask(r supervisor.Ref, f do) error {
	_, err := supervisor.Ask[any](k.ctx, r, f)
	return err
}

// fail makes the actor fail with an error of class c, and returns what its
// asker got.
func (k *kit) fail(r supervisor.Ref, c messages.Class) error {
	return k.ask(r, func(*supervisor.Context) error { return messages.Errorf(c, "", "as the test asks") })
}

func (k *kit) panic(r supervisor.Ref) error {
	return k.ask(r, func(*supervisor.Context) error { panic("boom") })
}

// alive fails the test unless the actor answers.
func (k *kit) alive(r supervisor.Ref) {
	k.Helper()
	if got, err := supervisor.Ask[string](k.ctx, r, "hello"); err != nil || got != "hello" {
		k.Fatalf("%s: %q, %v", r, got, err)
	}
}

// event waits for the next event of this kind about this path.
func (k *kit) event(kind messages.EventKind, path string) messages.Event {
	k.Helper()
	for {
		select {
		case ev := <-k.sub.C:
			k.heard = append(k.heard, ev)
			if ev.Kind == kind && ev.Path == path {
				return ev
			}
		case <-k.ctx.Done():
			for _, ev := range k.heard {
				k.Logf("%s %s %v", ev.Kind, ev.Path, ev.Error)
			}
			k.Fatalf("no event %s about %s", kind, path)
		}
	}
}

// order is the paths of the events of this kind that were heard so far.
func (k *kit) order(kind messages.EventKind) (paths []string) {
	for len(k.sub.C) > 0 {
		k.heard = append(k.heard, <-k.sub.C)
	}
	for _, ev := range k.heard {
		if ev.Kind == kind {
			paths = append(paths, ev.Path)
		}
	}
	return paths
}

func (k *kit) forget() { k.order(""); k.heard = nil }

func (k *kit) node(r supervisor.Ref) messages.TreeNode {
	return k.sys.TreeOf(k.ctx, r, supervisor.TreeOptions{Wait: 10 * time.Second})
}

func wantClass(t testing.TB, err error, c messages.Class) {
	t.Helper()
	if !errors.Is(err, c) {
		t.Fatalf("got %v, want class %s", err, c)
	}
}

func wantPaths(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// blocked is an actor in the middle of a handler.
func (k *kit) block(r supervisor.Ref) (release func()) {
	k.Helper()
	in, out := make(chan struct{}), make(chan struct{})
	r.Tell(do(func(*supervisor.Context) error { close(in); <-out; return nil }))
	k.wait(in)
	done := false
	release = func() {
		if !done {
			done = true
			close(out)
		}
	}
	k.Cleanup(release)
	return release
}

func (k *kit) wait(c <-chan struct{}) {
	k.Helper()
	select {
	case <-c:
	case <-k.ctx.Done():
		k.Fatal("waited too long")
	}
}

package supervisor_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

func TestAskWhoseHandlerPanicsGetsTheErrorAtOnce(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	a := k.probe(supervisor.Ref{}, "a")
	err := k.panic(a)
	wantClass(t, err, messages.Crashed)
	var e *messages.Error
	if !errors.As(err, &e) || !strings.Contains(e.Stack, "ask_test.go") && !strings.Contains(e.Stack, "kit_test.go") {
		t.Fatalf("no stack of the panic in %+v", e)
	}
	k.event(messages.ActorBackingOff, "covey/a")
	k.clock.Advance(time.Second)
	k.alive(a)
}

func TestAsksQueuedBehindAStopAllGetAnError(t *testing.T) {
	for _, held := range []bool{false, true} {
		k := newKit(t, supervisor.Config{})
		a := k.probe(supervisor.Ref{}, "a")
		release := func() {}
		if held { // in a backoff
			wantClass(t, k.panic(a), messages.Crashed)
			k.event(messages.ActorBackingOff, "covey/a")
		} else {
			release = k.block(a)
		}
		errs := make(chan error, 100)
		for range cap(errs) {
			go func() {
				_, err := supervisor.Ask[string](k.ctx, a, "hello")
				errs <- err
			}()
		}
		for k.mailbox("a") < cap(errs) {
			runtime.Gosched()
		}
		stopped := make(chan error, 1)
		go func() { stopped <- k.sys.StopActor(k.ctx, a) }()
		for range cap(errs) { // while the handler still blocks
			wantClass(t, <-errs, messages.Stopping)
		}
		release()
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		_, err := supervisor.Ask[string](k.ctx, a, "hello")
		wantClass(t, err, messages.Unavailable)
		k.probe(supervisor.Ref{}, "a") // the name is free
		k.alive(a)
	}
}

func (k *kit) mailbox(name string) int {
	for _, n := range k.sys.Tree(k.ctx, supervisor.TreeOptions{Depth: 1, Wait: time.Millisecond}).Children {
		if n.Name == name {
			return n.Mailbox
		}
	}
	return -1
}

func TestAnAskEndsWhenTheIncarnationThatKeptItEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(k *kit, a supervisor.Ref)
		want messages.Class
	}{
		{"failure", func(k *kit, a supervisor.Ref) { _ = k.fail(a, messages.Budget) }, messages.Budget},
		{"stop", func(k *kit, a supervisor.Ref) { _ = k.sys.StopActor(k.ctx, a) }, messages.Stopping},
		{"stop by itself", func(k *kit, a supervisor.Ref) { k.in(a, (*supervisor.Context).Stop) }, messages.Stopping},
		{"panic of its work", func(k *kit, a supervisor.Ref) {
			k.in(a, func(c *supervisor.Context) { c.Go("w", func(context.Context) any { panic("in work") }) })
		}, messages.Crashed},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t, supervisor.Config{})
			a := k.probe(supervisor.Ref{}, "a")
			got := make(chan error, 1)
			asked := make(chan struct{})
			go func() {
				got <- k.ask(a, func(c *supervisor.Context) error { c.Asker(); close(asked); return nil })
			}()
			k.wait(asked)
			c.end(k, a)
			wantClass(t, <-got, c.want)
		})
	}
}

func TestAskerIsAnsweredFromElsewhereAndOnce(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	a := k.probe(supervisor.Ref{}, "a")
	got, err := supervisor.Ask[int](k.ctx, a, do(func(c *supervisor.Context) error {
		asker := c.Asker()
		if asker.IsZero() {
			t.Error("nobody asks")
		}
		go func() { asker.Answer(1); asker.Answer(2); asker.Fail(nil) }()
		return nil
	}))
	if got != 1 || err != nil {
		t.Fatal(got, err)
	}
	err = k.ask(a, func(c *supervisor.Context) error {
		c.Fail(nil)
		c.Reply("late")
		if !c.Asker().IsZero() {
			t.Error("it was answered, and somebody still waits")
		}
		return nil
	})
	wantClass(t, err, messages.Invalid)
}

func TestAskTypes(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	a := k.probe(supervisor.Ref{}, "a")
	answer := func(v any) do { return func(c *supervisor.Context) error { c.Reply(v); return nil } }

	if got, err := supervisor.Ask[any](k.ctx, a, answer(nil)); got != nil || err != nil {
		t.Fatal(got, err)
	}
	if got, err := supervisor.Ask[*int](k.ctx, a, answer(nil)); got != nil || err != nil {
		t.Fatal(got, err)
	}
	_, err := supervisor.Ask[int](k.ctx, a, answer(nil))
	wantClass(t, err, messages.Invalid)
	_, err = supervisor.Ask[int](k.ctx, a, answer("text"))
	wantClass(t, err, messages.Invalid)
	if !strings.Contains(err.Error(), "string, not int") {
		t.Fatal(err)
	}
	// A failure is never mistaken for an answer, whatever the type.
	_, err = supervisor.Ask[any](k.ctx, a, do(func(*supervisor.Context) error { return messages.Errorf(messages.Quota, "", "x") }))
	wantClass(t, err, messages.Quota)
	if _, err := supervisor.Ask[any](k.ctx, supervisor.Ref{}, 1); !errors.Is(err, messages.Unavailable) {
		t.Fatal(err)
	}
	// A nil error of a type is still an error to Go; it must not harm the supervisor.
	k.event(messages.ActorBackingOff, "covey/a")
	k.clock.Advance(time.Second)
	err = k.ask(a, func(*supervisor.Context) error { var e *messages.Error; return e })
	wantClass(t, err, messages.Crashed)
	k.alive(k.probe(supervisor.Ref{}, "b"))
}

func TestAskEndsWithItsContext(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	a := k.probe(supervisor.Ref{}, "a")
	release := k.block(a)
	ctx, cancel := context.WithTimeout(k.ctx, time.Millisecond)
	defer cancel()
	_, err := supervisor.Ask[any](ctx, a, 1)
	wantClass(t, err, messages.Timeout)
	ctx, cancel = context.WithCancel(k.ctx)
	cancel()
	handled := false
	_, err = supervisor.Ask[any](ctx, a, do(func(*supervisor.Context) error { handled = true; return nil }))
	wantClass(t, err, messages.Canceled)
	release()
	k.in(a, func(*supervisor.Context) {
		if handled {
			t.Error("an ask that was over before it was sent was handled")
		}
	})
}

// Against Future: a race between timeout and reply, and on a double reply.
func TestLateAndDoubleAnswersAreHarmless(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	a := k.probe(supervisor.Ref{}, "a")
	var wg sync.WaitGroup
	var answered, late atomic.Int64
	for g := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				ctx, cancel := context.WithTimeout(k.ctx, time.Duration(i%7)*5*time.Microsecond)
				want := g*1_000_000 + i
				got, err := supervisor.Ask[int](ctx, a, do(func(c *supervisor.Context) error {
					asker := c.Asker()
					go asker.Answer(want)
					asker.Answer(want)
					c.Reply(want)
					return nil
				}))
				cancel()
				switch {
				case err == nil && got == want:
					answered.Add(1)
				case errors.Is(err, messages.Timeout):
					late.Add(1)
				default:
					t.Errorf("%d, %v, want %d", got, err, want)
				}
			}
		})
	}
	wg.Wait()
	t.Log(answered.Load(), "answered,", late.Load(), "timed out")
}

func TestRequestBringsFailuresAsErrors(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	b := k.probe(supervisor.Ref{}, "b")
	gone := k.probe(supervisor.Ref{}, "gone")
	if err := k.sys.StopActor(k.ctx, gone); err != nil {
		t.Fatal(err)
	}
	got := make(chan any, 1)
	a := k.spawn(supervisor.Ref{}, supervisor.Spec{Name: "a", New: func() (supervisor.Actor, error) {
		return supervisor.ActorFunc(func(c *supervisor.Context, msg any) error {
			if f, ok := msg.(do); ok {
				return f(c)
			}
			got <- msg
			return nil
		}), nil
	}})
	for _, q := range []struct {
		to   supervisor.Ref
		msg  any
		want any
	}{
		{b, "echo", "echo"},
		{b, do(func(*supervisor.Context) error { panic("x") }), messages.Crashed},
		{gone, "echo", messages.Unavailable},
		{supervisor.Ref{}, "echo", messages.Unavailable},
	} {
		a.Tell(do(func(c *supervisor.Context) error { c.Request(q.to, q.msg); return nil }))
		answer := <-got
		if c, ok := q.want.(messages.Class); ok {
			err, _ := answer.(error)
			wantClass(t, err, c)
		} else if answer != q.want {
			t.Fatalf("got %v, want %v", answer, q.want)
		}
	}
}

func TestForward(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	a, b := k.probe(supervisor.Ref{}, "a"), k.probe(supervisor.Ref{}, "b")
	got, err := supervisor.Ask[string](k.ctx, a, do(func(c *supervisor.Context) error { c.Forward(b, "on"); return nil }))
	if got != "on" || err != nil {
		t.Fatal(got, err)
	}
	err = k.ask(a, func(c *supervisor.Context) error { c.Forward(supervisor.Ref{}, "on"); return nil })
	wantClass(t, err, messages.Unavailable)
}

func TestDeadLettersCountWhatNobodyLearnsOf(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	a := k.probe(supervisor.Ref{}, "a")
	if err := k.sys.StopActor(k.ctx, a); err != nil {
		t.Fatal(err)
	}
	a.Tell("x")
	_, err := supervisor.Ask[any](k.ctx, a, "x") // its asker learns
	wantClass(t, err, messages.Unavailable)
	k.sys.Root().Tell("x") // the root takes nothing
	if err := k.ask(k.sys.Root(), nil); !errors.Is(err, messages.Invalid) {
		t.Fatal(err)
	}
	if n := k.sys.DeadLetters(); n != 2 {
		t.Fatal(n)
	}
}

func TestAt(t *testing.T) {
	k := newKit(t, supervisor.Config{})
	a := k.probe(supervisor.Ref{}, "a")
	k.alive(k.sys.At(a.Path()))
	_, err := supervisor.Ask[any](k.ctx, k.sys.At("covey/b"), 1)
	wantClass(t, err, messages.Unavailable)
	for _, path := range []string{"", "deadletter", "guardian$1", "coveyote", "covey$"} {
		if r := k.sys.At(path); !r.IsZero() {
			t.Errorf("%q is not in the tree", path)
		}
	}
}

package supervisor

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// Context is an actor's way to the world. It belongs to the actor's turn: only
// Self, Path, Emit, Now and System may be used from other goroutines.
type Context struct {
	shell *shell
	ac    actor.Context
}

// Self is the actor's own address.
func (c *Context) Self() Ref { return c.shell.cell.ref() }

// Path is the actor's place in the tree.
func (c *Context) Path() string { return c.shell.cell.path() }

// System is the tree that the actor lives in.
func (c *Context) System() *System { return c.shell.cell.sys }

// Now is the time by the system's clock.
func (c *Context) Now() time.Time { return c.shell.cell.sys.clock.Now() }

// Emit gives an event to whoever listens, with the path and the time filled in.
func (c *Context) Emit(ev messages.Event) {
	if c.shell.cell.sys.events.Wanted() {
		if ev.Path == "" {
			ev.Path = c.Path()
		}
		c.shell.cell.sys.emit(ev)
	}
}

// Asker is whoever waits for an answer to the present message; nobody if it was
// told, or answered already. It can be kept, and answered after Receive has
// returned; if the incarnation ends before, it is answered with the failure.
func (c *Context) Asker() Asker {
	s := c.shell
	if s.asker == nil && s.sender != nil && !s.answered {
		s.asker = &kept{pid: s.sender, cell: s.cell, life: s.cell.living()}
		s.asker.life.keep(s.asker)
	}
	return Asker{s.asker}
}

// Reply answers whoever asked. A second answer to the same message does nothing.
func (c *Context) Reply(v any) {
	s := c.shell
	switch {
	case s.asker != nil:
		s.asker.answer(v)
	case s.sender != nil && !s.answered:
		s.answered = true
		s.cell.sys.root.Send(s.sender, v)
	}
}

// Fail answers whoever asked with an error. The actor itself does not fail.
func (c *Context) Fail(err error) { c.Reply(refuse(err, c.shell.cell)) }

// Request sends msg to another actor; the answer comes as a message. An answer
// that is an error comes as one, of type error: the other's failure, or class
// stopping or unavailable when it is no more.
func (c *Context) Request(to Ref, msg any) {
	if to.pid == nil {
		c.Self().Tell(&refusal{messages.Errorf(messages.Unavailable, "", "request %T: the address is empty", msg)})
		return
	}
	c.ac.Request(to.pid, msg)
}

// Forward sends msg to another actor, which then owes the answer to whoever
// asked for the present one.
func (c *Context) Forward(to Ref, msg any) {
	s := c.shell
	switch {
	case to.pid == nil:
		c.Fail(messages.Errorf(messages.Unavailable, "", "forward %T: the address is empty", msg))
	case s.sender == nil || s.answered || s.asker != nil:
		to.Tell(msg)
	default:
		s.answered = true
		c.ac.RequestWithCustomSender(to.pid, msg, s.sender)
	}
}

// Spawn starts a child. See [System.Spawn].
func (c *Context) Spawn(spec Spec) (Ref, error) {
	if err := spec.Check(); err != nil {
		return Ref{}, err
	}
	return c.shell.spawn(spec, true)
}

// Child returns a child by name.
func (c *Context) Child(name string) (Ref, bool) {
	if c.shell.kids == nil {
		return Ref{}, false
	}
	ch, ok := c.shell.kids.byName[name]
	if !ok {
		return Ref{}, false
	}
	return ch.cell.ref(), true
}

// StopChild stops a child for good; nothing happens if there is none. Its name
// is free once [Parent.ChildChanged] has said that it stopped.
func (c *Context) StopChild(name string) { c.shell.stopChild(name) }

// Stop stops the actor itself after the present message. A permanent one starts
// again, after its supervisor's backoff and with its mailbox kept.
func (c *Context) Stop() {
	s := c.shell
	switch {
	case s.over:
	case s.cell.parent != nil && (s.cell.spec.Restart == Permanent || s.cell.spec.Restart == ""):
		s.failing = true
		s.raise(messages.Errorf(messages.Stopping, c.Path(), "stopped by itself, and is permanent"), false)
	default:
		c.ac.Stop(c.ac.Self())
	}
}

// Context ends with the incarnation, or as soon as its supervisor has decided
// to end it.
func (c *Context) Context() context.Context { return c.shell.cell.living().ctx }

// Go runs work outside the actor's turn, under the incarnation's context. What
// it returns comes back as a message, unless it is nil or the incarnation has
// ended; its panic is the actor's failure. name says in words what it is, for
// the day when it does not stop.
func (c *Context) Go(name string, run func(ctx context.Context) any) {
	cell, ctx := c.shell.cell, c.Context()
	generation := cell.generation.Load()
	w := &work{cell.path(), name}
	cell.sys.works.add(w)
	go func() {
		defer cell.sys.works.remove(w)
		out := &stamped{generation: generation}
		done := false
		defer func() {
			if !done {
				reason := recover()
				if reason == nil {
					reason = errGoexit
				}
				out.crash = crashed(reason, cell.path(), panicStack())
			}
			if out.msg != nil || out.crash != nil {
				cell.ref().Tell(out)
			}
		}()
		out.msg = run(ctx)
		done = true
	}()
}

// After sends msg to the actor itself after d, unless the incarnation has ended
// or cancel was called before.
func (c *Context) After(d time.Duration, msg any) (cancel func()) {
	cell, l, t := c.shell.cell, c.shell.cell.living(), &timer{}
	out := &stamped{generation: cell.generation.Load(), msg: msg}
	l.start(t, func() clockwork.Timer {
		return cell.sys.clock.AfterFunc(d, func() {
			l.drop(t)
			cell.ref().Tell(out)
		})
	})
	return func() { l.drop(t) }
}

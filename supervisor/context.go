package supervisor

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/covey-run/covey/messages"
)

// Context is an actor's way to the world. It belongs to the actor's turn: only
// Self, Emit, Now and System may be used from other goroutines.
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
// told. It can be kept, and answered after Receive has returned.
func (c *Context) Asker() Asker { return Asker{c.ac.Sender(), c.shell.cell.sys} }

// Reply answers whoever asked.
func (c *Context) Reply(v any) { c.Asker().Answer(v) }

// Fail answers whoever asked with an error. The actor itself does not fail.
func (c *Context) Fail(err error) { c.Asker().Fail(err) }

// Request sends msg to another actor; the answer comes as a message.
func (c *Context) Request(to Ref, msg any) {
	if to.pid != nil {
		c.ac.Request(to.pid, msg)
	}
}

// Spawn starts a child. See [System.Spawn].
func (c *Context) Spawn(spec Spec) (Ref, error) { return c.shell.spawn(spec, nil) }

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

// StopChild stops a child for good; nothing happens if there is none.
func (c *Context) StopChild(name string) { c.shell.stopChild(name) }

// Stop stops the actor itself after the present message. Its supervisor starts
// a permanent one again.
func (c *Context) Stop() { c.ac.Stop(c.ac.Self()) }

// Context ends with the incarnation, or as soon as its supervisor has decided
// to end it.
func (c *Context) Context() context.Context {
	if l := c.shell.cell.life.Load(); l != nil {
		return l.ctx
	}
	l := &life{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	c.shell.cell.life.Store(l)
	return l.ctx
}

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
		out := &stamped{generation: generation}
		done := false
		defer func() {
			if !done {
				reason := recover()
				if reason == nil {
					reason = errGoexit
				}
				out.crash = crashed(reason, cell.path(), debug.Stack())
			}
			cell.sys.works.remove(w)
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
	cell := c.shell.cell
	out := &stamped{generation: cell.generation.Load(), msg: msg}
	t := cell.sys.clock.AfterFunc(d, func() { cell.ref().Tell(out) })
	return func() { t.Stop() }
}

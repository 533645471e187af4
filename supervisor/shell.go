package supervisor

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/covey-run/covey/messages"
)

// cell is what stays of an actor over its incarnations.
type cell struct {
	sys        *System
	parent     *cell
	spec       Spec
	pid        atomic.Pointer[actor.PID]
	box        mailbox
	generation atomic.Uint64
	quarantine atomic.Pointer[messages.Error]
	life       atomic.Pointer[life]
	gone       atomic.Bool
}

// life is one incarnation's context.
type life struct {
	ctx    context.Context
	cancel context.CancelFunc
}

func (c *cell) path() string {
	if pid := c.pid.Load(); pid != nil {
		return pid.Id
	}
	return c.spec.Name
}

func (c *cell) ref() Ref { return Ref{c.pid.Load(), c.sys} }

func (c *cell) props() *actor.Props {
	c.box.refuse = c.refuse
	return actor.PropsFromProducerWithActorSystem(
		func(*actor.ActorSystem) actor.Actor { return &shell{cell: c} },
		actor.WithMailbox(func() actor.Mailbox { return &c.box }),
		actor.WithDispatcher(c.sys.dispatch))
}

// interrupt ends the work that the incarnation has under way.
func (c *cell) interrupt() {
	if l := c.life.Swap(nil); l != nil {
		l.cancel()
	}
}

// refuse answers a message that can no longer be delivered.
func (c *cell) refuse(envelope any) {
	_, msg, sender := actor.UnwrapEnvelope(envelope)
	if sender != nil {
		c.sys.root.Send(sender, &refusal{messages.Errorf(messages.Stopping, c.path(), "stopped before it got to %T", msg)})
		return
	}
	switch msg.(type) {
	case *stamped, *restartDue:
	default:
		c.sys.deadLetters.Add(1)
	}
}

// shell is the protoactor actor around one incarnation of ours.
type shell struct {
	cell  *cell
	inner Actor
	ctx   Context
	kids  *children // nil until the first child
	since time.Time
	over  bool // stopping or restarting
}

// Messages that the shell itself understands.
type (
	spawn    struct{ spec Spec }
	inspect  struct{}
	stopSelf struct{}
	release  struct{ name string }
	// stamped is a message to one incarnation only.
	stamped struct {
		generation uint64
		msg        any
		crash      *messages.Error
	}
)

// Receive is part of actor.Actor.
func (s *shell) Receive(ac actor.Context) {
	switch m := ac.Message().(type) {
	case *actor.Started:
		s.start(ac)
	case *actor.Restarting, *actor.Stopping:
		s.halt()
	case *actor.Stopped:
		s.cell.gone.Store(true)
		s.cell.box.close()
		if s.cell.parent == nil {
			close(s.cell.sys.stopped)
		}
	case *actor.Terminated:
		s.terminated(m.Who)
	case *inspect:
		ac.Respond(s.view())
	case *stamped:
		switch {
		case m.generation != s.cell.generation.Load() || s.over:
		case m.crash != nil:
			s.fail(m.crash, m.msg)
		default:
			s.deliver(m.msg)
		}
	case *restartDue:
		s.restart(m.group)
	default:
		if s.over {
			s.cell.refuse(actor.WrapEnvelope(s.envelope(m)))
			return
		}
		s.control(m)
	}
}

// envelope is the message as it came, sender included.
func (s *shell) envelope(m any) any {
	return &actor.MessageEnvelope{Message: m, Sender: s.ctx.ac.Sender()}
}

func (s *shell) control(m any) {
	switch m := m.(type) {
	case *spawn:
		ref, err := s.spawn(m.spec, nil)
		if err != nil {
			s.ctx.Fail(err)
			return
		}
		s.ctx.Reply(ref)
	case stopSelf:
		s.ctx.Reply(true)
		s.ctx.Stop()
	case *release:
		s.release(m.name)
	default:
		s.deliver(m)
	}
}

func (s *shell) start(ac actor.Context) {
	s.ctx = Context{shell: s, ac: ac}
	s.since = s.cell.sys.clock.Now()
	s.cell.pid.CompareAndSwap(nil, ac.Self())
	s.cell.generation.Add(1)
	if s.cell.quarantine.Load() != nil {
		return
	}
	started := s.guard(nil, func() error {
		for _, spec := range s.cell.spec.Children {
			if _, err := s.spawn(spec, nil); err != nil {
				return err
			}
		}
		if s.cell.spec.New == nil {
			return nil
		}
		var err error
		if s.inner, err = s.cell.spec.New(); err != nil {
			return err
		}
		if st, ok := s.inner.(Starter); ok {
			return st.Start(&s.ctx)
		}
		return nil
	})
	if started {
		s.cell.sys.emit(messages.Event{Kind: messages.ActorStarted, Path: s.cell.path(), Name: s.cell.spec.Kind})
	}
}

func (s *shell) deliver(msg any) {
	if q := s.cell.quarantine.Load(); q != nil {
		s.ctx.Fail(q)
		return
	}
	if s.inner == nil {
		s.ctx.Fail(messages.Errorf(messages.Invalid, s.cell.path(), "a %s takes no %T", s.cell.spec.Kind, msg))
		return
	}
	s.guard(msg, func() error { return s.inner.Receive(&s.ctx, msg) })
}

// guard runs code of ours or the user's in the actor's turn: an error or a
// panic answers whoever asked, and is the actor's failure.
func (s *shell) guard(msg any, run func() error) (ok bool) {
	done := false
	defer func() {
		if done {
			return
		}
		reason := recover()
		if reason == nil {
			reason = errGoexit
		}
		s.fail(crashed(reason, s.cell.path(), debug.Stack()), msg)
	}()
	err := run()
	done = true
	if err != nil {
		s.fail(messages.AsError(err, messages.Crashed, s.cell.path()), msg)
	}
	return err == nil
}

// fail reports the actor's failure to its supervisor. The mailbox is held from
// here until the supervisor has decided.
func (s *shell) fail(err *messages.Error, msg any) {
	s.ctx.Fail(err)
	s.cell.interrupt()
	s.escalate(err, msg)
}

func (s *shell) escalate(reason, msg any) {
	s.ctx.ac.(actor.Supervisor).EscalateFailure(reason, msg)
}

// crashed makes a failure of what a panic left.
func crashed(reason any, path string, stack []byte) *messages.Error {
	err, ok := reason.(error)
	if !ok {
		err = fmt.Errorf("%v", reason)
	}
	e := messages.Errorf(messages.Crashed, path, "panic: %w", err)
	e.Stack = string(stack)
	return e
}

// halt ends the incarnation: by stop, or by a restart that follows.
func (s *shell) halt() {
	s.over = true
	s.cell.generation.Add(1)
	s.cell.interrupt()
	if s.kids != nil {
		s.kids.cancel()
		s.watchStop()
	}
	defer func() {
		if r := recover(); r != nil {
			err := crashed(r, s.cell.path(), debug.Stack())
			s.cell.sys.emit(messages.Event{Kind: messages.ActorFailed, Path: err.Source, Class: err.Class, Error: err, Text: "while stopping"})
		}
	}()
	if st, ok := s.inner.(Stopper); ok {
		st.Stop(&s.ctx)
	}
}

// stuckAfter is how long a child may take to stop before it is named.
const stuckAfter = time.Second

func (s *shell) watchStop() {
	cells := s.kids.cells()
	sys := s.cell.sys
	sys.clock.AfterFunc(stuckAfter, func() {
		for _, c := range cells {
			if !c.gone.Load() {
				sys.emit(messages.Event{Kind: messages.ActorStuck, Path: c.path(), Wait: stuckAfter})
			}
		}
	})
}

func (s *System) emit(ev messages.Event) {
	if s.events.Wanted() {
		ev.Time = s.clock.Now()
		s.events.Emit(ev)
	}
}

package supervisor

import (
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/covey-run/covey/messages"
)

// shell is the protoactor actor around one incarnation of ours.
type shell struct {
	cell  *cell
	inner Actor
	ctx   Context
	kids  *children // nil until the first child
	since time.Time
	notes []ChildChange // not yet told to inner
	begun bool          // started, without a failure
	over  bool          // stopping or restarting

	// failing: its supervisor has not decided yet, or has decided to restart.
	// inner is not called.
	failing bool

	// The message in hand.
	sender   *actor.PID
	asker    *kept // if Context.Asker was called
	answered bool
}

// Messages that the shell itself understands.
type (
	spawn   struct{ spec Spec }
	inspect struct{}
	stopOne struct{ name string }
	release struct{ name string }
	// stamped is a message to one incarnation only.
	stamped struct {
		generation uint64
		msg        any
		crash      *messages.Error
	}
)

// Receive is part of actor.Actor.
func (s *shell) Receive(ac actor.Context) {
	s.turn(ac.Sender())
	switch m := ac.Message().(type) {
	case *actor.Started:
		s.start(ac)
	case *actor.Restarting:
		s.halt(false)
	case *actor.Stopping:
		s.halt(true)
	case *actor.Stopped:
		s.end()
	case *actor.Terminated:
		s.terminated(m.Who)
	case *urgent:
		s.control(m.msg)
	default:
		if s.over {
			s.cell.refuse(&actor.MessageEnvelope{Message: m, Sender: s.sender})
			return
		}
		s.failing = false // the mailbox is open: it was resumed
		s.handle(m)
	}
	s.notify()
}

// turn begins the handling of a message.
func (s *shell) turn(sender *actor.PID) { s.sender, s.asker, s.answered = sender, nil, false }

// control is what a supervisor does whatever state it is in.
func (s *shell) control(m any) {
	switch m := m.(type) {
	case *inspect:
		s.ctx.Reply(s.view())
	case *stopOne:
		s.stopOne(m.name)
	case *release:
		s.release(m.name)
	case *due:
		s.restart(m)
	}
}

func (s *shell) handle(m any) {
	switch m := m.(type) {
	case *spawn:
		ref, err := s.take(m.spec)
		if err != nil {
			s.ctx.Fail(err)
			return
		}
		s.ctx.Reply(ref)
	case *stamped:
		switch {
		case m.generation != s.cell.generation.Load():
			s.cell.sys.lost(s.cell.path(), m)
		case m.crash != nil:
			s.fail(m.crash)
		default:
			s.deliver(m.msg)
		}
	case *refusal:
		s.deliver(m.err)
	case *actor.DeadLetterResponse:
		s.deliver(nobody(""))
	default:
		s.deliver(m)
	}
}

func (s *shell) start(ac actor.Context) {
	c := s.cell
	s.ctx = Context{shell: s, ac: ac}
	s.since = c.sys.clock.Now()
	c.pid.CompareAndSwap(nil, ac.Self())
	c.generation.Add(1)
	c.stopWatch()
	if c.quarantine.Load() != nil {
		return
	}
	c.life.Store(nil)
	if s.guard(s.begin) {
		s.begun = true
		c.sys.emit(messages.Event{Kind: messages.ActorStarted, Path: c.path(), Name: c.spec.Kind})
	}
}

// begin makes the children, then the actor itself.
func (s *shell) begin() error {
	for _, spec := range s.cell.spec.Children {
		if _, err := s.spawn(spec, false); err != nil {
			return err
		}
	}
	for _, spec := range s.cell.extra {
		if _, taken := s.ctx.Child(spec.Name); taken {
			continue // the spec's own, which had ended, is back
		}
		if _, err := s.spawn(spec, true); err != nil {
			return err
		}
	}
	if s.cell.spec.New == nil {
		return nil
	}
	inner, err := s.cell.spec.New()
	if err != nil {
		return err
	}
	if inner == nil {
		return messages.Errorf(messages.Crashed, s.cell.path(), "New returned no actor")
	}
	s.inner = inner
	if st, ok := inner.(Starter); ok {
		return st.Start(&s.ctx)
	}
	return nil
}

func (s *shell) deliver(msg any) {
	var cannot *messages.Error
	if cannot = s.cell.quarantine.Load(); cannot == nil {
		if s.inner != nil {
			s.guard(func() error { return s.inner.Receive(&s.ctx, msg) })
			return
		}
		cannot = messages.Errorf(messages.Invalid, s.cell.path(), "a %s takes no %T", s.cell.spec.Kind, msg)
	}
	if s.sender == nil {
		s.cell.sys.lost(s.cell.path(), msg)
		return
	}
	s.ctx.Fail(cannot)
}

// guard runs users' code in the actor's turn: an error or a panic answers
// whoever asked, and is the actor's failure.
func (s *shell) guard(run func() error) (ok bool) {
	var failure *messages.Error
	done := false
	defer func() {
		if !done {
			reason := recover()
			if reason == nil {
				reason, s.cell.box.reported = errGoexit, true
			}
			failure = crashed(reason, s.cell.path(), panicStack())
		}
		if failure != nil {
			s.fail(failure)
		}
	}()
	if err := run(); err != nil {
		failure = messages.AsError(err, messages.Crashed, s.cell.path())
		if failure == nil {
			failure = messages.Errorf(messages.Crashed, s.cell.path(), "failed with a nil %T", err)
		}
	}
	done = true
	return failure == nil
}

// fail reports the actor's failure to its supervisor. The mailbox is held from
// here until the supervisor has decided.
func (s *shell) fail(err *messages.Error) {
	s.failing = true
	s.raise(err, !s.begun)
	s.ctx.Fail(err) // last: who has the answer knows that the supervisor has the failure
}

// failure is what an actor tells its supervisor through protoactor.
type failure struct {
	err        *messages.Error
	generation uint64 // of the incarnation that failed; 0 is not known
	broken     bool   // resuming would not do: it never started, or its failed child is held
}

func (s *shell) raise(err *messages.Error, broken bool) {
	s.ctx.ac.(actor.Supervisor).EscalateFailure(&failure{err, s.cell.generation.Load(), broken}, nil)
}

// crashed makes a failure of what a panic left.
func crashed(reason any, path, stack string) *messages.Error {
	err, ok := reason.(error)
	if !ok {
		err = fmt.Errorf("%v", reason)
	}
	e := messages.Errorf(messages.Crashed, path, "panic: %w", err)
	e.Stack = stack
	return e
}

// halt ends the incarnation: by stop, or by a restart that follows. Its children
// are stopped in either case.
func (s *shell) halt(stop bool) {
	if stop {
		s.cell.box.close()
	}
	if s.over {
		return
	}
	s.over = true
	s.cell.generation.Add(1)
	s.cell.interrupt(nil)
	if s.kids != nil {
		s.haltChildren()
	}
	s.stopInner()
	s.cell.halts.Add(1)
}

// stopInner calls the actor's Stop on a goroutine of its own, so that neither a
// panic nor runtime.Goexit in it can keep the actor alive.
func (s *shell) stopInner() {
	st, ok := s.inner.(Stopper)
	if !ok {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		whole := false
		defer func() {
			if whole {
				return
			}
			reason := recover()
			if reason == nil {
				reason = errGoexit
			}
			err := crashed(reason, s.cell.path(), panicStack())
			s.cell.sys.emit(messages.Event{Kind: messages.ActorFailed, Path: err.Source, Name: s.cell.spec.Kind, Class: err.Class, Error: err, Text: "while stopping"})
		}()
		st.Stop(&s.ctx)
		whole = true
	}()
	<-done
}

// end: the actor is no more.
func (s *shell) end() {
	s.cell.stopWatch()
	s.cell.box.end()
	if s.cell.parent == nil {
		s.cell.sys.emit(messages.Event{Kind: messages.ActorStopped, Path: s.cell.path(), Name: s.cell.spec.Kind})
		close(s.cell.sys.stopped)
	}
}

func (s *System) emit(ev messages.Event) {
	if s.events.Wanted() {
		ev.Time = s.clock.Now()
		s.events.Emit(ev)
	}
}

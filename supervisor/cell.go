package supervisor

import (
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// cell is what stays of an actor over its incarnations.
type cell struct {
	sys        *System
	parent     *cell
	spec       Spec
	pid        atomic.Pointer[actor.PID]
	box        mailbox
	life       atomic.Pointer[life] // nil: none needed yet
	quarantine atomic.Pointer[messages.Error]
	generation atomic.Uint64 // goes up where an incarnation starts, and where it ends
	halts      atomic.Uint64 // incarnations that have ended, their Stop included

	// The actor's own goroutine's:
	extra []Spec          // children beyond the spec's, for a supervisor without New
	watch clockwork.Timer // names the children that do not stop
}

func (c *cell) path() string {
	if pid := c.pid.Load(); pid != nil {
		return pid.Id
	}
	return c.spec.Name
}

func (c *cell) ref() Ref { return Ref{c.pid.Load(), c.sys} }

func (c *cell) props() *actor.Props {
	c.box.cell = c
	return actor.PropsFromProducerWithActorSystem(
		func(*actor.ActorSystem) actor.Actor { return &shell{cell: c} },
		actor.WithMailbox(func() actor.Mailbox { return &c.box }))
}

// refuse answers a message that can no longer be delivered.
func (c *cell) refuse(envelope any) {
	_, msg, sender := actor.UnwrapEnvelope(envelope)
	if u, ok := msg.(*urgent); ok {
		msg = u.msg
	}
	if sender != nil {
		c.sys.root.Send(sender, &refusal{messages.Errorf(messages.Stopping, c.path(), "stopped before it got to %T", msg)})
		return
	}
	c.sys.lost(c.path(), msg)
}

// lost accounts for a message that nobody gets, and that nobody waits for.
func (s *System) lost(path string, msg any) {
	switch m := msg.(type) {
	case *stamped:
		if m.crash != nil {
			s.emit(messages.Event{Kind: messages.ActorFailed, Path: path, Class: m.crash.Class, Error: m.crash, Text: "work of an incarnation that has ended"})
		}
	case *urgent, *due, *release, *refusal, actor.SystemMessage, actor.MailboxMessage, actor.AutoReceiveMessage:
	default:
		s.deadLetters.Add(1)
	}
}

package supervisor

import (
	"errors"
	"runtime/debug"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// errGoexit: a message's handler ended its goroutine (t.FailNow does).
var errGoexit = errors.New("the handler called runtime.Goexit")

// urgent wraps a message that goes before the others, and also to an actor that
// is held: the live tree's questions, and what a supervisor is asked about its
// children.
type urgent struct{ msg any }

var (
	suspendMessage = &actor.SuspendMailbox{}
	resumeMessage  = &actor.ResumeMailbox{}
	restartMessage = &actor.Restart{}
)

// mailbox is an actor.Mailbox. Against protoactor's own: it accepts messages
// before its handlers are registered, gives memory back after a burst, survives
// runtime.Goexit in a handler, delivers a batch once, never lets a restart
// overtake a stop, and once shut answers what it holds and what still comes,
// rather than dropping it.
type mailbox struct {
	cell    *cell
	invoker actor.MessageInvoker

	mu        sync.Mutex
	system    fifo // and what is urgent
	user      fifo
	scheduled bool
	begun     bool // Started is queued, or was
	suspended bool // by the actor's own failure
	held      bool // by its supervisor, until the restart that it waits for
	stopping  bool // Stop was taken: a restart that comes late is dropped
	shut      bool // user messages are refused
	gone      bool // everything is

	reported bool // the handler's Goexit is known; the worker's own
}

// RegisterHandlers is part of actor.Mailbox.
func (m *mailbox) RegisterHandlers(i actor.MessageInvoker, _ actor.Dispatcher) {
	m.mu.Lock()
	m.invoker = i
	m.mu.Unlock()
}

// Start is part of actor.Mailbox.
func (m *mailbox) Start() {
	m.mu.Lock()
	m.schedule()
}

// PostUserMessage is part of actor.Mailbox.
func (m *mailbox) PostUserMessage(msg any) {
	pressing := isUrgent(msg)
	m.mu.Lock()
	switch {
	case m.gone, m.shut && !pressing:
		m.mu.Unlock()
		m.cell.refuse(msg)
		return
	case pressing && m.begun:
		m.system.push(msg)
	default:
		m.user.push(msg)
	}
	m.schedule()
}

func isUrgent(msg any) bool {
	switch m := msg.(type) {
	case *urgent:
		return true
	case *actor.MessageEnvelope:
		_, ok := m.Message.(*urgent)
		return ok
	}
	return false
}

// PostSystemMessage is part of actor.Mailbox.
func (m *mailbox) PostSystemMessage(msg any) {
	m.mu.Lock()
	if _, ok := msg.(*actor.Started); ok {
		m.begun = true
	}
	if !m.gone {
		m.system.push(msg)
	}
	m.schedule()
}

// UserMessageCount is part of actor.Mailbox.
func (m *mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.user.len()
}

// hold keeps user messages back until renew.
func (m *mailbox) hold() {
	m.mu.Lock()
	m.held = true
	m.mu.Unlock()
}

// renew asks for a new incarnation. User messages wait until it is there.
func (m *mailbox) renew() {
	m.mu.Lock()
	if !m.gone {
		m.system.push(suspendMessage)
		m.system.push(restartMessage)
	}
	m.held = false
	m.schedule()
}

// schedule unlocks mu.
func (m *mailbox) schedule() {
	due := !m.scheduled && m.invoker != nil && (m.system.len() > 0 || m.open())
	if due {
		m.scheduled = true
	}
	m.mu.Unlock()
	if due {
		m.cell.sys.dispatch.schedule(m)
	}
}

// open reports whether there is a user message that may be handled. A name is
// known before its actor has begun.
func (m *mailbox) open() bool { return m.begun && !m.suspended && !m.held && m.user.len() > 0 }

// next takes the message that is due; ok is false, and the mailbox no longer
// scheduled, when there is none.
func (m *mailbox) next() (msg any, system, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.system.len() > 0 {
		msg := m.system.pop()
		switch msg.(type) {
		case *actor.SuspendMailbox:
			m.suspended = true
		case *actor.ResumeMailbox:
			m.suspended = false
		case *actor.Restart:
			if !m.stopping {
				return msg, true, true
			}
		case *actor.Stop:
			m.stopping = true
			return msg, true, true
		case *urgent, *actor.MessageEnvelope:
			return msg, false, true
		default:
			return msg, true, true
		}
	}
	if m.open() {
		return m.user.pop(), false, true
	}
	m.scheduled = false
	return nil, false, false
}

// process handles what is due, on a worker of the dispatcher.
func (m *mailbox) process() {
	whole := false
	defer func() {
		if !whole { // Goexit takes this goroutine: the rest goes on in another
			m.cell.sys.dispatch.schedule(m)
		}
	}()
	for range throughput {
		msg, system, ok := m.next()
		if !ok {
			whole = true
			return
		}
		m.invoke(msg, system)
	}
	whole = true
	m.cell.sys.dispatch.schedule(m)
}

// invoke hands one message to protoactor. The shell recovers from what users'
// code does; what still comes through is reported all the same.
func (m *mailbox) invoke(msg any, system bool) {
	done := false
	defer func() {
		if done {
			return
		}
		reason := recover()
		if reason == nil {
			if m.reported {
				m.reported = false
				return
			}
			reason = errGoexit
		}
		err := crashed(reason, m.cell.path(), string(debug.Stack())) // ours: the whole of it
		if _, _, sender := actor.UnwrapEnvelope(msg); sender != nil {
			m.cell.sys.root.Send(sender, &refusal{err})
		}
		m.invoker.EscalateFailure(&failure{err: err}, nil)
	}()
	if system {
		m.invoker.InvokeSystemMessage(msg)
	} else {
		m.invoker.InvokeUserMessage(msg)
	}
	done = true
}

// close refuses the user messages that are queued, and from now on those that
// come.
func (m *mailbox) close() {
	m.mu.Lock()
	m.shut = true
	left := m.user
	m.user = fifo{}
	m.mu.Unlock()
	m.refuse(&left)
}

// end closes the mailbox to everything: the actor is no more.
func (m *mailbox) end() {
	m.close()
	m.mu.Lock()
	m.gone = true
	left := m.system
	m.system = fifo{}
	m.mu.Unlock()
	m.refuse(&left)
}

func (m *mailbox) refuse(left *fifo) {
	for left.len() > 0 {
		m.cell.refuse(left.pop())
	}
}

// fifo is a queue that gives its memory back.
type fifo struct {
	items []any
	head  int
}

// keepCap is the capacity that an empty queue keeps.
const keepCap = 16

func (q *fifo) len() int { return len(q.items) - q.head }

// push appends. A full array whose front half is free is used again, or left
// for a smaller one after a burst: at most one copy of an item for each push.
func (q *fifo) push(v any) {
	if len(q.items) == cap(q.items) && q.head > 0 && q.head >= len(q.items)/2 {
		left := q.items[q.head:]
		if cap(q.items) > max(keepCap, 8*len(left)) {
			q.items = append(make([]any, 0, max(keepCap, 2*len(left))), left...)
		} else {
			n := copy(q.items, left)
			clear(q.items[n:])
			q.items = q.items[:n]
		}
		q.head = 0
	}
	q.items = append(q.items, v)
}

func (q *fifo) pop() any {
	v := q.items[q.head]
	q.items[q.head] = nil
	q.head++
	if q.head == len(q.items) {
		q.head = 0
		if cap(q.items) > keepCap {
			q.items = nil
		} else {
			q.items = q.items[:0]
		}
	}
	return v
}

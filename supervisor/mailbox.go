package supervisor

import (
	"errors"
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// errGoexit: a message's handler ended its goroutine (t.FailNow does).
var errGoexit = errors.New("the handler called runtime.Goexit")

// mailbox is an actor.Mailbox. Against protoactor's own: it accepts messages
// before its handlers are registered, gives memory back after a burst, survives
// runtime.Goexit in a handler, delivers a batch once, and after close answers
// what it holds and what still comes, rather than dropping it.
type mailbox struct {
	mu         sync.Mutex
	system     fifo
	user       fifo
	scheduled  bool
	suspended  bool
	closed     bool
	invoker    actor.MessageInvoker
	dispatcher actor.Dispatcher
	run        func()
	refuse     func(msg any) // called without mu
}

func (m *mailbox) RegisterHandlers(i actor.MessageInvoker, d actor.Dispatcher) {
	m.mu.Lock()
	m.invoker, m.dispatcher, m.run = i, d, m.process
	m.mu.Unlock()
}

func (m *mailbox) Start() {
	m.mu.Lock()
	m.schedule()
}

func (m *mailbox) PostUserMessage(msg any) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		m.refuse(msg)
		return
	}
	m.user.push(msg)
	m.schedule()
}

func (m *mailbox) PostSystemMessage(msg any) {
	m.mu.Lock()
	m.system.push(msg)
	m.schedule()
}

func (m *mailbox) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.user.len()
}

// schedule unlocks mu.
func (m *mailbox) schedule() {
	due := !m.scheduled && m.invoker != nil && (m.system.len() > 0 || !m.suspended && m.user.len() > 0)
	if due {
		m.scheduled = true
	}
	m.mu.Unlock()
	if due {
		m.dispatcher.Schedule(m.run)
	}
}

// next takes the message that is due; ok is false, and the mailbox no longer
// scheduled, when there is none.
func (m *mailbox) next() (msg any, system, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.system.len() > 0 {
		switch msg := m.system.pop().(type) {
		case *actor.SuspendMailbox:
			m.suspended = true
		case *actor.ResumeMailbox:
			m.suspended = false
		default:
			return msg, true, true
		}
	}
	if !m.suspended && m.user.len() > 0 {
		return m.user.pop(), false, true
	}
	m.scheduled = false
	return nil, false, false
}

func (m *mailbox) process() {
	whole := false
	defer func() {
		if !whole { // Goexit takes this goroutine: the rest goes on in another
			m.dispatcher.Schedule(m.run)
		}
	}()
	for range m.dispatcher.Throughput() {
		msg, system, ok := m.next()
		if !ok {
			whole = true
			return
		}
		m.invoke(msg, system)
	}
	m.dispatcher.Schedule(m.run)
	whole = true
}

func (m *mailbox) invoke(msg any, system bool) {
	done := false
	defer func() {
		if done {
			return
		}
		reason := recover()
		if reason == nil {
			reason = errGoexit
		}
		m.invoker.EscalateFailure(reason, msg)
	}()
	if system {
		m.invoker.InvokeSystemMessage(msg)
	} else {
		m.invoker.InvokeUserMessage(msg)
	}
	done = true
}

// suspend holds user messages back until the next restart or resume.
func (m *mailbox) suspend() {
	m.mu.Lock()
	m.suspended = true
	m.mu.Unlock()
}

// close refuses what is queued, and from now on whatever comes.
func (m *mailbox) close() {
	m.mu.Lock()
	m.closed = true
	left := m.user
	m.user = fifo{}
	m.mu.Unlock()
	for left.len() > 0 {
		m.refuse(left.pop())
	}
}

// fifo is a queue that gives its memory back when it has run empty.
type fifo struct {
	items []any
	head  int
}

const keepCap = 16

func (q *fifo) len() int { return len(q.items) - q.head }

func (q *fifo) push(v any) {
	if q.head > 0 && len(q.items) == cap(q.items) && q.head >= len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
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

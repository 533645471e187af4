package actors

import (
	"fmt"
	"sync/atomic"

	"github.com/covey-run/covey/messages"
)

// turns are the asks of a member that takes one at a time. Its actor owns it.
type turns struct {
	waiting []messages.Ask
	now     *turning
}

// turning is the work on one ask.
type turning struct {
	ask  messages.Ask
	over atomic.Bool // its goroutine has ended, with a result or without
}

// add queues an ask, once.
func (t *turns) add(a messages.Ask) {
	if t.now != nil && t.now.ask.Step == a.Step {
		return
	}
	for _, w := range t.waiting {
		if w.Step == a.Step {
			return
		}
	}
	t.waiting = append(t.waiting, a)
}

// start takes the next ask if none is worked on.
func (t *turns) start() *turning {
	if t.now != nil || len(t.waiting) == 0 {
		return nil
	}
	t.now = &turning{ask: t.waiting[0]}
	t.waiting = t.waiting[1:]
	if len(t.waiting) == 0 {
		t.waiting = nil
	}
	return t.now
}

// finish ends the present turn, if it is that one.
func (t *turns) finish(of *turning) bool {
	if t.now != of {
		return false
	}
	t.now = nil
	return true
}

// lost ends a turn whose goroutine has crashed.
func (t *turns) lost() {
	if t.now != nil && t.now.over.Load() {
		t.now = nil
	}
}

func (t *turns) status(verb string) messages.Status {
	if t.now == nil {
		return messages.Status{State: messages.Idle}
	}
	s := messages.Status{State: messages.Running, Step: fmt.Sprintf("%s step %s", verb, t.now.ask.Step)}
	if n := len(t.waiting); n > 0 {
		s.Detail = map[string]string{"waiting": fmt.Sprint(n)}
	}
	return s
}

package actors

import (
	"fmt"

	"github.com/covey-run/covey/messages"
)

// turns are the asks of a member that takes one at a time. Its actor owns it.
type turns struct {
	waiting []messages.Ask
	now     *messages.Ask
}

// add queues an ask, once.
func (t *turns) add(a messages.Ask) {
	if t.now != nil && t.now.Step == a.Step {
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
func (t *turns) start() (messages.Ask, bool) {
	if t.now != nil || len(t.waiting) == 0 {
		return messages.Ask{}, false
	}
	a := t.waiting[0]
	t.waiting = t.waiting[1:]
	if len(t.waiting) == 0 {
		t.waiting = nil
	}
	t.now = &a
	return a, true
}

func (t *turns) finish(a messages.Ask) {
	if t.now != nil && t.now.Step == a.Step {
		t.now = nil
	}
}

func (t *turns) status(verb string) messages.Status {
	if t.now == nil {
		return messages.Status{State: messages.Idle}
	}
	s := messages.Status{State: messages.Running, Step: fmt.Sprintf("%s step %s", verb, t.now.Step)}
	if n := len(t.waiting); n > 0 {
		s.Detail = map[string]string{"waiting": fmt.Sprint(n)}
	}
	return s
}

package provider

import (
	"container/list"
	"time"
)

// line decides who is next.
//
// Waiters stand in levels, one for each priority. Within a level the sessions
// take turns, each in the order of its own calls. Among those whose turn it is in
// their levels the one goes that came first, were each step of priority worth
// ageEvery of waiting; so a waiter that has waited ageEvery longer than another
// outranks it by one step, without anything being sorted anew as time passes.
// A line is not safe for concurrent use.
type line struct {
	ageEvery time.Duration // negative: priorities do not age
	levels   map[int]*level
	n        int
}

// level holds the waiters of one priority.
type level struct {
	priority int
	turns    list.List // of *share: the front session is next
	sessions map[string]*list.Element
}

// share is one session's part of a level.
type share struct {
	session string
	calls   list.List // of *waiter, oldest first; never empty
}

// waiter is one call in a line.
type waiter struct {
	turn     chan struct{} // closed when it is its turn
	since    time.Time
	level    *level        // nil once it left the line
	inTurn   *list.Element // its place among its session's calls
	itsTurns *list.Element // its session's place in level.turns
}

func (l *line) len() int { return l.n }

func (l *line) push(now time.Time, priority int, session string) *waiter {
	if l.levels == nil {
		l.levels = map[int]*level{}
	}
	lv := l.levels[priority]
	if lv == nil {
		lv = &level{priority: priority, sessions: map[string]*list.Element{}}
		l.levels[priority] = lv
	}
	t := lv.sessions[session]
	if t == nil {
		t = lv.turns.PushBack(&share{session: session})
		lv.sessions[session] = t
	}
	w := &waiter{turn: make(chan struct{}), since: now, level: lv, itsTurns: t}
	w.inTurn = t.Value.(*share).calls.PushBack(w)
	l.n++
	return w
}

// pop takes the next waiter out, nil if there is none.
func (l *line) pop() *waiter {
	var next *level
	for _, lv := range l.levels {
		if next == nil || l.before(lv, next) {
			next = lv
		}
	}
	if next == nil {
		return nil
	}
	w := next.next()
	next.turns.MoveToBack(w.itsTurns)
	l.remove(w)
	return w
}

// before reports whether level a goes before b.
func (l *line) before(a, b *level) bool {
	if l.ageEvery < 0 {
		return a.priority < b.priority
	}
	older := b.next().since.Sub(a.next().since) // by how much a has waited longer
	steps := float64(a.priority) - float64(b.priority)
	if ahead := float64(older) - steps*float64(l.ageEvery); ahead != 0 {
		return ahead > 0
	}
	return a.priority < b.priority
}

// next returns the waiter whose turn it is.
func (lv *level) next() *waiter {
	return lv.turns.Front().Value.(*share).calls.Front().Value.(*waiter)
}

// remove takes w out; false if it left before.
func (l *line) remove(w *waiter) bool {
	lv := w.level
	if lv == nil {
		return false
	}
	w.level = nil
	l.n--
	t := w.itsTurns.Value.(*share)
	t.calls.Remove(w.inTurn)
	if t.calls.Len() == 0 {
		lv.turns.Remove(w.itsTurns)
		delete(lv.sessions, t.session)
	}
	if lv.turns.Len() == 0 {
		delete(l.levels, lv.priority)
	}
	return true
}

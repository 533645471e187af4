package supervisor

import (
	"sync"
	"sync/atomic"

	"github.com/covey-run/covey/messages"
)

// Events is the one seam through which everything that happens can be seen.
// Emitting never blocks, and costs an atomic load while nobody listens. The
// zero value is ready.
type Events struct {
	n    atomic.Int32
	mu   sync.RWMutex
	subs map[*Subscription]struct{}
}

// Subscription is one listener. It must be closed.
type Subscription struct {
	// C delivers the events in the order of their emission; it is closed by
	// Close.
	C <-chan messages.Event

	c    chan messages.Event
	of   *Events
	want func(messages.Event) bool

	mu      sync.Mutex // one emitter at a time
	dropped int        // not yet reported
	total   atomic.Int64
}

// Dropped is how many events the listener has missed so far.
func (s *Subscription) Dropped() int { return int(s.total.Load()) }

// Subscribe returns a listener with room for buffer events (at least 1). While
// it is full, events are dropped for it and counted; the count is delivered as
// an event of kind EventsDropped before the next one. want, if not nil, picks
// events; it must not block, nor subscribe or close.
func (e *Events) Subscribe(buffer int, want func(messages.Event) bool) *Subscription {
	c := make(chan messages.Event, max(buffer, 1))
	s := &Subscription{C: c, c: c, of: e, want: want}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subs == nil {
		e.subs = map[*Subscription]struct{}{}
	}
	e.subs[s] = struct{}{}
	e.n.Add(1)
	return s
}

// Close ends the subscription. It may be called twice.
func (s *Subscription) Close() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if _, ok := s.of.subs[s]; ok {
		delete(s.of.subs, s)
		s.of.n.Add(-1)
		s.report(messages.Event{})
		close(s.c)
	}
}

// Wanted reports whether anybody listens: worth asking before an event that is
// costly to make.
func (e *Events) Wanted() bool { return e.n.Load() > 0 }

// Emit gives ev to every listener.
func (e *Events) Emit(ev messages.Event) {
	if !e.Wanted() {
		return
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	for s := range e.subs {
		if s.want == nil || s.want(ev) {
			s.deliver(ev)
		}
	}
}

func (s *Subscription) deliver(ev messages.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report(ev)
	select {
	case s.c <- ev:
	default:
		s.dropped++
		s.total.Add(1)
	}
}

// report says how many events were dropped before ev, if there is room.
func (s *Subscription) report(ev messages.Event) {
	if s.dropped == 0 {
		return
	}
	select {
	case s.c <- messages.Event{Kind: messages.EventsDropped, Time: ev.Time, Count: s.dropped}:
		s.dropped = 0
	default:
	}
}

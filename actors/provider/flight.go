package provider

import (
	"context"
	"iter"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// FlightConfig says which calls are the same. The zero value shares calls with
// the same [Request.Key].
type FlightConfig struct {
	// Name is the model, in events and errors.
	Name string
	// Identity names a request's call; requests of one name share a call. "": it
	// is not shared. nil: its Key.
	Identity func(*Request) string
	// Clock dates events. nil: the real one.
	Clock clockwork.Clock
	// Observe hears of each call that joins another ([messages.FlightJoined]). It
	// must not block. nil: nobody.
	Observe func(messages.Event)
}

// Flight lets concurrent calls of one identity share one call. The first makes
// it; each later one gets its chunks from the beginning on and then as they
// come, so nobody waits for the end, and a slow reader does not hold up the
// others. The chunks are held in memory until the call is over.
//
// The call belongs to all who share it: it runs in a goroutine of its own, under
// a context with the first caller's values and the latest deadline of all of
// them. A caller that leaves, or whose context ends, does not end it for the
// others; when the last one leaves it is canceled. Its failure is everyone's; a
// panic in it is an error of class crashed. Usage goes to the first caller, the
// others' tells only how long they waited.
type Flight struct {
	cfg FlightConfig

	mu    sync.Mutex // guards calls and each call's members; taken before a call's lock
	calls map[string]*sharedCall
}

// NewFlight returns a flight without calls.
func NewFlight(cfg FlightConfig) *Flight {
	if cfg.Identity == nil {
		cfg.Identity = func(req *Request) string { return req.Key }
	}
	if cfg.Clock == nil {
		cfg.Clock = clockwork.NewRealClock()
	}
	return &Flight{cfg: cfg, calls: map[string]*sharedCall{}}
}

// Len returns how many shared calls are under way.
func (f *Flight) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

// Wrap is a [Middleware].
func (f *Flight) Wrap(m Model) Model {
	return Func(func(ctx context.Context, req *Request) iter.Seq2[Chunk, error] {
		return func(yield func(Chunk, error) bool) { f.stream(ctx, m, req, f.cfg.Identity(req), yield) }
	})
}

func (f *Flight) stream(ctx context.Context, m Model, req *Request, id string, yield func(Chunk, error) bool) {
	if id == "" {
		m.Stream(ctx, req)(yield)
		return
	}
	if err := ctx.Err(); err != nil {
		yield(Chunk{}, messages.AsError(err, messages.Canceled, f.cfg.Name))
		return
	}
	start := f.cfg.Clock.Now()
	s, me, n := f.join(ctx, m, req, id)
	defer f.leave(s, me, ctx)
	if n > 1 && f.cfg.Observe != nil {
		f.cfg.Observe(about(req, messages.Event{Kind: messages.FlightJoined, Time: start, Name: f.cfg.Name, Count: n}))
	}
	for seen := 0; ; {
		chunks, err, done := s.from(seen)
		seen += len(chunks)
		for _, c := range chunks {
			if n > 1 && c.Stop != "" {
				c.Usage = messages.Usage{Duration: f.cfg.Clock.Since(start)}
			}
			if !yield(c, nil) {
				return
			}
		}
		if done {
			if err != nil {
				yield(Chunk{}, err)
			}
			return
		}
		select {
		case <-me.wake:
		case <-ctx.Done():
			yield(Chunk{}, messages.Errorf(messages.ClassOf(ctx.Err()), f.cfg.Name, "left a shared call: %w", ctx.Err()))
			return
		}
	}
}

// member is one caller of a shared call.
type member struct {
	wake     chan struct{} // holds one
	deadline time.Time     // zero: none
}

// join makes the caller a member of its call, which is begun if it is the first,
// and says how many there are now.
func (f *Flight) join(ctx context.Context, m Model, req *Request, id string) (*sharedCall, *member, int) {
	me := &member{wake: make(chan struct{}, 1)}
	me.deadline, _ = ctx.Deadline()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.calls[id]
	if s == nil {
		s = &sharedCall{f: f, id: id}
		s.ctx = newSharedContext(ctx, s.deadline)
		f.calls[id] = s
		own := *req // the caller may change its request once it has left
		own.Messages, own.Tools = slices.Clone(req.Messages), slices.Clone(req.Tools)
		go s.run(m, &own)
	}
	s.mu.Lock()
	s.members = append(s.members, me)
	n := len(s.members)
	s.mu.Unlock()
	return s, me, n
}

// leave takes a member out. The last one to leave cancels what is not over.
func (f *Flight) leave(s *sharedCall, me *member, ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.mu.Lock()
	s.members = slices.DeleteFunc(s.members, func(m *member) bool { return m == me })
	last := len(s.members) == 0
	s.mu.Unlock()
	if !last {
		return
	}
	if f.calls[s.id] == s {
		delete(f.calls, s.id)
	}
	s.ctx.end(ctx.Err())
}

// sharedCall is one call and who waits for it.
type sharedCall struct {
	f   *Flight
	id  string
	ctx *sharedContext

	mu      sync.Mutex
	members []*member
	chunks  []Chunk // only appended to
	err     error
	done    bool
}

// run makes the call.
func (s *sharedCall) run(m Model, req *Request) {
	deepen(0)
	over := false // false after a panic, or the goroutine's end
	var err error
	defer func() {
		if !over {
			r := recover()
			e := messages.Errorf(messages.Crashed, s.f.cfg.Name, "the call panicked: %v", r)
			e.Stack = string(debug.Stack())
			err = e
		}
		s.f.mu.Lock()
		if s.f.calls[s.id] == s {
			delete(s.f.calls, s.id)
		}
		s.f.mu.Unlock()
		s.end(err)
		s.ctx.end(nil)
	}()
	for c, e := range m.Stream(s.ctx, req) {
		if e != nil {
			err = e
			break
		}
		s.add(c)
	}
	over = true
}

// add adds a chunk.
func (s *sharedCall) add(c Chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chunks == nil {
		s.chunks = make([]Chunk, 0, 4)
	}
	s.chunks = append(s.chunks, c)
	s.wake()
}

// end says how the call ended.
func (s *sharedCall) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.done = err, true
	s.wake()
}

// wake wakes the members; mu is held.
func (s *sharedCall) wake() {
	for _, m := range s.members {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// from returns the chunks from the nth on, and how it ended if it did.
func (s *sharedCall) from(n int) ([]Chunk, error, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chunks[n:len(s.chunks):len(s.chunks)], s.err, s.done
}

// deadline is the latest of the members', false if one has none.
func (s *sharedCall) deadline() (latest time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		if m.deadline.IsZero() {
			return time.Time{}, false
		}
		if m.deadline.After(latest) {
			latest = m.deadline
		}
	}
	return latest, !latest.IsZero()
}

// deepen grows the goroutine's stack once, to what a client needs, while there is
// little on it to copy. It saves half of what the goroutine costs a call.
//
//go:noinline
func deepen(n int) byte {
	var room [6 << 10]byte
	return room[n]
}

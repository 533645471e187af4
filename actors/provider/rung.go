package provider

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// Rung is one step of a [Ladder].
type Rung struct {
	// Name is what answers carry: a model's reference, a rule's name, "canned".
	Name string
	// Make makes the rung's model when a call first needs it. It makes no call.
	// A model that is an io.Closer is closed after use.
	Make func() (Model, error)
	// Timeout bounds the rung's whole part in a call, so that a slow rung leaves
	// time for the next. Zero: no bound but the caller's.
	Timeout time.Duration
}

// RungOf is a rung of a model that is there already. It stays its maker's: the
// ladder does not close it.
func RungOf(name string, m Model) Rung {
	return Rung{Name: name, Make: func() (Model, error) {
		if _, ok := m.(io.Closer); ok {
			return Func(m.Stream), nil // without its Close
		}
		return m, nil
	}}
}

// Rung is a rung of a reference that the registry knows.
func (r *Registry) Rung(ref string) Rung {
	return Rung{Name: ref, Make: func() (Model, error) { return r.Model(ref) }}
}

type failuresKey struct{}

// Failures returns the failures of the rungs before the one that ctx is passed
// to, the first rung's first; nil at the first rung and outside a ladder.
func Failures(ctx context.Context) []*messages.Error {
	before, _ := ctx.Value(failuresKey{}).([]*messages.Error)
	return before
}

// held is a rung and the model that it has made.
type held struct {
	Rung
	clock   clockwork.Clock
	keep    time.Duration
	last    bool        // it is kept until the ladder is closed
	dropped func(error) // hears of a model that was closed for being idle

	mu     sync.Mutex // guards the rest; never held while Make or Close runs
	model  Model
	making *making
	users  int
	closed bool
	idle   clockwork.Timer
	turn   int // counts uses, so that a late timer finds itself late
}

// making is a Make under way, which one caller runs for all that need it.
type making struct {
	done chan struct{}
	err  error
}

var errLadderClosed = messages.Errorf(messages.Stopping, "", "the ladder is closed")

// take returns the rung's model, made if need be. release gives it back.
func (h *held) take(ctx context.Context) (Model, error) {
	for {
		h.mu.Lock()
		switch {
		case h.closed:
			h.mu.Unlock()
			return nil, errLadderClosed
		case h.model != nil:
			h.use()
			m := h.model
			h.mu.Unlock()
			return m, nil
		case h.making == nil:
			mk := &making{done: make(chan struct{}), err: messages.Errorf(messages.Crashed, h.Name, "making the model panicked")}
			h.making = mk
			h.mu.Unlock()
			return h.make(mk)
		}
		mk := h.making
		h.mu.Unlock()
		select {
		case <-mk.done:
			if mk.err != nil {
				return nil, mk.err
			}
		case <-ctx.Done():
			return nil, messages.AsError(ctx.Err(), messages.Canceled, h.Name)
		}
	}
}

func (h *held) make(mk *making) (m Model, err error) {
	defer func() { // after a panic, too
		h.mu.Lock()
		h.making = nil
		if mk.err = err; err == nil && m != nil {
			h.model = m
			h.use()
		}
		h.mu.Unlock()
		close(mk.done)
	}()
	err = mk.err
	m, err = h.Make()
	if err == nil && m == nil {
		err = messages.Errorf(messages.Invalid, h.Name, "the rung made no model")
	}
	return m, err
}

// use counts a user. The lock is held.
func (h *held) use() {
	h.users++
	h.turn++
	if h.idle != nil {
		h.idle.Stop()
		h.idle = nil
	}
}

// release ends a use. A lower rung's model that can be closed is, when it was
// idle for as long as it is kept.
func (h *held) release() {
	h.mu.Lock()
	h.users--
	var unused Model
	if _, ok := h.model.(io.Closer); ok && h.users == 0 {
		switch {
		case h.closed || !h.last && h.keep < 0:
			unused, h.model = h.model, nil
		case !h.last:
			turn := h.turn
			h.idle = h.clock.AfterFunc(h.keep, func() { h.expire(turn) })
		}
	}
	h.mu.Unlock()
	h.drop(unused)
}

func (h *held) expire(turn int) {
	h.mu.Lock()
	var unused Model
	if h.users == 0 && h.turn == turn {
		unused, h.model = h.model, nil
	}
	h.mu.Unlock()
	h.drop(unused)
}

// drop closes a model that nobody uses, and tells.
func (h *held) drop(m Model) {
	if c, ok := m.(io.Closer); ok {
		h.dropped(c.Close())
	}
}

// close ends the rung; a model in use is closed by its last user.
func (h *held) close() error {
	h.mu.Lock()
	h.closed = true
	var unused Model
	if h.users == 0 {
		unused, h.model = h.model, nil
	}
	if h.idle != nil {
		h.idle.Stop()
		h.idle = nil
	}
	h.mu.Unlock()
	if c, ok := unused.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

package supervisor

import (
	"context"
	"reflect"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/covey-run/covey/messages"
)

// Ref is an actor's address: opaque, good for as long as the actor's name is
// taken, over all its incarnations. The zero Ref is nobody.
type Ref struct {
	pid *actor.PID
	sys *System
}

// IsZero reports whether r is nobody.
func (r Ref) IsZero() bool { return r.pid == nil }

// Path is the actor's place in the tree: names joined by '/', the root first.
func (r Ref) Path() string {
	if r.pid == nil {
		return ""
	}
	return r.pid.Id
}

// String returns the path.
func (r Ref) String() string { return r.Path() }

// Tell sends msg and does not wait. A message to an actor that is no more is
// counted as a dead letter ([System.DeadLetters]).
func (r Ref) Tell(msg any) {
	if r.pid != nil {
		r.sys.root.Send(r.pid, msg)
	}
}

// refusal answers an ask with an error.
type refusal struct{ err error }

func refuse(err error, c *cell) *refusal {
	if err == nil {
		err = messages.Errorf(messages.Invalid, c.path(), "failed without an error")
	}
	return &refusal{err}
}

// Ask sends msg and waits for the answer. It fails with ctx's error when ctx
// ends first, with the actor's own error when handling it failed, with class
// stopping when the actor stopped before it answered, and with unavailable when
// there is no such actor. Without a deadline in ctx it waits as long as the
// actor takes. A nil answer is T's zero value, for a T that can be nil.
func Ask[T any](ctx context.Context, to Ref, msg any) (T, error) {
	var zero T
	if to.pid == nil {
		return zero, messages.Errorf(messages.Unavailable, "", "ask %T: the address is empty", msg)
	}
	if ctx.Err() != nil {
		return zero, ended(ctx, to, msg)
	}
	w, sender := to.sys.waiters.open()
	to.sys.root.RequestWithCustomSender(to.pid, msg, sender)
	var answer any
	select {
	case answer = <-w.answer:
	case <-ctx.Done():
		var came bool
		if answer, came = w.cancel(); !came {
			to.sys.waiters.put(w)
			return zero, ended(ctx, to, msg)
		}
	}
	to.sys.waiters.put(w)
	switch a := answer.(type) {
	case *refusal:
		return zero, a.err
	case *actor.DeadLetterResponse:
		return zero, nobody(to.Path())
	case T:
		return a, nil
	case nil:
		switch reflect.TypeFor[T]().Kind() {
		case reflect.Interface, reflect.Pointer, reflect.Map, reflect.Slice, reflect.Func, reflect.Chan:
			return zero, nil
		}
	}
	return zero, messages.Errorf(messages.Invalid, to.Path(), "answered %T with %T, not %s", msg, answer, reflect.TypeFor[T]())
}

func ended(ctx context.Context, to Ref, msg any) error {
	c := messages.Timeout
	if ctx.Err() == context.Canceled {
		c = messages.Canceled
	}
	return messages.Errorf(c, to.Path(), "ask %T: %w", msg, context.Cause(ctx))
}

func nobody(path string) *messages.Error {
	return messages.Errorf(messages.Unavailable, path, "no such actor")
}

// Asker is whoever waits for the answer to a message; it can be kept beyond the
// message's handling, and used from any goroutine. The zero Asker is nobody,
// and answering it does nothing; so does answering twice. When the incarnation
// that took it ends before it was answered, it gets the failure, or class
// stopping.
type Asker struct{ kept *kept }

// IsZero reports whether nobody waits.
func (a Asker) IsZero() bool { return a.kept == nil }

// Answer sends v.
func (a Asker) Answer(v any) {
	if a.kept != nil {
		a.kept.answer(v)
	}
}

// Fail sends an error.
func (a Asker) Fail(err error) {
	if a.kept != nil {
		a.kept.answer(refuse(err, a.kept.cell))
	}
}

// waiters are the processes that answers come to. protoactor's Future allocates
// ten times, and races between timeout and reply and on a second reply; a waiter
// is kept and used again, and the request id in the sender's address tells a
// late answer from a due one.
type waiters struct {
	sys  *System
	mu   sync.Mutex
	free []*waiter
}

type waiter struct {
	id     string
	answer chan any // 1

	mu      sync.Mutex
	request uint32
	waiting bool
}

func (ws *waiters) open() (*waiter, *actor.PID) {
	ws.mu.Lock()
	var w *waiter
	if n := len(ws.free); n > 0 {
		w, ws.free = ws.free[n-1], ws.free[:n-1]
	}
	ws.mu.Unlock()
	registry := ws.sys.system.ProcessRegistry
	if w == nil {
		w = &waiter{id: registry.NextId(), answer: make(chan any, 1)}
		registry.Add(w, w.id)
	}
	w.mu.Lock()
	w.request++
	w.waiting = true
	request := w.request
	w.mu.Unlock()
	return w, &actor.PID{Address: registry.Address, Id: w.id, RequestId: request}
}

// maxWaiters is how many waiters are kept for further asks.
const maxWaiters = 1024

func (ws *waiters) put(w *waiter) {
	ws.mu.Lock()
	keep := len(ws.free) < maxWaiters
	if keep {
		ws.free = append(ws.free, w)
	}
	ws.mu.Unlock()
	if !keep {
		ws.sys.system.ProcessRegistry.Remove(&actor.PID{Id: w.id})
	}
}

// cancel ends the wait; an answer that came just before is returned.
func (w *waiter) cancel() (any, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = false
	select {
	case a := <-w.answer:
		return a, true
	default:
		return nil, false
	}
}

// SendUserMessage is part of actor.Process: an answer came.
func (w *waiter) SendUserMessage(pid *actor.PID, message any) {
	_, msg, _ := actor.UnwrapEnvelope(message)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting && pid.RequestId == w.request {
		w.waiting = false
		w.answer <- msg
	}
}

// SendSystemMessage is part of actor.Process.
func (w *waiter) SendSystemMessage(*actor.PID, any) {}

// Stop is part of actor.Process.
func (w *waiter) Stop(*actor.PID) {}

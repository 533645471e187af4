package messages

import (
	"context"
	"errors"
	"slices"
)

// Class says what kind of failure an error is, and so who owns it. A Class is
// itself an error, so that errors.Is(err, messages.Throttled) works on both
// sides of a wire. The zero value, "", means "not classified" and is treated
// as [Crashed] by supervisors.
type Class string

// The classes of failure, and the owner of each.
const (
	// Transient: the provider hiccuped (500, 502, 503, connection reset). The
	// provider actor retries.
	Transient Class = "transient"
	// Throttled: the provider asked for fewer requests (429, 529). The provider
	// actor waits, Retry-After honoured, and retries.
	Throttled Class = "throttled"
	// Timeout: a deadline passed. The provider actor retries while the
	// caller's own deadline allows.
	Timeout Class = "timeout"
	// Unavailable: a breaker is open, a queue is full, or nothing answers at the
	// address. The agent parks or fails.
	Unavailable Class = "unavailable"
	// Unauthorized: 401, 403. Never retried.
	Unauthorized Class = "unauthorized"
	// Quota: the account's money or allowance is spent. Never retried.
	Quota Class = "quota"
	// Invalid: the request is wrong (400, 404, bad configuration, a name that
	// nobody has). The caller's own error, never retried.
	Invalid Class = "invalid"
	// ContextLength: the conversation does not fit the model. The turn trims it.
	ContextLength Class = "context_length"
	// Malformed: the model's output cannot be used. The turn asks for a repair.
	Malformed Class = "malformed"
	// Tool: a tool returned an error. The model sees it as an observation.
	Tool Class = "tool"
	// Crashed: an actor panicked. Its supervisor restarts it.
	Crashed Class = "crashed"
	// Poison: the same step crashed its agent again and again. The step is
	// quarantined and the run fails.
	Poison Class = "poison"
	// Budget: a limit of tokens, calls, steps or time is spent.
	Budget Class = "budget"
	// Canceled: the caller, or a person, called it off.
	Canceled Class = "canceled"
	// Stopping: the node or actor is going down; the work is resumable.
	Stopping Class = "stopping"
	// Fenced: the journal has a newer owner for this run. The old one stops.
	Fenced Class = "fenced"
	// Diverged: the plan no longer matches what its journal recorded.
	Diverged Class = "diverged"
	// Waiting: a person must decide before the work can go on.
	Waiting Class = "waiting"
)

var classes = []Class{
	Transient, Throttled, Timeout, Unavailable, Unauthorized, Quota, Invalid,
	ContextLength, Malformed, Tool, Crashed, Poison, Budget, Canceled,
	Stopping, Fenced, Diverged, Waiting,
}

// Classes returns every class, in the order of the owners' table in
// docs/architecture.md.
func Classes() []Class { return slices.Clone(classes) }

// Valid reports whether c is one of the named classes.
func (c Class) Valid() bool { return slices.Contains(classes, c) }

// Retryable reports whether the same call may succeed if it is simply made
// again: transient, throttled and timeout. Everything else needs a change
// first, by its owner.
func (c Class) Retryable() bool { return c == Transient || c == Throttled || c == Timeout }

// Error makes a class usable as a sentinel: errors.Is(err, messages.Fenced).
func (c Class) Error() string { return string(c) }

// ClassOf returns the class of err: that of the outermost [Error] or Class in
// its tree, the first of several side by side; canceled or timeout for the
// context errors; "" for nil and for an error that carries no class.
func ClassOf(err error) Class {
	if err == nil {
		return ""
	}
	if c, ok := classIn(err); ok {
		return c
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	}
	return ""
}

// classIn walks the tree of err as errors.Is does.
func classIn(err error) (Class, bool) {
	switch e := err.(type) {
	case nil:
		return "", false
	case *Error:
		if e != nil {
			return e.Class, true
		}
		return "", false
	case Class:
		return e, true
	case interface{ Unwrap() error }:
		return classIn(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if c, ok := classIn(err); ok {
				return c, true
			}
		}
	}
	return "", false
}

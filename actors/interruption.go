package actors

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/covey-run/covey/messages"
)

// ErrDiverged: a plan does not match what its journal recorded, because the
// plan, or the team's definition, has changed since. The error names the first
// step that differs; the run is left as it was.
var ErrDiverged = errors.New("the plan has changed since the run began")

// interruption is why a walk or a turn ended without coming to anything: the
// node drains, the claim is lost, the plan does not fit its journal. It is not
// recorded, and what the walk or the turn made of it does not count: the run is
// left as it was, for whoever takes it up.
type interruption struct{ error }

// Unwrap is for errors.Is and As.
func (i interruption) Unwrap() error { return i.error }

func interrupted(err error) bool {
	var i interruption
	return errors.As(err, &i)
}

// interrupts reports whether a class, in a message of the run's own actors, means
// an interruption.
func interrupts(c messages.Class) bool {
	return c == messages.Stopping || c == messages.Fenced || c == messages.Diverged
}

// plainOf is what an interruption is to the outside. An error that only claims a
// class that means one (a tool's, a plan's own) is a failure like any other.
func plainOf(err error, source string) error {
	var i interruption
	if errors.As(err, &i) {
		return i.error
	}
	if interrupts(messages.ClassOf(err)) {
		e := messages.Errorf(messages.Crashed, source, "%w", err)
		e.Class = messages.Crashed
		return e
	}
	return err
}

// divergence is ErrDiverged from a team within the run, whose error came as a
// message.
type divergence struct{ err *messages.Error }

// Error is the team's own words.
func (d divergence) Error() string { return d.err.Error() }

// Unwrap is for errors.As.
func (d divergence) Unwrap() error { return d.err }

// Is makes it match ErrDiverged.
func (d divergence) Is(target error) bool { return target == ErrDiverged }

// ended says why a context has ended: its cause if that is classed. An actor
// that goes down is an interruption.
func ended(ctx context.Context, source string) error {
	cause := context.Cause(ctx)
	switch messages.ClassOf(cause) {
	case messages.Timeout:
		return messages.Errorf(messages.Timeout, source, "the deadline has passed: %w", cause)
	case messages.Canceled:
		if cause == context.Canceled { // its actor is going down
			return interruption{messages.Errorf(messages.Stopping, source, "stopped before it was done: the run can be resumed")}
		}
	case "":
		return messages.Errorf(messages.Canceled, source, "%w", cause)
	}
	return cause
}

// recovered turns a panic of code that is not ours into its error.
func recovered(err *error, source, what string) {
	if r := recover(); r != nil {
		var e *messages.Error
		if cause, ok := r.(error); ok {
			e = messages.Errorf(messages.Crashed, source, "%s panicked: %w", what, cause)
		} else {
			e = messages.Errorf(messages.Crashed, source, "%s panicked: %v", what, r)
		}
		e.Stack = string(debug.Stack())
		*err = e
	}
}

package messages

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Error is a failure that keeps its class across actors, NATS and the journal.
// Inside a process it wraps its cause; on the wire the cause is its text, and
// errors.Is against a [Class] gives the same answer on both sides.
type Error struct {
	// Class says who owns the failure.
	Class Class
	// Source is what failed: an actor's path, a provider, a file and line.
	Source string
	// Message says what happened, in words for a person. Empty: the cause's.
	Message string
	// Status is the HTTP status where there was one, else 0.
	Status int
	// RetryAfter is the wait that the other side asked for; 0 if it named none.
	RetryAfter time.Duration
	// Until is when trying again makes sense (a breaker's half-open, the end of
	// a backoff); zero when unknown.
	Until time.Time
	// Stack is the goroutine's stack where the failure was a panic.
	Stack string
	// Attempts is how many tries were made; 0 means one.
	Attempts int
	// Others are the failures before or beside this one (earlier rungs, earlier
	// attempts), oldest first.
	Others []*Error

	cause error
}

// Errorf makes an *Error; %w wraps a cause, or several, as fmt.Errorf does.
func Errorf(c Class, source, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Class: c, Source: source, Message: err.Error(), cause: errors.Unwrap(err)}
	if _, several := err.(interface{ Unwrap() []error }); several {
		e.cause = err
	}
	return e
}

// AsError returns err as an *Error: the one in its tree that gives it its class,
// else a new one that wraps err, of its class or, if it has none, of class c.
// nil gives nil.
func AsError(err error, c Class, source string) *Error {
	if err == nil {
		return nil
	}
	own := ClassOf(err)
	var e *Error
	if errors.As(err, &e) {
		if e == nil { // a nil *Error in an error: its text cannot be asked for
			return &Error{Class: c, Source: source, Message: "failed with a nil *Error"}
		}
		if e.Class == own {
			return e
		}
	}
	if own != "" {
		c = own
	}
	return &Error{Class: c, Source: source, Message: err.Error(), cause: err}
}

// Error reads "source: message (class)", leaving out what is empty and a class
// that the message already names.
func (e *Error) Error() string {
	if e == nil { // a nil *Error in an error is a bug, and shall be told of
		return "nil *messages.Error"
	}
	var b strings.Builder
	if e.Source != "" {
		b.WriteString(e.Source)
		b.WriteString(": ")
	}
	msg := e.Message
	if msg == "" && e.cause != nil {
		msg = e.cause.Error()
	}
	b.WriteString(msg)
	if e.Class != "" && !strings.Contains(msg, string(e.Class)) {
		if msg != "" {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "(%s)", e.Class)
	}
	return b.String()
}

// Unwrap returns the cause, nil after a wire.
func (e *Error) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.cause
}

// Is reports whether target is this error's class, so that a failure matches
// the same way near and far.
func (e *Error) Is(target error) bool {
	c, ok := target.(Class)
	return ok && e != nil && c == e.Class
}

type wireError struct {
	Class      Class         `json:"class"`
	Source     string        `json:"source,omitempty"`
	Message    string        `json:"message"`
	Status     int           `json:"status,omitempty"`
	RetryAfter time.Duration `json:"retry_after_ns,omitempty"`
	Until      time.Time     `json:"until,omitzero"`
	Stack      string        `json:"stack,omitempty"`
	Attempts   int           `json:"attempts,omitempty"`
	Others     []*Error      `json:"others,omitempty"`
}

// MarshalJSON writes the error with its cause's text as the message.
func (e *Error) MarshalJSON() ([]byte, error) {
	w := wireError{
		Class: e.Class, Source: e.Source, Message: e.Message, Status: e.Status, RetryAfter: e.RetryAfter,
		Until: e.Until, Stack: e.Stack, Attempts: e.Attempts, Others: e.Others,
	}
	if w.Message == "" && e.cause != nil {
		w.Message = e.cause.Error()
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads an error. A class that this version does not know is kept
// as it is: it matches itself, and no owner retries it.
func (e *Error) UnmarshalJSON(b []byte) error {
	var w wireError
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*e = Error{
		Class: w.Class, Source: w.Source, Message: w.Message, Status: w.Status, RetryAfter: w.RetryAfter,
		Until: w.Until, Stack: w.Stack, Attempts: w.Attempts,
		Others: slices.DeleteFunc(w.Others, func(o *Error) bool { return o == nil }),
	}
	return nil
}

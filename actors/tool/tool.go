// Package tool makes tools: things that a model may ask for. [New] makes one of
// a typed Go function.
package tool

import (
	"context"
	"encoding/json"
	"time"

	"github.com/covey-run/covey/messages"
)

// Tool is something that a model may call. Agents hold them by value; a run
// gives each a supervised actor of its own.
type Tool struct {
	// Name is what the model calls it by: letters, digits, '-' and '_'.
	Name string
	// Description tells the model what it does and when to use it.
	Description string
	// Parameters is the JSON schema of the arguments, an object. Arguments are
	// validated against it before Call; what does not fit is answered to the
	// model as an error. nil: an object with no properties.
	Parameters json.RawMessage
	// Effect says what calling twice would do. The zero value, unsafe, never
	// calls twice by guess.
	Effect messages.Effect
	// Timeout bounds one call. Zero: 30 s.
	Timeout time.Duration
	// Call does the work. An error is shown to the model; a panic restarts the
	// tool. It must honour ctx. [Key] gives the call's idempotency key.
	Call func(ctx context.Context, args json.RawMessage) (string, error)
	// Verify finds out whether an unsafe call that a crash cut off took effect:
	// it returns the call's output and true if it did, false if it surely did
	// not (then Call is called). An error leaves the call to a person. nil: a
	// person decides.
	Verify func(ctx context.Context, args json.RawMessage, key string) (output string, done bool, err error)
}

type keyOf struct{}

// WithKey returns a context that carries a call's idempotency key.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyOf{}, key)
}

// Key returns the idempotency key of the call that ctx belongs to: the same for
// every try of the same step of the same run, and for no other. "" outside a
// call.
func Key(ctx context.Context) string {
	k, _ := ctx.Value(keyOf{}).(string)
	return k
}

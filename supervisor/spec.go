package supervisor

import (
	"unicode"
	"unicode/utf8"

	"github.com/covey-run/covey/messages"
)

// Actor handles messages, one at a time, on one goroutine at a time.
type Actor interface {
	// Receive handles one message. A returned error, or a panic, is a failure of
	// the actor: its supervisor decides by the error's class. Whoever asked gets
	// the error at once. Receive must not block.
	Receive(c *Context, msg any) error
}

// ActorFunc makes an Actor of a function.
type ActorFunc func(c *Context, msg any) error

// Receive calls f.
func (f ActorFunc) Receive(c *Context, msg any) error { return f(c, msg) }

// Starter is an actor with something to do before its first message. A failure
// of Start is a failure of the actor.
type Starter interface{ Start(c *Context) error }

// Stopper is an actor with something to do when its incarnation ends, by stop
// or restart. The incarnation's context has ended already. Stop must not block,
// and a panic in it is reported and otherwise ignored.
type Stopper interface{ Stop(c *Context) }

// Reporter is an actor that says what it is doing when the live tree is looked
// at. It is called between messages.
type Reporter interface{ Report() messages.Status }

// Parent is an actor that wants to know what becomes of its children.
type Parent interface {
	// ChildChanged is called after the supervisor acted on it. It must not
	// block; a panic in it is the supervising actor's failure.
	ChildChanged(c *Context, change ChildChange)
}

// ChildChange is what became of a child.
type ChildChange struct {
	Name string
	// Kind is ActorFailed, ActorRestarted, ActorResumed, ActorQuarantined or
	// ActorStopped.
	Kind messages.EventKind
	// Failure is the failure behind it; nil for a stop without one.
	Failure *messages.Error
}

// Spec describes an actor to be spawned. The supervisor keeps it, and makes
// every further incarnation from it.
type Spec struct {
	// Name is unique among the siblings: 1 to 256 bytes without '/', white space
	// or control characters.
	Name string
	// Kind is a word for people: "agent", "tool", "provider", "supervisor".
	Kind string
	// New makes an incarnation. It runs inside the new actor, so that its panic
	// or error is the actor's failure and not its parent's. nil: an actor that
	// only supervises.
	New func() (Actor, error)
	// Restart is Permanent (zero), Transient or Temporary.
	Restart Restart
	// Policy is how the actor supervises its own children.
	Policy Policy
	// Children are spawned, in order, whenever an incarnation starts. Those that
	// are spawned later end with the incarnation that they were spawned under;
	// only an actor without New, which could not spawn them again itself, keeps
	// them (but for temporary ones).
	Children []Spec
}

// Check returns an error of class invalid that names the field that is wrong.
func (s Spec) Check() error {
	if s.Name == "" || len(s.Name) > 256 {
		return messages.Errorf(messages.Invalid, "", "spec: name: %q is not allowed: use 1 to 256 bytes", s.Name)
	}
	for _, r := range s.Name {
		if r == '/' || r == utf8.RuneError || unicode.IsSpace(r) || unicode.IsControl(r) {
			return messages.Errorf(messages.Invalid, "", "spec: name: %q is not allowed: use no '/', white space or control character", s.Name)
		}
	}
	switch s.Restart {
	case "", Permanent, Transient, Temporary:
	default:
		return messages.Errorf(messages.Invalid, "", "spec %q: restart: %q is not allowed: use permanent, transient or temporary", s.Name, s.Restart)
	}
	if err := s.Policy.Check(); err != nil {
		return messages.Errorf(messages.Invalid, "", "spec %q: %w", s.Name, err)
	}
	if len(s.Children) == 0 {
		return nil
	}
	seen := make(map[string]bool, len(s.Children))
	for _, c := range s.Children {
		if err := c.Check(); err != nil {
			return err
		}
		if seen[c.Name] {
			return messages.Errorf(messages.Invalid, "", "spec %q: children: the name %q is there twice", s.Name, c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}

package tool

import "github.com/covey-run/covey/messages"

// Check returns an error of class invalid that names the first field which
// cannot work, its value and what is allowed.
func (t Tool) Check() error {
	bad := func(field string, value any, allowed string) error {
		return messages.Errorf(messages.Invalid, "", "tool %q: %s: %v is not allowed: use %s", t.Name, field, value, allowed)
	}
	if err := messages.CheckName("tool: name", t.Name); err != nil {
		return err
	}
	switch t.Effect {
	case messages.Unsafe, messages.Pure, messages.Idempotent:
	default:
		return bad("effect", t.Effect, "pure, idempotent, or nothing for unsafe")
	}
	if t.Timeout < 0 {
		return bad("timeout", t.Timeout, "a positive duration, or 0 for 30s")
	}
	if t.Call == nil {
		return bad("call", "nil", "a function")
	}
	if _, err := compiled(t.Parameters); err != nil {
		return messages.Errorf(messages.Invalid, "", "tool %q: parameters: %w", t.Name, err)
	}
	return nil
}

// Spec returns what a model is told of the tool.
func (t Tool) Spec() messages.ToolSpec {
	p := t.Parameters
	if len(p) == 0 {
		p = noParameters
	}
	return messages.ToolSpec{Name: t.Name, Description: t.Description, Parameters: p}
}

package actors

import (
	"reflect"
	"slices"
	"strconv"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// reserved are the names of a team's own parts.
var reserved = []string{messages.PlanWriter, toolsName}

// Check is part of [Member].
func (a Agent) Check() error {
	bad := func(field string, value any, allowed string) error {
		return messages.Errorf(messages.Invalid, "", "agent %q: %s: %v is not allowed: use %s", a.Name, field, value, allowed)
	}
	if err := messages.CheckName("agent: name", a.Name); err != nil {
		return err
	}
	switch {
	case slices.Contains(reserved, a.Name):
		return bad("name", a.Name, "another name: this one is taken")
	case a.Model == "" && a.External == "":
		return bad("model", `""`, `"<provider>/<model>", as "ollama/llama3.2" or "scripted"`)
	case a.MaxSteps < 0:
		return bad("max_steps", a.MaxSteps, "0 (for 8) or more")
	case a.Timeout < 0:
		return bad("timeout", a.Timeout, "0 (for none) or a positive duration")
	}
	switch a.Restart {
	case "", supervisor.Permanent, supervisor.Transient, supervisor.Temporary:
	default:
		return bad("restart", a.Restart, "permanent, transient or temporary")
	}
	if a.External != "" {
		return a.checkExternal()
	}
	seen := map[string]bool{}
	for _, t := range a.Tools {
		if err := t.Check(); err != nil {
			return err
		}
		if seen[t.Name] {
			return bad("tools", t.Name, "each tool once")
		}
		seen[t.Name] = true
	}
	for _, name := range a.Uses {
		if err := messages.CheckName("agent "+strconv.Quote(a.Name)+": uses", name); err != nil {
			return err
		}
		if seen[name] {
			return bad("uses", name, "each tool once, in tools or in uses")
		}
		seen[name] = true
	}
	if a.Pool != "" {
		if err := messages.CheckName("agent "+strconv.Quote(a.Name)+": pool", a.Pool); err != nil {
			return err
		}
	}
	if name, _ := provider.Split(a.Model); name == "" {
		return bad("model", a.Model, `"<provider>/<model>"`)
	}
	if s := a.Settings(); s != nil {
		if err := s.Check(provider.ForCall); err != nil {
			return messages.Errorf(messages.Invalid, "", "agent %q: %w", a.Name, err)
		}
	}
	return nil
}

// checkExternal is the rest of Check for a member that a program serves: what
// tunes a model has no meaning there.
func (a Agent) checkExternal() error {
	if err := messages.CheckName("agent "+strconv.Quote(a.Name)+": external", a.External); err != nil {
		return err
	}
	for _, f := range []struct {
		field string
		given bool
	}{
		{"role", a.Role != ""}, {"instructions", a.Instructions != ""}, {"model", a.Model != ""}, {"fallback", len(a.Fallback) > 0},
		{"kind", a.Kind != ""}, {"priority", a.Priority != 0}, {"calls", a.Calls != nil}, {"tools", len(a.Tools) > 0},
		{"uses", len(a.Uses) > 0}, {"pool", a.Pool != ""}, {"options", !reflect.ValueOf(a.Options).IsZero()},
		{"max_steps", a.MaxSteps != 0}, {"max_park", a.MaxPark != 0},
	} {
		if f.given {
			return messages.Errorf(messages.Invalid, "", "agent %q: %s is not allowed together with external: the program %q answers, not a model", a.Name, f.field, a.External)
		}
	}
	return nil
}

// Check is part of [Member]. It checks the members too.
func (t Team) Check() error {
	bad := func(field string, value any, allowed string) error {
		return messages.Errorf(messages.Invalid, "", "team %q: %s: %v is not allowed: use %s", t.Name, field, value, allowed)
	}
	if err := messages.CheckName("team: name", t.Name); err != nil {
		return err
	}
	switch {
	case slices.Contains(reserved, t.Name):
		return bad("name", t.Name, "another name: this one is taken")
	case len(t.Members) == 0:
		return bad("members", "none", "at least one")
	case t.Plan == nil:
		return bad("plan", "nil", "a plan: plan.Pipeline{}, plan.RoundTable{} or a function")
	}
	if err := t.Policy.Check(); err != nil {
		return messages.Errorf(messages.Invalid, "", "team %q: %w", t.Name, err)
	}
	seen := map[string]bool{}
	for i, m := range t.Members {
		if m == nil {
			return bad("members", i, "an agent or a team, not nil")
		}
		if m = value(m); m == nil {
			return noMember(t.Members[i])
		}
		if err := m.Check(); err != nil {
			return err
		}
		if seen[m.MemberName()] {
			return bad("members", m.MemberName(), "names of their own: this one is there twice")
		}
		seen[m.MemberName()] = true
	}
	if c, ok := t.Plan.(interface{ CheckTeam(Team) error }); ok {
		return c.CheckTeam(t)
	}
	return nil
}

// value is a member as the runtime knows it; nil for one that it cannot run.
func value(m Member) Member {
	switch m := m.(type) {
	case Agent, Team:
		return m
	case *Agent:
		if m != nil {
			return *m
		}
	case *Team:
		if m != nil {
			return *m
		}
	}
	return nil
}

func noMember(m Member) error {
	return messages.Errorf(messages.Invalid, "", "a member of type %T cannot be run: use an actors.Agent or an actors.Team", m)
}

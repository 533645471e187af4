package teamfile

import (
	"slices"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
)

// Options are what a program adds to a file. The zero value adds nothing.
type Options struct {
	// Model replaces every model in the file. "": the file's own.
	Model string
	// Tools are tools that members may name beside the file's and the built-in
	// ones. They are not in the definition: a process that resumes a run must be
	// given them too.
	Tools map[string]tool.Tool
}

// Team makes the team. A file with a single agent gives a team of one by the
// agent's name. The team's Definition is the file, with the model that the
// options put in. It fails with class invalid for a member without a model, or
// a tool that nobody knows.
func (f File) Team(o Options) (actors.Team, error) {
	f = f.withModel(o.Model)
	if err := f.Check(); err != nil {
		return actors.Team{}, err
	}
	var t actors.Team
	if len(f.Members) > 0 {
		var err error
		if t, err = f.team(nil, f.Member, "", o); err != nil {
			return actors.Team{}, err
		}
	} else {
		a, err := f.agent(nil, f.alone(), "", o)
		if err != nil {
			return actors.Team{}, err
		}
		t = actors.Team{Name: f.Name, Members: []actors.Member{a}, Plan: plan.Pipeline{}}
	}
	if err := t.Check(); err != nil {
		return actors.Team{}, f.src.fault(nil, "%w", err)
	}
	var err error
	t.Definition, err = f.Definition()
	return t, err
}

// alone is the member that a file without members is: its tools are all of the
// file's.
func (f File) alone() Member {
	m := f.Member
	for _, t := range f.Tools {
		m.Tools = append(slices.Clip(m.Tools), t.Name)
	}
	return m
}

// withModel returns a copy in which every model is the given one.
func (f File) withModel(model string) File {
	if model == "" {
		return f
	}
	var clear func(m Member) Member
	clear = func(m Member) Member {
		m.Model = ""
		m.Members = slices.Clone(m.Members)
		for i := range m.Members {
			m.Members[i] = clear(m.Members[i])
		}
		return m
	}
	f.Member = clear(f.Member)
	f.Model = model
	return f
}

func (f File) team(at []any, m Member, model string, o Options) (actors.Team, error) {
	if m.Model != "" {
		model = m.Model
	}
	t := actors.Team{Name: m.Name, Plan: plans[m.Plan.Kind].make(*m.Plan), Policy: m.Supervision.Policy()}
	for i, sub := range m.Members {
		here := below(below(at, "members"), i)
		var made actors.Member
		var err error
		if len(sub.Members) > 0 {
			made, err = f.team(here, sub, model, o)
		} else {
			made, err = f.agent(here, sub, model, o)
		}
		if err != nil {
			return t, err
		}
		t.Members = append(t.Members, made)
	}
	return t, nil
}

func (f File) agent(at []any, m Member, model string, o Options) (actors.Agent, error) {
	if m.Model != "" {
		model = m.Model
	}
	a := actors.Agent{
		Name: m.Name, Role: m.Role, Instructions: m.Instructions, Model: model, Options: m.Options,
		Fallback: m.Fallback, Kind: m.Kind, Priority: m.Priority, Calls: m.Call,
		Uses: m.Uses, Pool: m.Pool, External: m.External,
		MaxSteps: m.Steps, Timeout: time.Duration(m.Timeout), MaxPark: orNever(m.Park), Restart: m.Restart,
	}
	if m.External != "" {
		a.Model, model = "", "-"
	}
	if model == "" {
		return a, f.src.fault(below(at, "name"), "%smodel is missing: use one as ollama/llama3.2, here or for the whole team", in(at))
	}
	for i, name := range m.Tools {
		t, err := f.tool(below(below(at, "tools"), i), name, o.Tools)
		if err != nil {
			return a, err
		}
		a.Tools = append(a.Tools, t)
	}
	if err := a.Check(); err != nil {
		return a, f.src.fault(at, "%w", messages.AsError(err, messages.Invalid, ""))
	}
	return a, nil
}

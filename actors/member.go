package actors

import (
	"context"
	"encoding/json"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// Member is what a team is made of, and what a node runs: an [Agent] or a
// [Team]. A team is an agent to whoever asks it.
type Member interface {
	// MemberName returns the name that the member is asked by.
	MemberName() string
	// Check returns an error of class invalid that names the first field which
	// cannot work, its value and what is allowed.
	Check() error
}

// Agent is a member that answers with a model, and tools if it has any. It
// takes one ask at a time.
type Agent struct {
	// Name is what it is asked by: 1 to 64 letters, digits, '-' or '_'.
	Name string
	// Role tells the model who it is: "an expert in Renaissance history".
	Role string
	// Instructions are added to the role as they are; may be empty.
	Instructions string
	// Model is "<provider>/<model>", as "ollama/llama3.2" or "scripted".
	Model string
	// Fallback are the rungs below Model, tried in order when it cannot answer:
	// models, "canned", "parked" (a person), "rule:NAME"; up to 9. Empty: what is
	// set for the provider and the type of call.
	Fallback []string
	// Kind is the type of its calls, which names settings of its own. "": none.
	Kind string
	// Priority orders its calls among those that wait for the provider: a lower
	// number goes first. Zero is normal; it may be negative.
	Priority int
	// Calls are settings of its calls, above those of code, file and environment.
	// They must not be changed afterwards. nil: none.
	Calls *provider.Settings
	// Tools are what it may call.
	Tools []tool.Tool
	// Uses names further tools: those that the node on which it lives lends. It
	// lives on the node that works on its run if that has them all, else on one
	// that has.
	Uses []string
	// Pool names the pool of nodes on which it lives: on the node that works on
	// its run if that is of the pool, else on the least loaded one. "": any node.
	Pool string
	// External names a program that answers in place of a model: any NATS client
	// that takes asks at covey.members.<External>. Of the other fields it may have
	// a Name, a Timeout, a Validate and a Restart. "": none.
	External string
	// Options tune its model calls.
	Options provider.Options
	// MaxSteps is how many model calls one turn may take, tool calls between
	// them; then it fails with class budget. Zero: 8.
	MaxSteps int
	// Timeout bounds one turn. Zero: no bound but the run's deadline.
	Timeout time.Duration
	// MaxPark bounds how long a turn waits, in all, for a provider whose breaker
	// is open. Zero: 5 minutes. Negative: it does not wait.
	MaxPark time.Duration
	// Validate judges a final answer. Its error is put to the model, up to twice
	// a turn, and then fails the turn with class malformed. It must be a
	// function of the text alone, for it runs again when a turn is resumed. nil
	// accepts anything.
	Validate func(ctx context.Context, answer string) error
	// Restart is Permanent (zero), Transient or Temporary.
	Restart supervisor.Restart
}

// Team is a member that answers by having its members work to a plan.
type Team struct {
	// Name is what the team is asked by, and the run's team.
	Name string
	// Members are its agents and teams, with names of their own each.
	Members []Member
	// Plan says how they work; see package plan.
	Plan Plan
	// Policy supervises the members. The zero value restarts one for one with
	// backoff, five times a minute, and then fails the run.
	Policy supervisor.Policy
	// Definition is the team as data, kept in a run's first record so that any
	// node can resume it. Package teamfile fills it; nil for a team in code.
	Definition json.RawMessage
}

// Plan is how a team works: a plain function over a [Stage]. It must be
// deterministic in what the stage returns to it: clocks, dice and I/O go
// through the stage or a tool, because a resumed run walks the plan again.
type Plan interface {
	Run(ctx context.Context, s *Stage) (messages.Answer, error)
}

// PlanFunc makes a Plan of a function.
type PlanFunc func(ctx context.Context, s *Stage) (messages.Answer, error)

// Run calls f.
func (f PlanFunc) Run(ctx context.Context, s *Stage) (messages.Answer, error) { return f(ctx, s) }

// MemberName returns the agent's name.
func (a Agent) MemberName() string { return a.Name }

// MemberName returns the team's name.
func (t Team) MemberName() string { return t.Name }

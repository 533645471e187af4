package actors

import "github.com/covey-run/covey/supervisor"

// IdleAgent describes the actor of an agent that waits to be asked, for
// benchmarks.
func IdleAgent(in *Scope, a Agent) supervisor.Spec {
	s, err := memberSpec(in, a.Name, a, "tools")
	if err != nil {
		panic(err)
	}
	return s
}

// Scope is a run's.
type Scope = scope

// NewScope makes one that is good for agents which are not asked.
func NewScope(sys *supervisor.System) *Scope {
	return &scope{rt: &Runtime{sys: sys}, run: "r"}
}

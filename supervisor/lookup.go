package supervisor

import "github.com/asynkron/protoactor-go/actor"

// At returns the address of the actor at a path, whether there is one or not:
// asking nobody fails with class unavailable.
func (s *System) At(path string) Ref {
	return Ref{actor.NewPID(s.system.ProcessRegistry.Address, path), s}
}

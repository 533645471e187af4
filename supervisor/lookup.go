package supervisor

import (
	"strings"

	"github.com/asynkron/protoactor-go/actor"
)

// At returns the address of the actor at a path, whether there is one or not:
// asking nobody fails with class unavailable. A path that is not in this tree
// gives the zero Ref: protoactor has processes of its own, which take no message
// of ours.
func (s *System) At(path string) Ref {
	if path != s.top.Path() && !strings.HasPrefix(path, s.top.Path()+"/") {
		return Ref{}
	}
	return Ref{actor.NewPID(s.top.pid.Address, path), s}
}

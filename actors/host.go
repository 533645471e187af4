package actors

import (
	"context"
	"encoding/json"
	"runtime/debug"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// toolsName is the name of the supervisor of a team's tools.
const toolsName = "tools"

// host is what a run and a team have in common: members, and a plan that asks
// them.
type host struct {
	scope   *scope
	path    string // within the run, "" for the run itself
	members []Member
	plan    Plan
	asks    asks
	stops   []func()
	ctx     *supervisor.Context
}

// address is where replies to the host's asks go, and its journal writer.
func (h *host) address() string { return join(h.path, messages.PlanWriter) }

func (h *host) has(member string) bool {
	for _, m := range h.members {
		if m.MemberName() == member {
			return true
		}
	}
	return false
}

// open spawns the members, and their tools, and has their addresses served. It
// runs in the actor's turn.
func (h *host) open(c *supervisor.Context) error {
	h.ctx = c
	if err := h.serve(h.address(), c.Self()); err != nil {
		return err
	}
	tools := supervisor.Spec{
		Name: toolsName, Kind: "supervisor",
		Policy: supervisor.Policy{Spent: supervisor.DoQuarantine},
	}
	for _, m := range h.members {
		if a, ok := m.(Agent); ok {
			for _, t := range a.Tools {
				tools.Children = append(tools.Children, toolSpec(a.Name, t))
			}
		}
	}
	if len(tools.Children) > 0 {
		if _, err := c.Spawn(tools); err != nil {
			return err
		}
	}
	for _, m := range h.members {
		spec := h.spec(m, c.Path()+"/"+toolsName)
		ref, err := c.Spawn(spec)
		if err != nil {
			return err
		}
		if err := h.serve(join(h.path, spec.Name), ref); err != nil {
			return err
		}
	}
	return nil
}

// spec describes the actor of a member.
func (h *host) spec(m Member, tools string) supervisor.Spec {
	path := join(h.path, m.MemberName())
	switch m := m.(type) {
	case Team:
		return supervisor.Spec{Name: m.Name, Kind: "team", Policy: m.Policy, New: func() (supervisor.Actor, error) {
			return newTeamActor(h.scope, path, m), nil
		}}
	case Agent:
		return supervisor.Spec{Name: m.Name, Kind: "agent", Restart: m.Restart, New: func() (supervisor.Actor, error) {
			return newAgentActor(h.scope, path, m, h.address(), tools), nil
		}}
	default:
		return supervisor.Spec{Name: m.MemberName(), New: func() (supervisor.Actor, error) {
			return nil, messages.Errorf(messages.Invalid, path, "a member of type %T cannot be run: use actors.Agent or actors.Team", m)
		}}
	}
}

// serve has messages to an address delivered to an actor, whichever incarnation
// of it lives.
func (h *host) serve(address string, to supervisor.Ref) error {
	stop, err := h.scope.rt.bus.Serve(h.scope.run, address, func(e messages.Envelope) { to.Tell(e) })
	if err == nil {
		h.stops = append(h.stops, stop)
	}
	return err
}

func (h *host) close() {
	for _, stop := range h.stops {
		stop()
	}
	h.stops = nil
}

// changed reacts to what became of a member: what it was asked is asked again,
// or answered with its failure.
func (h *host) changed(change supervisor.ChildChange) {
	member := join(h.path, change.Name)
	switch change.Kind {
	case messages.ActorRestarted, messages.ActorResumed:
		if ref, ok := h.ctx.Child(change.Name); ok && change.Kind == messages.ActorResumed {
			ref.Tell(turnLost{})
		}
		h.scope.restarts.Add(1)
		failure := change.Failure
		if failure == nil {
			failure = messages.Errorf(messages.Crashed, member, "restarted")
		}
		again := h.asks.crashed(member, failure)
		if len(again) > 0 {
			h.ctx.Go("ask again", func(ctx context.Context) any {
				for _, a := range again {
					if err := h.scope.send(ctx, member, &a); err != nil {
						h.asks.fail(member, messages.AsError(err, messages.Unavailable, member))
					}
				}
				return nil
			})
		}
	case messages.ActorQuarantined, messages.ActorStopped:
		failure := change.Failure
		if failure == nil {
			failure = messages.Errorf(messages.Unavailable, member, "the member has stopped")
		}
		h.asks.fail(member, failure)
	}
}

// perform walks the plan once. Its panic is its error: walked again, it would
// only panic again.
func (h *host) perform(ctx context.Context, prompt string, said []messages.Said, format json.RawMessage, prefix string) (ans messages.Answer, err error) {
	defer recovered(&err, h.scope.run, "the plan")
	ans, err = h.plan.Run(ctx, &Stage{host: h, prompt: prompt, said: said, format: format, prefix: prefix})
	if err == nil {
		err = h.scope.log.passed(h.address(), prefix)
	}
	if err == nil && ctx.Err() != nil {
		err = ended(ctx, h.scope.run)
	}
	return ans, err
}

// recovered turns a panic of code that is not ours into its error.
func recovered(err *error, source, what string) {
	if r := recover(); r != nil {
		e := messages.Errorf(messages.Crashed, source, "%s panicked: %v", what, r)
		e.Stack = string(debug.Stack())
		*err = e
	}
}

// ended says why a context has ended: its cause if that is classed.
func ended(ctx context.Context, source string) error {
	cause := context.Cause(ctx)
	switch messages.ClassOf(cause) {
	case messages.Timeout:
		return messages.Errorf(messages.Timeout, source, "the deadline has passed: %w", cause)
	case messages.Canceled:
		if cause == context.Canceled { // its actor is going down
			return messages.Errorf(messages.Stopping, source, "stopped before it was done: the run can be resumed")
		}
	case "":
		return messages.Errorf(messages.Canceled, source, "%w", cause)
	}
	return cause
}

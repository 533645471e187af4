package actors

import (
	"context"
	"encoding/json"
	"sync"

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
	// proxies are those of the members that live on other nodes, by path. Fixed
	// after open.
	proxies map[string]supervisor.Ref
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
	if err := h.serve(h.address(), c.Self()); err != nil {
		return err
	}
	tools := supervisor.Spec{
		Name: toolsName, Kind: "supervisor",
		Policy: supervisor.Policy{Spent: supervisor.DoQuarantine},
	}
	for _, m := range h.members {
		if a, ok := value(m).(Agent); ok && !h.scope.rt.away(a) {
			for _, t := range h.scope.rt.toolsOf(a) {
				tools.Children = append(tools.Children, toolSpec(a.Name, t))
			}
		}
	}
	if len(tools.Children) > 0 {
		if _, err := c.Spawn(tools); err != nil {
			return err
		}
	}
	h.proxies = map[string]supervisor.Ref{}
	for _, m := range h.members {
		path := join(h.path, m.MemberName())
		if a, ok := value(m).(Agent); ok && h.scope.rt.away(a) {
			ref, err := c.Spawn(h.proxySpec(path, a))
			if err != nil {
				return err
			}
			h.proxies[path] = ref
			continue // its home serves its address
		}
		spec, err := memberSpec(h.scope, path, m, c.Path()+"/"+toolsName)
		if err != nil {
			return err
		}
		ref, err := c.Spawn(spec)
		if err != nil {
			return err
		}
		if err := h.serve(path, ref); err != nil {
			return err
		}
	}
	return nil
}

// put asks a member, by its proxy if it lives on another node.
func (h *host) put(ctx context.Context, a messages.Ask) (reply, error) {
	send := func() error { return h.scope.send(ctx, a.To, &a) }
	if proxy, ok := h.proxies[a.To]; ok {
		send = func() error {
			proxy.Tell(messages.Envelope{Run: h.scope.run, Body: &a})
			return nil
		}
	}
	return h.asks.put(ctx, h.scope.run, a, send)
}

// writerFor is the writer under which the host records an answer in place of a
// member: the writer of one that lives on another node is its home's.
func (h *host) writerFor(member string) string {
	if _, away := h.proxies[member]; away {
		return h.address()
	}
	return member
}

// answered is the recorded answer to an ask, nil for none. What the plan has
// recorded in the member's place counts, for the plan went on from that.
func (h *host) answered(a messages.Ask) *messages.Answered {
	if rec := find[messages.Answered](h.scope.log, h.address(), a.Step, nil); rec != nil {
		return rec
	}
	return find[messages.Answered](h.scope.log, a.To, a.Step, nil)
}

// gone hands what a member's home says to the member's proxy.
func (h *host) gone(g *messages.Gone) {
	if proxy, ok := h.proxies[g.Member]; ok {
		proxy.Tell(g)
	}
}

// memberSpec describes the actor of a member; tools is the path of the
// supervisor of its tools.
func memberSpec(s *scope, path string, m Member, tools string) (supervisor.Spec, error) {
	switch m := value(m).(type) {
	case Team:
		return supervisor.Spec{Name: m.Name, Kind: "team", Policy: m.Policy, New: func() (supervisor.Actor, error) {
			return newTeamActor(s, path, m), nil
		}}, nil
	case Agent:
		return supervisor.Spec{Name: m.Name, Kind: "agent", Restart: m.Restart, New: func() (supervisor.Actor, error) {
			equipped := m
			equipped.Tools = s.rt.toolsOf(m)
			return &agentActor{scope: s, path: path, agent: &equipped, calls: m.Settings(), tools: tools}, nil
		}}, nil
	}
	return supervisor.Spec{}, noMember(m)
}

// serve has messages to an address delivered to an actor, whichever incarnation
// of it lives.
func (h *host) serve(address string, to supervisor.Ref) error {
	stop, err := h.scope.serve(address, to)
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
func (h *host) changed(c *supervisor.Context, change supervisor.ChildChange) {
	if change.Name == toolsName {
		return // whoever called one has had its error
	}
	member := join(h.path, change.Name)
	switch change.Kind {
	case messages.ActorFailed:
		step, _ := h.scope.working.LoadAndDelete(member)
		if key, ok := step.(string); ok {
			h.asks.crashed(member, key, change.Failure)
		}
	case messages.ActorResumed:
		if ref, ok := c.Child(change.Name); ok {
			ref.Tell(turnLost{})
		}
		h.sendAgain(c, change.Name)
	case messages.ActorRestarted:
		h.scope.restarts.Add(1)
		h.sendAgain(c, change.Name)
	case messages.ActorQuarantined, messages.ActorStopped:
		failure := change.Failure
		if failure == nil {
			failure = messages.Errorf(messages.Unavailable, member, "the member has stopped")
		}
		h.asks.fail(member, failure)
	}
}

// sendAgain gives a member's new incarnation what it was asked. It is a child of
// this actor, so its mailbox is at hand; the bus has carried the ask before.
func (h *host) sendAgain(c *supervisor.Context, name string) {
	if ref, ok := c.Child(name); ok {
		for _, a := range h.asks.again(join(h.path, name)) {
			ref.Tell(messages.Envelope{Run: h.scope.run, Time: c.Now(), Body: &a})
		}
	}
}

// perform walks the plan once. Its panic is its error: walked again, it would
// only panic again. cut says that the walk was interrupted, and that its error
// is not the plan's outcome.
func (h *host) perform(ctx context.Context, prompt string, said []messages.Said, format json.RawMessage, prefix string) (ans messages.Answer, cut bool, err error) {
	w := &walk{ctx: ctx}
	func() {
		defer recovered(&err, h.scope.run, "the plan")
		ans, err = h.plan.Run(ctx, &Stage{host: h, walk: w, prompt: prompt, said: said, format: format, prefix: prefix})
	}()
	switch cause := w.interrupted(); {
	case cause != nil: // also where the plan has swallowed it
		err = cause
	case ctx.Err() != nil:
		err = ended(ctx, h.scope.run)
	case err == nil:
		err = h.scope.log.passed(h.address(), prefix)
	default:
		return messages.Answer{}, false, err
	}
	if err != nil {
		return messages.Answer{}, interrupted(err), err
	}
	return ans, false, nil
}

// walk is one walk of a plan over its journal.
type walk struct {
	ctx context.Context

	mu  sync.Mutex
	cut error // the first interruption
}

// note remembers an interruption, whatever the plan makes of it.
func (w *walk) note(err error) error {
	if interrupted(err) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.cut == nil {
			w.cut = err
		}
	}
	return err
}

func (w *walk) interrupted() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut
}

// ended says why a context of the plan has ended: the walk's own, or one that
// the plan has made of it.
func (w *walk) ended(ctx context.Context, source string) error {
	if w.ctx.Err() != nil {
		return ended(w.ctx, source)
	}
	return messages.AsError(context.Cause(ctx), messages.Canceled, source)
}

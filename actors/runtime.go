package actors

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// RuntimeConfig is what a runtime works with.
type RuntimeConfig struct {
	// Models finds the model clients. Required.
	Models *provider.Registry
	// Providers tunes the actors of the providers, by provider name: what code
	// says, the lowest of the four levels of Settings, and what settings cannot
	// say.
	Providers map[string]provider.StackConfig
	// Settings resolves what holds for a call. nil: what Providers say.
	Settings *provider.Resolver
	// Gate shares the openings of breakers with other nodes, which come in by
	// [Runtime.Heard]. nil: this node is alone.
	Gate provider.Gate
	// Parker is the parking place for the rung "parked". nil: there is none.
	Parker provider.Parker
	// Routers are the models "router/NAME", by name; Learned keeps what those
	// learn that do, nil: they forget it with the process.
	Routers map[string]route.Settings
	Learned route.Store
	// Rules are the rungs "rule:NAME", by name.
	Rules map[string]provider.Rule
	// Node names the node in claims. Required.
	Node string
	// Nodes are the nodes of the cluster. nil: this node is alone.
	Nodes Nodes
	// Pools are the pools of this node, Tools what it lends to members that use
	// them, by name.
	Pools []string
	Tools map[string]tool.Tool
	// MaxGuests is how many members of other nodes' runs may live here.
	MaxGuests int
}

// Runtime runs runs in a supervision tree.
type Runtime struct {
	sys     *supervisor.System
	journal Journal
	bus     Bus
	cfg     RuntimeConfig

	providers supervisor.Ref
	runs      supervisor.Ref
	drain     sync.Once
	drained   chan struct{} // closed once no new step may begin

	guests       guests
	placed       placements
	incarnations atomic.Int64   // placements that were asked for
	leaving      sync.WaitGroup // last words to homes

	gates   gates
	ways    *lru.Cache[callKey, *way]
	routers map[string]route.Router

	// The locks are taken in this order. An actor's turn takes mu alone, and
	// nothing waits while it is held.
	starting sync.Mutex // one Start at a time
	making   sync.Mutex // guards states
	states   map[string]*providerState
	mu       sync.Mutex // guards live
	live     map[string]*Run
}

// spawnWait bounds the wait for a supervisor to spawn an actor.
const spawnWait = 10 * time.Second

// NewRuntime puts the runtime's own supervisors into the tree.
func NewRuntime(ctx context.Context, sys *supervisor.System, j Journal, b Bus, cfg RuntimeConfig) (*Runtime, error) {
	rt := &Runtime{
		sys: sys, journal: j, bus: b, cfg: cfg, drained: make(chan struct{}),
		states: map[string]*providerState{}, live: map[string]*Run{},
	}
	err := rt.settle(ctx)
	if err != nil {
		return nil, err
	}
	quarantine := supervisor.Policy{Spent: supervisor.DoQuarantine}
	if rt.providers, err = sys.Spawn(ctx, supervisor.Ref{}, supervisor.Spec{Name: "providers", Kind: "supervisor", Policy: quarantine}); err != nil {
		return nil, err
	}
	rt.runs, err = sys.Spawn(ctx, supervisor.Ref{}, supervisor.Spec{
		Name: "runs", Kind: "supervisor", Policy: quarantine,
		New: func() (supervisor.Actor, error) { return &runsActor{rt}, nil },
	})
	if err == nil && cfg.Nodes != nil {
		rt.guests.ref, err = sys.Spawn(ctx, supervisor.Ref{}, supervisor.Spec{
			Name: "guests", Kind: "supervisor", Policy: quarantine,
			New: func() (supervisor.Actor, error) { return &guestsActor{rt}, nil },
		})
	}
	return rt, err
}

// runsActor supervises the runs. A run whose actor fails is left resumable.
type runsActor struct{ rt *Runtime }

func (*runsActor) Receive(*supervisor.Context, any) error { return nil }

func (a *runsActor) ChildChanged(_ *supervisor.Context, change supervisor.ChildChange) {
	a.rt.mu.Lock()
	defer a.rt.mu.Unlock()
	run := a.rt.live[change.Name]
	switch {
	case run == nil:
	case change.Kind == messages.ActorFailed:
		run.finish(false, messages.Answer{}, change.Failure)
	case change.Kind == messages.ActorStopped && run.over():
		delete(a.rt.live, change.Name)
	}
}

func (*runsActor) Report() messages.Status { return messages.Status{State: messages.Running} }

// Start takes a run over, or begins it, and returns at once. A run that is on
// this node already is returned as it is; with another task under its id it is an
// error of class invalid. The member must be the one that the task's team names.
// ack is the subject that answers the task's delivery, "" for none.
func (rt *Runtime) Start(ctx context.Context, task messages.Task, m Member, ack string) (*Run, error) {
	if m = value(m); m == nil {
		return nil, noMember(nil)
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	if err := messages.CheckName("task: id", task.ID); err != nil {
		return nil, err
	}
	if len(task.Format) > 0 {
		if err := provider.CheckFormat(task.Format); err != nil {
			return nil, err
		}
	}
	rt.starting.Lock()
	defer rt.starting.Unlock()
	if err := rt.proceed(); err != nil {
		return nil, messages.Errorf(messages.Stopping, rt.cfg.Node, "the node is stopping and takes no run")
	}
	rt.mu.Lock()
	old := rt.live[task.ID]
	rt.mu.Unlock()
	// Not under the caller's context: see spawnProvider.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spawnWait)
	defer cancel()
	if old != nil {
		if !old.over() {
			return old, old.is(task)
		}
		// Its actors are on their way down, and have its name until then.
		if err := rt.sys.StopActor(ctx, old.ref); err != nil && messages.ClassOf(err) != messages.Unavailable {
			return nil, err
		}
	}
	claim := rt.claim(ack)
	lease := rt.tenure(claim)
	if !lease.holds() {
		return nil, messages.Errorf(messages.Stopping, rt.cfg.Node, "the node has no lease now")
	}
	run := &Run{ID: task.ID, task: task, done: make(chan struct{}), ref: rt.sys.At(rt.runs.Path() + "/" + task.ID)}
	rt.mu.Lock()
	rt.live[task.ID] = run
	rt.mu.Unlock()
	if _, err := rt.sys.Spawn(ctx, rt.runs, rt.runSpec(run, task, m, claim)); err != nil {
		run.finish(false, messages.Answer{}, err)
		run.ref.Tell(&abort{err}) // it may be there, or be about to
		rt.mu.Lock()
		delete(rt.live, task.ID)
		rt.mu.Unlock()
		return nil, err
	}
	if !lease.holds() { // Fence may have come before there was anybody to hear it
		run.ref.Tell(&abort{lease.ended(task.ID)})
	}
	return run, nil
}

// claim is what this node claims writers with, by its present lease.
func (rt *Runtime) claim(ack string) messages.Claim {
	c := messages.Claim{Node: rt.cfg.Node, Ack: ack}
	if rt.cfg.Nodes != nil {
		c.Epoch = rt.cfg.Nodes.Self().Epoch
	}
	return c
}

// Fence stops everything that runs here in the name of a lease that is over, at
// once and as it is: others may own it from now on. What is started afterwards
// is not concerned. Whoever waits for a run gets the error, of class fenced.
func (rt *Runtime) Fence(err *messages.Error) {
	for _, r := range rt.running() {
		r.ref.Tell(&abort{err})
	}
	for _, g := range rt.guests.present() {
		g.ref.Tell(leave{})
	}
}

// running are the runs that have not come to an end.
func (rt *Runtime) running() (runs []*Run) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(rt.live)) {
		if r := rt.live[id]; !r.over() {
			runs = append(runs, r)
		}
	}
	return runs
}

// Resident is how many runs are on this node.
func (rt *Runtime) Resident() (n int) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, r := range rt.live {
		if !r.over() {
			n++
		}
	}
	return n
}

// Runs are the ids of the runs on this node, sorted.
func (rt *Runtime) Runs() (ids []string) {
	for _, r := range rt.running() {
		ids = append(ids, r.ID)
	}
	return ids
}

// Drain begins no new step, and waits for the steps under way; what only waits
// (for a provider, a timer, a person) ends at once. When ctx ends first they are
// cut off, and the error, of class timeout, names their runs and what each was
// doing. Either way every run is left resumable, and the members of other nodes'
// runs that live here are told to move.
func (rt *Runtime) Drain(ctx context.Context) error {
	rt.drain.Do(func() { close(rt.drained) })
	rt.starting.Lock() // whoever was let in is in live after this
	runs := rt.running()
	rt.starting.Unlock()
	guests := rt.guests.present()
	for _, g := range guests {
		g.close()
	}
	var late []string
	for _, r := range runs {
		select {
		case <-r.done:
			continue
		default:
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			late = append(late, r.ID+rt.doing(r.ref))
			r.ref.Tell(&abort{messages.Errorf(messages.Stopping, r.ID, "the node has stopped: the run can be resumed")})
		}
	}
	for _, g := range guests {
		select {
		case <-g.done:
			continue
		default:
		}
		select {
		case <-g.done:
		case <-ctx.Done():
			late = append(late, g.name+rt.doing(g.ref))
			g.ref.Tell(&abort{messages.Errorf(messages.Stopping, g.name, "the node has stopped: the member can go on elsewhere")})
		}
	}
	if len(late) > 0 {
		return messages.Errorf(messages.Timeout, rt.cfg.Node, "cut off, to be resumed: %s", strings.Join(late, ", "))
	}
	return nil
}

// doing says what the agents below an actor are at.
func (rt *Runtime) doing(r supervisor.Ref) string {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	var at []string
	var look func(n messages.TreeNode, path string)
	look = func(n messages.TreeNode, path string) {
		if n.Kind == "agent" && n.Step != "" {
			at = append(at, path+": "+n.Step)
		}
		for _, c := range n.Children {
			look(c, join(path, c.Name))
		}
	}
	look(rt.sys.TreeOf(ctx, r, supervisor.TreeOptions{Wait: 100 * time.Millisecond}), "")
	if len(at) == 0 {
		return ""
	}
	return " (" + strings.Join(at, "; ") + ")"
}

// proceed returns an interruption once no new step may begin.
func (rt *Runtime) proceed() error {
	select {
	case <-rt.drained:
		return rt.stopping()
	default:
		return nil
	}
}

func (rt *Runtime) stopping() error {
	return interruption{messages.Errorf(messages.Stopping, rt.cfg.Node, "the node is stopping: the run can be resumed")}
}

func stepsText(n int) string {
	if n == 1 {
		return "1 step done"
	}
	return fmt.Sprintf("%d steps done", n)
}

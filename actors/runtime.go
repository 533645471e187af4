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
}

// Runtime runs runs in a supervision tree.
type Runtime struct {
	sys     *supervisor.System
	journal Journal
	bus     Bus
	cfg     RuntimeConfig

	providers supervisor.Ref
	runs      supervisor.Ref
	draining  atomic.Bool

	gates   gates
	ways    *lru.Cache[callKey, *way]
	routers map[string]route.Router

	mu     sync.Mutex
	states map[string]*providerState
	live   map[string]*Run
}

// NewRuntime puts the runtime's own supervisors into the tree.
func NewRuntime(ctx context.Context, sys *supervisor.System, j Journal, b Bus, cfg RuntimeConfig) (*Runtime, error) {
	rt := &Runtime{sys: sys, journal: j, bus: b, cfg: cfg, states: map[string]*providerState{}, live: map[string]*Run{}}
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
	return rt, err
}

// runsActor supervises the runs. A run whose actor fails is left resumable.
type runsActor struct{ rt *Runtime }

func (*runsActor) Receive(*supervisor.Context, any) error { return nil }

func (a *runsActor) ChildChanged(_ *supervisor.Context, change supervisor.ChildChange) {
	if change.Kind != messages.ActorFailed {
		return
	}
	a.rt.mu.Lock()
	run := a.rt.live[change.Name]
	a.rt.mu.Unlock()
	if run != nil {
		run.finish(false, messages.Answer{}, change.Failure)
	}
}

func (*runsActor) Report() messages.Status { return messages.Status{State: messages.Running} }

// Start takes a run over, or begins it, and returns at once. A run that is on
// this node already is returned as it is. The member must be the one that the
// task's team names. ack is the subject that answers the task's delivery, ""
// for none.
func (rt *Runtime) Start(ctx context.Context, task messages.Task, m Member, ack string) (*Run, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	if err := messages.CheckName("task: id", task.ID); err != nil {
		return nil, err
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if r, ok := rt.live[task.ID]; ok {
		return r, nil
	}
	if rt.draining.Load() {
		return nil, messages.Errorf(messages.Stopping, rt.cfg.Node, "the node is stopping and takes no run")
	}
	run := &Run{ID: task.ID, done: make(chan struct{})}
	ref, err := rt.sys.Spawn(ctx, rt.runs, rt.runSpec(run, task, m, messages.Claim{Node: rt.cfg.Node, Ack: ack}))
	if err != nil {
		return nil, err
	}
	run.ref = ref
	rt.live[task.ID] = run
	go func() {
		<-run.done
		rt.mu.Lock()
		delete(rt.live, task.ID)
		rt.mu.Unlock()
	}()
	return run, nil
}

// Runs are the ids of the runs on this node, sorted.
func (rt *Runtime) Runs() []string {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return slices.Sorted(maps.Keys(rt.live))
}

// Drain begins no new step, and waits for the steps under way. When ctx ends
// first they are cut off, and the error, of class timeout, names their runs.
// Either way every run is left resumable.
func (rt *Runtime) Drain(ctx context.Context) error {
	rt.draining.Store(true)
	rt.mu.Lock()
	runs := slices.Collect(maps.Values(rt.live))
	rt.mu.Unlock()
	var late []string
	for _, r := range runs {
		select {
		case <-r.done:
		case <-ctx.Done():
			r.ref.Tell(&abort{messages.Errorf(messages.Stopping, r.ID, "the node has stopped: the run can be resumed")})
			late = append(late, r.ID)
		}
	}
	if len(late) > 0 {
		slices.Sort(late)
		return messages.Errorf(messages.Timeout, rt.cfg.Node, "cut off, to be resumed: %s", strings.Join(late, ", "))
	}
	return nil
}

// sleep waits for d by the system's clock.
func (rt *Runtime) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := rt.sys.Clock().NewTimer(d)
	defer t.Stop()
	select {
	case <-t.Chan():
		return nil
	case <-ctx.Done():
		return ended(ctx, "")
	}
}

func stepsText(n int) string {
	if n == 1 {
		return "1 step done"
	}
	return fmt.Sprintf("%d steps done", n)
}

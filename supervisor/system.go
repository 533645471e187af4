package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// Config describes a [System]. The zero value works.
type Config struct {
	// Name is the root's name in the tree. Zero: "covey".
	Name string
	// Policy supervises the root's children. Where it would escalate, the root
	// quarantines: there is nobody above it.
	Policy Policy
	// Clock is the time that backoffs and events go by. nil: the real one.
	Clock clockwork.Clock
	// Random gives the jitter, in [0, 1). nil: math/rand.
	Random func() float64
}

// System is one process's supervision tree. Make one per process, not one per
// team: it costs 9 ms and 3 MB.
type System struct {
	system      *actor.ActorSystem
	root        *actor.RootContext
	dispatch    *dispatcher
	waiters     waiters
	clock       clockwork.Clock
	random      func() float64
	events      Events
	works       works
	deadLetters atomic.Int64

	top     Ref
	stop    sync.Once
	stopped chan struct{} // the root has stopped
	done    chan struct{} // nothing runs any more
}

// NewSystem starts a system with an empty tree.
func NewSystem(cfg Config) (*System, error) {
	if cfg.Name == "" {
		cfg.Name = "covey"
	}
	if cfg.Clock == nil {
		cfg.Clock = clockwork.NewRealClock()
	}
	spec := Spec{Name: cfg.Name, Kind: "node", Policy: cfg.Policy}
	if err := spec.Check(); err != nil {
		return nil, err
	}
	quiet := func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }
	s := &System{
		// What protoactor would log is an event of ours.
		system: actor.NewActorSystem(actor.WithLoggerFactory(quiet),
			actor.WithDeadLetterRequestLogging(false), actor.WithDeadLetterThrottleInterval(10*time.Millisecond)),
		dispatch: newDispatcher(),
		clock:    cfg.Clock,
		random:   cfg.Random,
		stopped:  make(chan struct{}),
		done:     make(chan struct{}),
	}
	s.root = s.system.Root
	s.waiters.sys = s
	s.system.EventStream.Subscribe(func(ev any) {
		if dead, ok := ev.(*actor.DeadLetterEvent); ok && dead.Sender == nil {
			s.lost(dead.PID.GetId(), dead.Message)
		}
	})
	c := &cell{sys: s, spec: spec}
	pid, err := s.root.WithGuardian(&lastResort{s}).SpawnNamed(c.props(), cfg.Name)
	if err != nil {
		return nil, messages.AsError(err, messages.Invalid, cfg.Name)
	}
	c.pid.Store(pid)
	s.top = Ref{pid, s}
	return s, nil
}

// lastResort is the guardian above the root. The root runs no users' code and
// never escalates; should it fail all the same, it goes on with the children
// that it has, and the process with it.
type lastResort struct{ sys *System }

func (g *lastResort) HandleFailure(_ *actor.ActorSystem, sup actor.Supervisor, root *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	f, ok := reason.(*failure)
	if !ok {
		f = &failure{err: crashed(reason, root.Id, "")}
	}
	g.sys.emit(messages.Event{Kind: messages.ActorFailed, Path: root.Id, Name: "node", Class: f.err.Class, Error: f.err})
	sup.ResumeChildren(root)
}

// Root is the top of the tree.
func (s *System) Root() Ref { return s.top }

// Events is where everything that happens can be listened to.
func (s *System) Events() *Events { return &s.events }

// Clock is the time that the system goes by.
func (s *System) Clock() clockwork.Clock { return s.clock }

// DeadLetters counts the messages that found nobody, and whose senders did not
// ask for an answer that would have said so.
func (s *System) DeadLetters() int64 { return s.deadLetters.Load() }

// Spawn starts a child under parent, the zero Ref meaning the root. It returns
// once the child has a name and a mailbox; its start may still fail, which is
// then its supervisor's affair. A name that is taken or a bad spec is an error
// of class invalid, a parent that stops one of class stopping, and one that is
// no more unavailable. spec must not be changed afterwards.
func (s *System) Spawn(ctx context.Context, parent Ref, spec Spec) (Ref, error) {
	if parent.IsZero() {
		parent = s.top
	}
	if err := spec.Check(); err != nil {
		return Ref{}, err
	}
	return Ask[Ref](ctx, parent, &spawn{spec})
}

// StopActor stops one actor for good, whatever state it is in, and returns once
// it and its children have stopped: its name is free then. A supervisor that
// starts again starts the children of its [Spec] again, this one included.
func (s *System) StopActor(ctx context.Context, r Ref) error {
	if r.IsZero() {
		return messages.Errorf(messages.Unavailable, "", "stop: the address is empty")
	}
	parent, name := r.parent()
	if parent.IsZero() {
		return messages.Errorf(messages.Invalid, r.Path(), "stop: the root stops with System.Stop")
	}
	_, err := Ask[bool](ctx, parent, &urgent{&stopOne{name}})
	return err
}

// Stop stops the whole tree, children before parents, and waits for every actor
// and for the work that they had under way. When ctx ends first, the error, of
// class timeout, names what would not stop; the stop goes on, and Stop may be
// called again to wait for it. The system cannot be used after.
func (s *System) Stop(ctx context.Context) error {
	s.stop.Do(func() {
		s.root.Stop(s.top.pid)
		go s.finish()
	})
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-s.done:
		return nil
	default:
	}
	var stuck []string
	select {
	case <-s.stopped:
	default:
		look, cancel := context.WithTimeout(context.WithoutCancel(ctx), 200*time.Millisecond)
		defer cancel()
		stuck = stuckIn(s.Tree(look, TreeOptions{}), "")
	}
	stuck = append(stuck, s.works.left()...)
	if len(stuck) == 0 {
		stuck = []string{s.top.Path()}
	}
	slices.Sort(stuck)
	return messages.Errorf(messages.Timeout, s.top.Path(), "did not stop: %s: %w", strings.Join(slices.Compact(stuck), ", "), context.Cause(ctx))
}

// finish ends what runs beside the actors, once they have stopped.
func (s *System) finish() {
	<-s.stopped
	s.works.wait()
	s.dispatch.close()
	s.system.Shutdown()
	close(s.done)
}

// works are the goroutines that actors have started.
type works struct {
	mu   sync.Mutex
	all  map[*work]struct{}
	none chan struct{} // closed when all is empty; nil while nobody waits
}

type work struct{ path, name string }

func (w *works) add(x *work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[*work]struct{}{}
	}
	w.all[x] = struct{}{}
}

func (w *works) remove(x *work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, x)
	if len(w.all) == 0 && w.none != nil {
		close(w.none)
		w.none = nil
	}
}

// wait returns once no work is left.
func (w *works) wait() {
	w.mu.Lock()
	if len(w.all) == 0 {
		w.mu.Unlock()
		return
	}
	w.none = make(chan struct{})
	none := w.none
	w.mu.Unlock()
	<-none
}

// left names the work that has not ended.
func (w *works) left() (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for x := range w.all {
		names = append(names, fmt.Sprintf("%s (%s)", x.path, x.name))
	}
	return names
}

package supervisor

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/messages"
)

// children are what one incarnation supervises. Its actor's goroutine owns it.
type children struct {
	policy Policy
	byName map[string]*child
	spawns uint64
}

type child struct {
	cell    *cell
	order   uint64
	state   messages.State
	wanted  bool // its stop was asked for
	history *history
}

// history is what a supervisor remembers of a child that has failed. It is kept
// when the child is spawned anew.
type history struct {
	window  []time.Time // restarts, oldest first
	total   int
	failure *messages.Error
	at      time.Time
	until   time.Time // of a backoff
	timer   clockwork.Timer
}

// restartDue ends a backoff. Children that are no longer the same, or no longer
// wait, are passed over.
type restartDue struct{ group []*child }

// escalation is a child's failure that its supervisor passes on as its own.
type escalation struct{ err *messages.Error }

func (k *children) get(pid *actor.PID) *child {
	return k.byName[pid.Id[strings.LastIndexByte(pid.Id, '/')+1:]]
}

func (k *children) cells() []*cell {
	cs := make([]*cell, 0, len(k.byName))
	for _, ch := range k.byName {
		cs = append(cs, ch.cell)
	}
	return cs
}

// ordered returns the children in the order in which they were spawned.
func (k *children) ordered() []*child {
	cs := make([]*child, 0, len(k.byName))
	for _, ch := range k.byName {
		cs = append(cs, ch)
	}
	slices.SortFunc(cs, func(a, b *child) int { return cmp.Compare(a.order, b.order) })
	return cs
}

// cancel stops the backoffs.
func (k *children) cancel() {
	for _, ch := range k.byName {
		if ch.history != nil && ch.history.timer != nil {
			ch.history.timer.Stop()
		}
	}
}

func (s *shell) spawn(spec Spec, h *history) (Ref, error) {
	if err := spec.Check(); err != nil {
		return Ref{}, err
	}
	if s.kids == nil {
		s.kids = &children{policy: s.cell.spec.Policy.withDefaults(), byName: map[string]*child{}}
	}
	if _, ok := s.kids.byName[spec.Name]; ok {
		return Ref{}, messages.Errorf(messages.Invalid, s.cell.path(), "spawn: the name %q is taken", spec.Name)
	}
	s.kids.spawns++
	ch := &child{cell: &cell{sys: s.cell.sys, parent: s.cell, spec: spec}, order: s.kids.spawns, state: messages.Running, history: h}
	pid, err := s.ctx.ac.SpawnNamed(ch.cell.props(), spec.Name)
	if err != nil {
		return Ref{}, messages.Errorf(messages.Invalid, s.cell.path(), "spawn %q: %w", spec.Name, err)
	}
	ch.cell.pid.CompareAndSwap(nil, pid)
	s.kids.byName[spec.Name] = ch
	return ch.cell.ref(), nil
}

// HandleFailure is part of actor.SupervisorStrategy: protoactor calls it on the
// supervisor's own goroutine, with the child's mailbox held.
func (s *shell) HandleFailure(_ *actor.ActorSystem, sup actor.Supervisor, pid *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	ch := s.child(pid)
	if ch == nil || s.over {
		sup.StopChildren(pid)
		return
	}
	err, escalated := asFailure(reason, pid.Id)
	h := ch.fail(err, s.cell.sys.clock.Now())
	s.changed(ch, messages.Event{Kind: messages.ActorFailed}, err)
	if ch.state != messages.Running {
		return // its restart, or its end, is under way
	}
	d := s.kids.policy.decide(err.Class, ch.cell.spec.Restart)
	if d == DoResume && escalated {
		d = DoRestart // its failed child is held: resuming would leave it so
	}
	if d == DoRestart && !h.allow(s.kids.policy) {
		d = s.kids.policy.Spent
		err = spent(s.kids.policy, err)
	}
	if d == DoEscalate && s.cell.parent == nil {
		d = DoQuarantine
	}
	switch d {
	case DoResume:
		sup.ResumeChildren(pid)
		s.changed(ch, messages.Event{Kind: messages.ActorResumed}, err)
	case DoStop:
		s.stopChild(ch.cell.spec.Name)
	case DoQuarantine:
		ch.state = messages.Quarantined
		ch.cell.quarantine.Store(err)
		sup.RestartChildren(pid)
		s.changed(ch, messages.Event{Kind: messages.ActorQuarantined}, err)
	case DoEscalate:
		s.changed(ch, messages.Event{Kind: messages.ActorEscalated}, err)
		s.escalate(&escalation{err}, nil)
	case DoRestart:
		s.backOff(ch)
	}
}

func (s *shell) child(pid *actor.PID) *child {
	if s.kids == nil {
		return nil
	}
	return s.kids.get(pid)
}

// asFailure reads what protoactor hands over as the reason of a failure.
func asFailure(reason any, path string) (err *messages.Error, escalated bool) {
	switch r := reason.(type) {
	case *messages.Error:
		return r, false
	case *escalation:
		return r.err, true
	}
	return crashed(reason, path, nil), false
}

// spent is the failure of a child that may not be restarted again.
func spent(p Policy, err *messages.Error) *messages.Error {
	e := messages.Errorf(err.Class, err.Source, "gave up after %d restarts in %s: %w", p.Intensity, p.Within, err)
	e.Stack, e.Others = err.Stack, []*messages.Error{err}
	return e
}

func (ch *child) fail(err *messages.Error, now time.Time) *history {
	if ch.history == nil {
		ch.history = &history{}
	}
	ch.history.failure, ch.history.at = err, now
	return ch.history
}

// prune drops what has left the window.
func (h *history) prune(p Policy, now time.Time) {
	h.window = slices.DeleteFunc(h.window, func(t time.Time) bool { return now.Sub(t) > p.Within })
}

// allow counts a restart that is about to be made, if one more may be.
func (h *history) allow(p Policy) bool {
	h.prune(p, h.at)
	if p.Intensity >= 0 && len(h.window) >= p.Intensity {
		return false
	}
	if p.Intensity < 0 && len(h.window) > 64 { // no limit: enough for the backoff
		h.window = slices.Delete(h.window, 0, 1)
	}
	h.window = append(h.window, h.at)
	h.total++
	return true
}

// backOff restarts the failed child, and by the strategy its siblings, after
// the wait that its restarts in the window ask for. Siblings that still run are
// held until then.
func (s *shell) backOff(failed *child) {
	h := failed.history
	wait := s.kids.policy.Backoff.Wait(len(h.window), s.cell.sys.random)
	group := s.group(failed)
	for _, ch := range group {
		if ch != failed {
			ch.cell.box.suspend()
			ch.cell.interrupt()
		}
		ch.state = messages.BackingOff
	}
	if wait <= 0 {
		s.restart(group)
		return
	}
	h.until = h.at.Add(wait)
	self := s.cell.ref()
	s.changed(failed, messages.Event{Kind: messages.ActorBackingOff, Attempt: len(h.window), Wait: wait, Until: h.until}, h.failure)
	h.timer = s.cell.sys.clock.AfterFunc(wait, func() { self.Tell(&restartDue{group}) })
}

func (s *shell) group(failed *child) []*child {
	var from uint64
	switch s.kids.policy.Strategy {
	case AllForOne:
	case RestForOne:
		from = failed.order
	default:
		return []*child{failed}
	}
	return slices.DeleteFunc(s.kids.ordered(), func(ch *child) bool {
		return ch.order < from || ch.state != messages.Running && ch.state != messages.BackingOff
	})
}

// restart makes a new incarnation of each child that waits for one, in order of
// spawning. A child that stopped by itself is spawned anew.
func (s *shell) restart(group []*child) {
	for _, ch := range group {
		name := ch.cell.spec.Name
		if s.over || s.kids == nil || s.kids.byName[name] != ch || ch.state != messages.BackingOff {
			continue
		}
		var failure *messages.Error
		attempt := 0
		if ch.history != nil {
			ch.history.until = time.Time{}
			failure, attempt = ch.history.failure, len(ch.history.window)
		}
		if ch.cell.gone.Load() {
			delete(s.kids.byName, name)
			if _, err := s.spawn(ch.cell.spec, ch.history); err != nil {
				s.fail(messages.AsError(err, messages.Crashed, s.cell.path()), nil)
				return
			}
		} else {
			ch.state = messages.Running
			s.ctx.ac.(actor.Supervisor).RestartChildren(ch.cell.pid.Load())
		}
		s.changed(ch, messages.Event{Kind: messages.ActorRestarted, Attempt: attempt}, failure)
	}
}

func (s *shell) stopChild(name string) {
	if s.kids == nil {
		return
	}
	ch := s.kids.byName[name]
	if ch == nil {
		return
	}
	ch.wanted = true
	if ch.cell.gone.Load() { // it waits for a respawn that shall not come
		delete(s.kids.byName, name)
		return
	}
	ch.state = messages.StoppingNow
	s.ctx.ac.Stop(ch.cell.pid.Load())
}

// terminated: a child has stopped.
func (s *shell) terminated(pid *actor.PID) {
	ch := s.child(pid)
	if ch == nil {
		return
	}
	name := ch.cell.spec.Name
	again := !s.over && !ch.wanted && (ch.cell.spec.Restart == Permanent || ch.cell.spec.Restart == "")
	if !again {
		delete(s.kids.byName, name)
	}
	var failure *messages.Error
	if ch.state == messages.StoppingNow && ch.history != nil {
		failure = ch.history.failure
	}
	s.changed(ch, messages.Event{Kind: messages.ActorStopped}, failure)
	if !again {
		return
	}
	h := ch.fail(messages.Errorf(messages.Stopping, ch.cell.path(), "stopped by itself, and is permanent"), s.cell.sys.clock.Now())
	if h.allow(s.kids.policy) {
		ch.state = messages.Running
		s.backOff(ch)
		return
	}
	delete(s.kids.byName, name)
	err := spent(s.kids.policy, h.failure)
	if s.kids.policy.Spent == DoEscalate && s.cell.parent != nil {
		s.changed(ch, messages.Event{Kind: messages.ActorEscalated}, err)
		s.escalate(&escalation{err}, nil)
	}
}

// Release ends the actor's quarantine, if it is in one: a new incarnation starts,
// with its window of restarts empty.
func (r Ref) Release() {
	if i := strings.LastIndexByte(r.Path(), '/'); i >= 0 {
		parent := Ref{actor.NewPID(r.pid.Address, r.pid.Id[:i]), r.sys}
		parent.Tell(&release{r.pid.Id[i+1:]})
	}
}

func (s *shell) release(name string) {
	if s.kids == nil {
		return
	}
	ch := s.kids.byName[name]
	if ch == nil || ch.state != messages.Quarantined {
		return
	}
	ch.cell.quarantine.Store(nil)
	ch.history.window = nil
	ch.state = messages.BackingOff
	s.restart([]*child{ch})
}

// changed tells the world, and the supervising actor, what became of a child.
func (s *shell) changed(ch *child, ev messages.Event, failure *messages.Error) {
	ev.Path, ev.Name, ev.Error = ch.cell.path(), ch.cell.spec.Kind, failure
	if failure != nil {
		ev.Class = failure.Class
	}
	s.cell.sys.emit(ev)
	p, ok := s.inner.(Parent)
	if !ok || s.over || ev.Kind == messages.ActorBackingOff || ev.Kind == messages.ActorEscalated {
		return
	}
	s.guard(nil, func() error {
		p.ChildChanged(&s.ctx, ChildChange{Name: ch.cell.spec.Name, Kind: ev.Kind, Failure: failure})
		return nil
	})
}

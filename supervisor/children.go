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
	added   bool   // it is not of the spec
	wanted  bool   // its stop was asked for
	ended   uint64 // the generation that was told to end: its failures are old news
	due     *due   // the restart that it waits for
	history *history
	watch   clockwork.Timer
	stops   []*actor.PID // who waits for its end
}

// history is what a supervisor remembers of a child that has failed.
type history struct {
	window  []time.Time // restarts, oldest first
	total   int
	failure *messages.Error
	at      time.Time
}

// due is a restart that waits for a backoff to end. A newer one for the same
// child takes its place.
type due struct {
	group   []*child
	waiting int // of the group
	until   time.Time
	timer   clockwork.Timer
}

// join makes the child wait for d.
func (ch *child) join(d *due) {
	ch.leave()
	ch.state, ch.due = messages.BackingOff, d
	d.group = append(d.group, ch)
	d.waiting++
}

// leave ends the child's wait; the last of a group stops its timer.
func (ch *child) leave() {
	d := ch.due
	if d == nil {
		return
	}
	ch.due = nil
	if d.waiting--; d.waiting == 0 && d.timer != nil {
		d.timer.Stop()
	}
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

// child is the child with this address, nil if it is one of the past.
func (s *shell) child(pid *actor.PID) *child {
	if s.kids == nil {
		return nil
	}
	ch := s.kids.byName[pid.Id[strings.LastIndexByte(pid.Id, '/')+1:]]
	if ch == nil || ch.cell.pid.Load() != pid {
		return nil
	}
	return ch
}

// take spawns a child that somebody outside asks for.
func (s *shell) take(spec Spec) (Ref, error) {
	if q := s.cell.quarantine.Load(); q != nil {
		return Ref{}, q
	}
	return s.spawn(spec, true)
}

// spawn starts a child from a spec that was checked.
func (s *shell) spawn(spec Spec, added bool) (Ref, error) {
	if s.over {
		return Ref{}, messages.Errorf(messages.Stopping, s.cell.path(), "spawn %q: stopping", spec.Name)
	}
	if s.kids == nil {
		s.kids = &children{policy: s.cell.spec.Policy.withDefaults(), byName: map[string]*child{}}
	}
	if _, ok := s.kids.byName[spec.Name]; ok {
		return Ref{}, messages.Errorf(messages.Invalid, s.cell.path(), "spawn: the name %q is taken", spec.Name)
	}
	s.kids.spawns++
	ch := &child{cell: &cell{sys: s.cell.sys, parent: s.cell, spec: spec}, order: s.kids.spawns, state: messages.Running, added: added}
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
	s.turn(nil)
	ch := s.child(pid)
	if ch == nil || s.over {
		sup.StopChildren(pid)
		return
	}
	f, ok := reason.(*failure)
	if !ok {
		f = &failure{err: crashed(reason, pid.Id, "")}
	}
	ch.failed(f.err, s.cell.sys.clock.Now())
	s.changed(ch, messages.Event{Kind: messages.ActorFailed}, f.err)
	old := f.generation != 0 && f.generation <= ch.ended
	if ch.state == messages.Running && !old { // else its restart, or its end, is under way
		s.decide(sup, ch, f)
	}
	s.notify()
}

// decide does what the policy says about a failure.
func (s *shell) decide(sup actor.Supervisor, ch *child, f *failure) {
	h, err := ch.history, f.err
	d := s.kids.policy.decide(err.Class, ch.cell.spec.Restart)
	if d == DoResume && f.broken {
		d = s.kids.policy.restart(ch.cell.spec.Restart)
	}
	if d == DoRestart && !h.allow(s.kids.policy) {
		d = s.kids.policy.Spent
		err = spent(s.kids.policy, err)
		h.failure = err
	}
	if d == DoEscalate && s.cell.parent == nil {
		d = DoQuarantine
	}
	if d != DoResume {
		ch.cell.interrupt(err)
	}
	switch d {
	case DoResume:
		ch.cell.box.PostSystemMessage(resumeMessage)
		s.changed(ch, messages.Event{Kind: messages.ActorResumed}, err)
	case DoStop:
		s.stopChild(ch.cell.spec.Name)
	case DoQuarantine:
		ch.state = messages.Quarantined
		ch.cell.quarantine.Store(err)
		s.renew(ch)
		s.changed(ch, messages.Event{Kind: messages.ActorQuarantined}, err)
	case DoEscalate:
		ch.state = messages.StoppingNow // it ends when its supervisor does
		ch.cell.box.close()
		s.changed(ch, messages.Event{Kind: messages.ActorEscalated}, err)
		s.raise(err, true)
	case DoRestart:
		s.backOff(ch)
	}
}

// spent is the failure of a child that may not be restarted again.
func spent(p Policy, err *messages.Error) *messages.Error {
	e := messages.Errorf(err.Class, err.Source, "gave up after %d restarts in %s: %w", p.Intensity, p.Within, err)
	e.Stack, e.Others = err.Stack, []*messages.Error{err}
	return e
}

func (ch *child) failed(err *messages.Error, now time.Time) {
	if ch.history == nil {
		ch.history = &history{}
	}
	ch.history.failure, ch.history.at = err, now
}

// prune drops what has left the window.
func (h *history) prune(p Policy, now time.Time) {
	for len(h.window) > 0 && now.Sub(h.window[0]) > p.Within {
		h.window = h.window[1:]
	}
}

// unlimited is how many restarts are remembered where any number is allowed:
// enough for every backoff to reach its cap.
const unlimited = 64

// allow counts a restart that is about to be made, if one more may be.
func (h *history) allow(p Policy) bool {
	h.prune(p, h.at)
	if p.Intensity >= 0 && len(h.window) >= p.Intensity {
		return false
	}
	if p.Intensity < 0 && len(h.window) == unlimited {
		h.window = h.window[1:]
	}
	h.window = append(h.window, h.at)
	h.total++
	return true
}

// backOff restarts the failed child, and by the strategy its siblings, after
// the wait that its restarts in the window ask for. Siblings that still run are
// held until then; temporary ones are stopped, as nothing restarts them.
func (s *shell) backOff(failed *child) {
	h := failed.history
	wait := s.kids.policy.Backoff.Wait(len(h.window), s.cell.sys.random)
	d := &due{until: h.at.Add(wait)}
	for _, ch := range s.group(failed) {
		if ch != failed {
			if ch.cell.spec.Restart == Temporary {
				s.stopChild(ch.cell.spec.Name)
				continue
			}
			ch.cell.box.hold()
			ch.cell.interrupt(messages.Errorf(messages.Stopping, ch.cell.path(), "restarts because %q failed", failed.cell.spec.Name))
		}
		ch.join(d)
	}
	if wait <= 0 {
		s.restart(d)
		return
	}
	self := s.cell.ref()
	d.timer = s.cell.sys.clock.AfterFunc(wait, func() { self.Tell(&urgent{d}) })
	for _, ch := range d.group {
		s.changed(ch, messages.Event{Kind: messages.ActorBackingOff, Attempt: len(h.window), Wait: wait, Until: d.until}, h.failure)
	}
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

// restart asks each child that waits for it for a new incarnation, in order of
// spawning; each then ends the old one and starts in its own time.
func (s *shell) restart(d *due) {
	for _, ch := range d.group {
		if s.over || ch.due != d {
			continue // a newer restart, its stop, or the supervisor's own came first
		}
		ch.leave()
		ch.state = messages.Running
		var failure *messages.Error
		attempt := 0
		if ch.history != nil {
			failure, attempt = ch.history.failure, len(ch.history.window)
		}
		if len(d.group) > 1 { // a sibling may be in a handler that blocks
			ch.stopWatch()
			ch.watch = s.cell.sys.watchStop(ch.cell)
		}
		// Told first, and held until then: who sees the new incarnation at work has
		// heard of it, and who has heard of it meets no older one.
		ch.cell.box.hold()
		s.changed(ch, messages.Event{Kind: messages.ActorRestarted, Attempt: attempt}, failure)
		s.renew(ch)
	}
}

func (s *shell) renew(ch *child) {
	ch.ended = ch.cell.generation.Load()
	ch.cell.box.renew()
}

func (s *shell) stopChild(name string) {
	if s.kids == nil {
		return
	}
	ch := s.kids.byName[name]
	if ch == nil || ch.wanted || s.over {
		return
	}
	ch.leave()
	ch.wanted, ch.state = true, messages.StoppingNow
	ch.cell.box.close()
	ch.cell.interrupt(nil)
	ch.stopWatch()
	ch.watch = s.cell.sys.watchStop(ch.cell)
	s.ctx.ac.Stop(ch.cell.pid.Load())
}

// stopOne is System.StopActor.
func (s *shell) stopOne(name string) {
	var ch *child
	if s.kids != nil {
		ch = s.kids.byName[name]
	}
	if ch == nil {
		s.ctx.Fail(nobody(s.cell.path() + "/" + name))
		return
	}
	if s.sender != nil {
		ch.stops = append(ch.stops, s.sender)
	}
	s.stopChild(name)
}

// haltChildren: the supervisor's incarnation ends, and protoactor stops the
// children next.
func (s *shell) haltChildren() {
	cells := make([]*cell, 0, len(s.kids.byName))
	s.cell.extra = nil
	for _, ch := range s.kids.ordered() {
		ch.leave()
		ch.stopWatch()
		ch.cell.box.close()
		ch.cell.interrupt(nil)
		cells = append(cells, ch.cell)
		if s.cell.spec.New == nil && ch.added && !ch.wanted && ch.cell.spec.Restart != Temporary {
			s.cell.extra = append(s.cell.extra, ch.cell.spec)
		}
	}
	s.cell.stopWatch()
	s.cell.watch = s.cell.sys.watchStop(cells...)
}

// terminated: a child is no more.
func (s *shell) terminated(pid *actor.PID) {
	ch := s.child(pid)
	if ch == nil {
		return
	}
	delete(s.kids.byName, ch.cell.spec.Name)
	ch.leave()
	ch.stopWatch()
	var failure *messages.Error
	if ch.state == messages.StoppingNow && ch.history != nil {
		failure = ch.history.failure
	}
	s.changed(ch, messages.Event{Kind: messages.ActorStopped}, failure)
	for _, who := range ch.stops {
		s.cell.sys.root.Send(who, true)
	}
}

// Release ends the actor's quarantine, if it is in one: a new incarnation starts,
// with its window of restarts empty.
func (r Ref) Release() {
	if parent, name := r.parent(); !parent.IsZero() {
		parent.Tell(&urgent{&release{name}})
	}
}

// parent is the supervisor's address; the root has none.
func (r Ref) parent() (Ref, string) {
	i := strings.LastIndexByte(r.Path(), '/')
	if i < 0 {
		return Ref{}, ""
	}
	return Ref{actor.NewPID(r.pid.Address, r.pid.Id[:i]), r.sys}, r.pid.Id[i+1:]
}

func (s *shell) release(name string) {
	if s.kids == nil || s.over {
		return
	}
	ch := s.kids.byName[name]
	if ch == nil || ch.state != messages.Quarantined {
		return
	}
	ch.cell.quarantine.Store(nil)
	ch.history.window = nil
	d := &due{}
	ch.join(d)
	s.restart(d)
}

// changed tells the world what became of a child, and keeps it for the
// supervising actor.
func (s *shell) changed(ch *child, ev messages.Event, failure *messages.Error) {
	if s.cell.sys.events.Wanted() {
		ev.Path, ev.Name, ev.Error = ch.cell.path(), ch.cell.spec.Kind, failure
		if failure != nil {
			ev.Class = failure.Class
		}
		s.cell.sys.emit(ev)
	}
	if ev.Kind == messages.ActorBackingOff || ev.Kind == messages.ActorEscalated {
		return
	}
	if _, ok := s.inner.(Parent); ok && !s.over {
		s.notes = append(s.notes, ChildChange{Name: ch.cell.spec.Name, Kind: ev.Kind, Failure: failure})
	}
}

// notify tells the supervising actor what became of its children, once the
// supervisor has acted.
func (s *shell) notify() {
	for len(s.notes) > 0 && !s.failing && !s.over {
		note := s.notes[0]
		s.notes = s.notes[1:]
		s.turn(nil)
		s.guard(func() error {
			s.inner.(Parent).ChildChanged(&s.ctx, note)
			return nil
		})
	}
}

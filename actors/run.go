package actors

import (
	"context"
	"maps"
	"sync"

	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// Run is a run on this node.
type Run struct {
	// ID is the run's, and its task's.
	ID string

	task messages.Task
	ref  supervisor.Ref
	done chan struct{}
	once sync.Once

	ended  bool
	answer messages.Answer
	err    error
}

// Done is closed once the run has ended, or was left resumable.
func (r *Run) Done() <-chan struct{} { return r.done }

// Ended reports whether the run has a last record in the journal; valid after
// Done. A run that was left resumable has not.
func (r *Run) Ended() bool { return r.ended }

// Result is the answer or the failure; valid after Done.
func (r *Run) Result() (messages.Answer, error) { return r.answer, r.err }

// Wait waits for the result, and for nothing once ctx has ended.
func (r *Run) Wait(ctx context.Context) (messages.Answer, error) {
	select {
	case <-r.done:
		return r.answer, r.err
	case <-ctx.Done():
		return messages.Answer{}, messages.AsError(context.Cause(ctx), messages.Canceled, r.ID)
	}
}

func (r *Run) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// is returns an error unless the run has that task.
func (r *Run) is(t messages.Task) error {
	if r.task.Prompt == t.Prompt && r.task.Team == t.Team {
		return nil
	}
	return otherTask(r.ID, r.task)
}

// otherTask refuses a task under the id of a run that has another.
func otherTask(run string, was messages.Task) error {
	return messages.Errorf(messages.Invalid, run,
		"a run of this id is there with another task (team %q, %q): use another id", was.Team, head(was.Prompt))
}

func (r *Run) finish(ended bool, a messages.Answer, err error) {
	r.once.Do(func() {
		r.ended, r.answer, r.err = ended, a, err
		close(r.done)
	})
}

// runActor takes a run over and brings it to its end.
type runActor struct {
	host
	run    *Run
	task   messages.Task
	claim  messages.Claim
	cancel context.CancelCauseFunc
	away   bool // some members live on other nodes
	told   bool // whoever waits has been told
}

type (
	// opened: the run's writers are claimed and its records read.
	opened struct {
		log *runLog
		err error
	}
	// over: the run has come to an end, or to where it can be resumed.
	over struct {
		ended  bool
		answer messages.Answer
		err    error
	}
	// abort stops the run where it is.
	abort struct{ err error }
)

// runSpec describes the actor of a run. A run's actor is not restarted: whoever
// holds its task starts it again, from the journal.
func (rt *Runtime) runSpec(run *Run, task messages.Task, m Member, claim messages.Claim) supervisor.Spec {
	spec := supervisor.Spec{Name: task.ID, Kind: "run", Restart: supervisor.Temporary}
	if t, ok := m.(Team); ok {
		spec.Policy = t.Policy
	}
	spec.Policy = atTop(spec.Policy)
	spec.New = func() (supervisor.Actor, error) {
		r := &runActor{run: run, task: task, claim: claim}
		r.host = host{scope: &scope{rt: rt, run: task.ID, task: task, owner: messages.Owner(claim.Node, claim.Epoch), drained: rt.drained}}
		r.scope.flights.lease = rt.tenure(claim)
		switch m := m.(type) {
		case Team:
			r.members, r.plan = m.Members, m.Plan
		default:
			r.members, r.plan = []Member{m}, alone
		}
		return r, nil
	}
	return spec
}

// atTop is the policy of a run's own team. Above a run there is nobody who could
// do better: where it would escalate, the member is put aside, and the plan, that
// asked it, gets its failure.
func atTop(p supervisor.Policy) supervisor.Policy {
	if p.Spent == "" || p.Spent == supervisor.DoEscalate {
		p.Spent = supervisor.DoQuarantine
	}
	p.OnClass = maps.Clone(p.OnClass)
	for c, d := range p.OnClass {
		if d == supervisor.DoEscalate {
			p.OnClass[c] = supervisor.DoQuarantine
		}
	}
	return p
}

// alone is the plan of a single agent.
var alone = PlanFunc(func(ctx context.Context, s *Stage) (messages.Answer, error) {
	return s.Conclude(ctx, s.Members()[0], s.Prompt(), s.Discussion()...)
})

func (r *runActor) Start(c *supervisor.Context) error {
	r.scope.top = c.Self()
	if r.run.over() { // it was given up before it came here
		c.Self().Tell(&abort{r.run.err})
		return nil
	}
	if r.task.Submitted.IsZero() {
		r.task.Submitted = c.Now().UTC().Round(0)
	}
	task := r.task
	writers := []string{messages.PlanWriter}
	for _, m := range r.members {
		m = value(m)
		ws, away := r.scope.rt.writersOf(m, m.MemberName())
		writers, r.away = append(writers, ws...), r.away || away
	}
	c.Go("taking the run over", func(ctx context.Context) any {
		log, err := openLog(ctx, r.scope.rt.journal, task, writers, r.claim)
		return &opened{log, err}
	})
	return nil
}

func (r *runActor) Stop(*supervisor.Context) {
	r.close()
	if r.cancel != nil {
		r.cancel(nil)
	}
	r.run.finish(false, messages.Answer{}, messages.Errorf(messages.Stopping, r.task.ID, "stopped before it was done: the run can be resumed"))
}

func (r *runActor) ChildChanged(c *supervisor.Context, change supervisor.ChildChange) {
	r.changed(c, change)
}

func (r *runActor) Report() messages.Status {
	s := messages.Status{State: messages.Starting}
	if r.scope.log != nil {
		steps, _, _ := r.scope.log.counts()
		s = messages.Status{State: messages.Running, Step: stepsText(steps)}
	}
	s.Detail = map[string]string{"team": r.task.Team}
	return s
}

func (r *runActor) Receive(c *supervisor.Context, msg any) error {
	switch m := msg.(type) {
	case *opened:
		return r.opened(c, m)
	case messages.Envelope:
		switch b := m.Body.(type) {
		case *messages.Reply:
			r.asks.settle(*b)
		case *messages.Gone:
			r.gone(b)
		case *messages.Cancel:
			if r.cancel != nil {
				r.cancel(messages.Errorf(messages.Canceled, r.task.ID, "canceled: %s", orNone(b.Reason)))
			}
		}
	case *abort:
		r.end(c, &over{err: m.err})
	case *over:
		r.end(c, m)
	}
	return nil
}

func (r *runActor) opened(c *supervisor.Context, m *opened) error {
	if m.err != nil {
		r.end(c, &over{err: m.err})
		return nil
	}
	log := m.log
	r.scope.log = log
	if log.begun != nil {
		r.task = log.begun.Task
	}
	r.scope.task = r.task
	steps, read, _ := log.counts()
	r.scope.emit(messages.Event{Kind: messages.RunStarted, Path: c.Path(), Name: r.task.Team, Text: head(r.task.Prompt), Count: steps})
	switch last := log.last.(type) {
	case *messages.Done:
		a := last.Answer
		a.Journal = read
		r.end(c, &over{ended: true, answer: a})
		return nil
	case *messages.Failed:
		err := last.Error
		if err == nil {
			err = messages.Errorf(messages.Crashed, r.task.ID, "failed without an error")
		}
		r.end(c, &over{ended: true, err: err})
		return nil
	}
	if err := r.open(c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(c.Context())
	r.cancel = cancel
	c.Go("the plan", func(context.Context) any { return r.work(ctx) })
	return nil
}

// work walks the plan and writes the run's last record.
func (r *runActor) work(ctx context.Context) *over {
	if d := r.task.Deadline; !d.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, d)
		defer cancel()
	}
	ans, cut, err := r.perform(ctx, r.task.Prompt, r.task.Discussion, r.task.Format, "")
	if cut {
		return &over{err: plainOf(err, r.task.ID)} // as it was, for whoever takes it up
	}
	keep, cancel := lingering(ctx, keepReply)
	defer cancel()
	if r.away {
		if lost := r.scope.log.catchUp(keep, r.scope.rt.journal); lost != nil {
			return r.unsaid(ctx, lost)
		}
	}
	steps, read, usage := r.scope.log.counts()
	ans.Run, ans.Usage, ans.Steps, ans.Journal, ans.Restarts = r.task.ID, usage, steps, read, int(r.scope.restarts.Load())
	var last messages.Body = &messages.Done{Answer: ans}
	if err != nil {
		e := failureOf(err, r.task.ID)
		last, ans, err = &messages.Failed{Error: e}, messages.Answer{}, e
	}
	if lost := r.scope.append(keep, messages.PlanWriter, "", last); lost != nil {
		return r.unsaid(ctx, lost)
	}
	return &over{ended: true, answer: ans, err: err}
}

// unsaid is how a run is left whose last record could not be written.
func (r *runActor) unsaid(ctx context.Context, lost error) *over {
	if ctx.Err() != nil && messages.ClassOf(lost) != messages.Fenced {
		lost = ended(ctx, r.task.ID)
	}
	return &over{err: plainOf(lost, r.task.ID)}
}

// end tells whoever waits, and stops the run's actors.
func (r *runActor) end(c *supervisor.Context, o *over) {
	if r.told {
		return
	}
	r.told = true
	r.scope.flights.over.Store(true) // before anybody is told
	ev := messages.Event{Kind: messages.RunEnded, Path: c.Path(), Name: r.task.Team, Text: head(o.answer.Text)}
	if !o.ended {
		ev.Kind = messages.RunSuspended
	}
	if o.err != nil {
		ev.Error = messages.AsError(o.err, messages.Crashed, r.task.ID)
		ev.Class = ev.Error.Class
	}
	if r.scope.log != nil { // else it was not begun here
		r.scope.emit(ev)
	}
	r.run.finish(o.ended, o.answer, o.err)
	c.Stop()
}

func orNone(reason string) string {
	if reason == "" {
		return "no reason given"
	}
	return reason
}

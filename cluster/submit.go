package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// Know makes a team known to the node, and no more: its members can live here, and
// runs of it that are the node's go on. The tasks of its queue are left to those
// who [Node.Serve] it. Teams that their tasks define need it not, given
// [Config.Load].
func (n *Node) Know(m actors.Member) error { return n.know(m) }

// Serve makes a team known to the node, which from then on takes the tasks of
// the queue of its name. [Node.Ask] and [Node.Submit] do so by themselves.
func (n *Node) Serve(ctx context.Context, m actors.Member) error {
	if err := n.know(m); err != nil {
		return err
	}
	return n.serve(ctx, m.MemberName())
}

// ServeDefined has the node take the tasks that bring their team's definition:
// those of [messages.DefinedQueue]. Class invalid without [Config.Load].
func (n *Node) ServeDefined(ctx context.Context) error {
	if n.cfg.Load == nil {
		return messages.Errorf(messages.Invalid, "", "serve: config: load: nil is not allowed for the queue %q: use a function that makes a team of its definition", messages.DefinedQueue)
	}
	return n.serve(ctx, messages.DefinedQueue)
}

func (n *Node) serve(ctx context.Context, queue string) error {
	if err := n.queue.serve(ctx, queue); err != nil {
		return err
	}
	return n.notDraining(queue)
}

// know remembers a team for the tasks that name it.
func (n *Node) know(m actors.Member) error {
	if m == nil {
		return messages.Errorf(messages.Invalid, "", "serve: the member is nil: use an actors.Agent or an actors.Team")
	}
	if err := m.Check(); err != nil {
		return err
	}
	if err := n.rt.CheckModels(m); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.members[m.MemberName()] = m
	return nil
}

// Ask puts a question to a team, or to a single agent, and waits for the answer.
// When ctx ends first the run goes on, and can be waited for by its id.
func (n *Node) Ask(ctx context.Context, m actors.Member, prompt string) (messages.Answer, error) {
	run, err := n.Submit(ctx, m, messages.Task{Prompt: prompt})
	if err != nil {
		return messages.Answer{}, err
	}
	return run.Wait(ctx)
}

// Submit puts a task into a queue, that of its Queue or, without one, of its
// team's name, which the node then serves; and returns at once. A task whose ID is
// that of a run which is there already is that run: a finished one is answered
// from the journal, an interrupted one goes on, and a failed one gives its failure
// (see [Node.Resume]). Team and Definition are filled in from m. A session that is
// too long is an error of class throttled.
func (n *Node) Submit(ctx context.Context, m actors.Member, task messages.Task) (*Run, error) {
	if m == nil {
		return nil, messages.Errorf(messages.Invalid, "", "submit: the member is nil: use an actors.Agent or an actors.Team")
	}
	if task.Prompt == "" {
		return nil, messages.Errorf(messages.Invalid, "", "task: prompt: it is empty: say what is asked")
	}
	fresh := task.ID == ""
	if fresh {
		task.ID = NewID()
	}
	task.Team = m.MemberName()
	task.Queue = cmp.Or(task.Queue, task.Team)
	if t, ok := m.(actors.Team); ok && task.Definition == nil {
		task.Definition = t.Definition
	}
	task.Submitted = now()
	if err := checkTask(task); err != nil {
		return nil, err
	}
	var info *messages.RunInfo
	if !fresh {
		switch i, err := n.client.Run(ctx, task.ID); {
		case err == nil:
			info = &i
		case !errors.Is(err, errNotThere):
			return nil, err
		}
	}
	if info != nil && info.Session != task.Session {
		return nil, otherSession(*info)
	}
	return n.submit(ctx, m, task, info, "")
}

// Resume has a run go on that was interrupted, or that failed. m is its team; nil
// for the one that its first record defines, which needs [Config.Load]. A run
// whose owner is alive is only waited for. Any other is this node's to work on:
// where its task is in a queue that the node does not serve, it is put into one of
// its own (see [OwnQueue]).
func (n *Node) Resume(ctx context.Context, run string, m actors.Member) (*Run, error) {
	task, err := n.client.Task(ctx, run)
	if err != nil {
		return nil, err
	}
	if m == nil {
		if m, err = n.load(task); err != nil {
			return nil, err
		}
	}
	if m.MemberName() != task.Team {
		return nil, messages.Errorf(messages.Invalid, "", "run %s: its team is %q, not %q", run, task.Team, m.MemberName())
	}
	if !slices.Contains(n.queue.serves(), task.QueueName()) {
		task.Queue = OwnQueue(run)
	}
	again := ""
	info, err := n.client.Run(ctx, run)
	if err != nil {
		return nil, err
	}
	if info.State == messages.RunFailed {
		info.State = messages.RunInterrupted
		if err := n.client.conclude(ctx, task); err != nil {
			return nil, err
		}
		if err := n.client.write(ctx, run, messages.PlanWriter, "", &messages.Reopened{By: n.cfg.Name}); err != nil {
			return nil, err
		}
		again = "/reopened-" + NewID()
	}
	return n.submit(ctx, m, task, &info, again)
}

// load makes the team that a task defines.
func (n *Node) load(t messages.Task) (actors.Member, error) {
	if len(t.Definition) == 0 || n.cfg.Load == nil {
		return nil, messages.Errorf(messages.Invalid, "", "run %s: its team %q is defined in code: resume it from the program that has it", t.ID, t.Team)
	}
	m, err := n.cfg.Load(t.Definition)
	if err != nil {
		return nil, messages.AsError(err, messages.Invalid, "run "+t.ID+": team definition")
	}
	return m, nil
}

// submit serves the task's queue, puts the task there, unless it is, and returns
// the run. info is where the run stands, nil for one that is not there yet.
func (n *Node) submit(ctx context.Context, m actors.Member, task messages.Task, info *messages.RunInfo, again string) (_ *Run, err error) {
	if info != nil && (info.Team != task.Team || info.Prompt != task.Prompt) {
		return nil, otherTask(*info)
	}
	if err := n.know(m); err != nil {
		return nil, err
	}
	// It waits before the queue is served: a task that is there comes, and its run
	// may be over, at any moment from then on.
	r := &Run{ID: task.ID, node: n, done: make(chan struct{})}
	n.mu.Lock()
	n.handles[task.ID] = append(n.handles[task.ID], r)
	n.mu.Unlock()
	defer func() {
		if err != nil {
			n.forget(r)
		}
	}()
	var there, elsewhere []queued
	if info != nil {
		if there, err = n.queue.find(ctx, task); err != nil {
			return nil, err
		}
		elsewhere = slices.DeleteFunc(slices.Clone(there), func(t queued) bool { return t.queue == task.QueueName() })
	}
	if info != nil && (info.State == messages.RunDone || info.State == messages.RunFailed) {
		n.finish(task.ID, result{ended: true, info: info})
		if len(there) > 0 { // its node died before it could say so
			err = n.client.conclude(ctx, task)
		}
		return r, err
	}
	owned := len(there) > 0 && n.owned(ctx, *info)
	if !owned || len(elsewhere) == 0 {
		if err := n.serve(ctx, task.QueueName()); err != nil {
			return nil, err
		}
	}
	switch {
	case owned:
	case len(elsewhere) > 0:
		err = n.client.move(ctx, task, elsewhere)
	case len(there) == 0 || task.Session != "":
		if info != nil && again == "" && len(there) == 0 {
			again = "/again-" + NewID() // it was taken out of the queue, and is not done
		}
		err = n.client.put(ctx, task, again)
	}
	if err != nil {
		return nil, err
	}
	if n.cfg.shared() {
		go n.await(r)
		if len(there) > 0 {
			n.hurry(info)
		}
		return r, nil
	}
	// Its run may have begun and ended since info was read, before r waited.
	last, err := n.client.journal.ended(ctx, task.ID)
	if err != nil {
		return nil, err
	}
	if last != nil {
		n.finish(task.ID, resultOf(last))
	}
	return r, nil
}

// owned reports whether a run has an owner that may be alive: it has a lease, and
// it is connected.
func (n *Node) owned(ctx context.Context, i messages.RunInfo) bool {
	if i.Node == "" || !n.client.lives(ctx, messages.Claim{Node: i.Node, Epoch: i.Epoch}) {
		return false
	}
	_, err := n.client.ping(ctx, i.Node)
	return !errors.Is(err, nats.ErrNoResponders)
}

// await reads the result of a run that may be another node's.
func (n *Node) await(r *Run) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer n.forget(r)
	go func() {
		<-r.done
		cancel()
	}()
	var res result
	for e, err := range n.client.Records(ctx, r.ID) {
		if err != nil {
			r.finish(result{err: err})
			return
		}
		if ends(e.Body, false) { // its last record, unless it is reopened
			res = resultOf(e.Body)
		}
	}
	r.finish(res)
}

package cluster

import (
	"context"
	"errors"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// Serve makes a team known to the node, which from then on takes the tasks of
// its name from the queue. [Node.Ask] and [Node.Submit] do so by themselves.
func (n *Node) Serve(ctx context.Context, m actors.Member) error {
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
	n.members[m.MemberName()] = m
	n.mu.Unlock()
	if err := n.queue.serve(ctx, m.MemberName()); err != nil {
		return err
	}
	return n.notDraining(m.MemberName())
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

// Submit puts a task into the queue and returns at once. A task whose ID is that
// of a run which is there already is that run: a finished one is answered from
// the journal, an interrupted one goes on, and a failed one gives its failure
// (see [Node.Resume]). Team and Definition are filled in from m.
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
	if err := messages.CheckName("task: id", task.ID); err != nil {
		return nil, err
	}
	task.Team = m.MemberName()
	if t, ok := m.(actors.Team); ok && task.Definition == nil {
		task.Definition = t.Definition
	}
	task.Submitted = now()
	var info *messages.RunInfo
	if !fresh {
		switch i, err := n.client.Run(ctx, task.ID); {
		case err == nil:
			info = &i
		case !errors.Is(err, errNotThere):
			return nil, err
		}
	}
	return n.submit(ctx, m, task, info, "")
}

// Resume has a run go on that was interrupted, or that failed. m is its team; nil
// for the one that its first record defines, which needs [Config.Load].
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
	again := ""
	info, err := n.client.Run(ctx, run)
	if err != nil {
		return nil, err
	}
	if info.State == messages.RunFailed {
		info.State = messages.RunInterrupted
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

// submit serves the task's team, hands the task to the queue, unless it is there,
// and returns the run. info is where the run stands, nil for one that is not
// there yet.
func (n *Node) submit(ctx context.Context, m actors.Member, task messages.Task, info *messages.RunInfo, dedup string) (*Run, error) {
	if info != nil && (info.Team != task.Team || info.Prompt != task.Prompt) {
		return nil, otherTask(*info)
	}
	// It waits before the team is served: a task that is in the queue comes, and
	// its run may be over, at any moment from then on.
	r := &Run{ID: task.ID, node: n, done: make(chan struct{})}
	n.mu.Lock()
	n.handles[task.ID] = append(n.handles[task.ID], r)
	n.mu.Unlock()
	if err := n.Serve(ctx, m); err != nil {
		n.forget(r)
		return nil, err
	}
	if info != nil && (info.State == messages.RunDone || info.State == messages.RunFailed) {
		n.finish(task.ID, result{ended: true, info: info})
		return r, nil
	}
	put := true
	if info != nil {
		waiting, err := n.queue.waiting(ctx)
		if err != nil {
			n.forget(r)
			return nil, err
		}
		for _, w := range waiting {
			if w.ID == task.ID {
				put = false
			}
		}
		if put && dedup == "" {
			dedup = "/again-" + NewID() // it was taken out of the queue, and is not done
		}
	}
	if put {
		if _, err := n.queue.submitAs(ctx, task, task.ID+dedup); err != nil {
			n.forget(r)
			return nil, err
		}
	}
	if n.cfg.shared() {
		go n.await(r)
		if !put {
			n.hurry(info)
		}
	}
	return r, nil
}

// await reads the result of a run that may be another node's.
func (n *Node) await(r *Run) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
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
		switch b := e.Body.(type) {
		case *messages.Done:
			res = result{ended: true, answer: b.Answer}
		case *messages.Failed: // its last record, unless it is reopened
			res = result{ended: true, err: b.Error}
		}
	}
	r.finish(res)
}

package cluster

import (
	"context"
	"slices"

	"github.com/covey-run/covey/messages"
)

// Resume has the nodes go on with a run, without a node of its own: a failed run
// is opened again, and a task that is no longer in the queue, or in one of its own
// (see [OwnQueue]) whose command is gone, is put in again. It returns where the
// run stands then. Class invalid: there is no such run, or it has ended with an
// answer; a run that a node works on, or that waits in the queue, is left as it
// is.
func (c *Client) Resume(ctx context.Context, run string) (messages.RunInfo, error) {
	info, err := c.Run(ctx, run)
	if err != nil {
		return info, err
	}
	switch info.State {
	case messages.RunDone:
		return info, messages.Errorf(messages.Invalid, "", "run %s has ended with an answer: there is nothing to go on with", run)
	case messages.RunQueued, messages.RunRunning:
		return info, nil
	}
	task, err := c.Task(ctx, run)
	if err != nil {
		return info, err
	}
	if isOwnQueue(task.Queue) {
		task.Queue = "" // whose queue it was is gone
	}
	if info.State == messages.RunFailed {
		if err := c.conclude(ctx, task); err != nil {
			return info, err
		}
		if err := c.write(ctx, run, messages.PlanWriter, "", &messages.Reopened{By: clientNode}); err != nil {
			return info, err
		}
	}
	there, err := c.queue.find(ctx, task)
	if err != nil {
		return info, err
	}
	served := func(t queued) bool { return !isOwnQueue(t.queue) }
	switch {
	case len(there) == 0:
		err = c.put(ctx, task, "/again-"+NewID())
	case !slices.ContainsFunc(there, served) && !c.lives(ctx, messages.Claim{Node: info.Node, Epoch: info.Epoch}):
		err = c.move(ctx, task, there)
	}
	if err != nil {
		return info, err
	}
	info, err = c.Run(ctx, run)
	return info, err
}

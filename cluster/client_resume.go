package cluster

import (
	"context"
	"slices"

	"github.com/covey-run/covey/messages"
)

// Resume has the nodes go on with a run, without a node of its own: a failed run
// is opened again, and a task that is no longer in the queue is put in again. It
// returns where the run stands then. Class invalid: there is no such run, or it
// has ended with an answer; a run that a node works on, or that waits in the
// queue, is left as it is.
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
	if info.State == messages.RunFailed {
		if err := c.write(ctx, run, messages.PlanWriter, "", &messages.Reopened{By: clientNode}); err != nil {
			return info, err
		}
	}
	waiting, err := c.queue.waiting(ctx)
	if err == nil && !slices.ContainsFunc(waiting, func(t messages.Task) bool { return t.ID == run }) {
		_, err = c.queue.submitAs(ctx, task, run+"/again-"+NewID())
	}
	if err != nil {
		return info, err
	}
	info, err = c.Run(ctx, run)
	return info, err
}

package cluster

import (
	"context"
	"errors"

	"github.com/covey-run/covey/messages"
)

// Submit puts a task into its queue, for the nodes that serve that, and returns
// it as it was put in: with an id if it had none. A task whose ID is that of a
// run which is there already is that run, and left as it is (see
// [Client.Resume]); with another team or prompt it is refused, class invalid.
func (c *Client) Submit(ctx context.Context, task messages.Task) (messages.Task, error) {
	if task.Prompt == "" {
		return task, messages.Errorf(messages.Invalid, "", "task: prompt: it is empty: say what is asked")
	}
	if task.ID == "" {
		task.ID = NewID()
	} else {
		switch info, err := c.Run(ctx, task.ID); {
		case errors.Is(err, errNotThere):
		case err != nil:
			return task, err
		case info.Team != task.Team || info.Prompt != task.Prompt:
			return task, otherTask(info)
		default:
			return task, nil
		}
	}
	task.Submitted = now()
	_, err := c.queue.submit(ctx, task)
	return task, err
}

// otherTask refuses a task under the id of a run that has another.
func otherTask(i messages.RunInfo) error {
	return messages.Errorf(messages.Invalid, "", "run %s is there with another task (team %q, %q): use another id", i.Run, i.Team, i.Prompt)
}

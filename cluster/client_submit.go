package cluster

import (
	"context"
	"errors"

	"github.com/covey-run/covey/messages"
)

// Submit puts a task into its queue, for the nodes that serve that, and returns
// it as it was put in: with an id if it had none. A task whose ID is that of a
// run which is there already is that run, and left as it is (see
// [Client.Resume]); with another team, prompt or session it is refused, class
// invalid. A session that is too long is an error of class throttled.
func (c *Client) Submit(ctx context.Context, task messages.Task) (messages.Task, error) {
	if task.Prompt == "" {
		return task, messages.Errorf(messages.Invalid, "", "task: prompt: it is empty: say what is asked")
	}
	fresh := task.ID == ""
	if fresh {
		task.ID = NewID()
	}
	if err := checkTask(task); err != nil {
		return task, err
	}
	if !fresh {
		switch info, err := c.Run(ctx, task.ID); {
		case errors.Is(err, errNotThere):
		case err != nil:
			return task, err
		case info.Team != task.Team || info.Prompt != task.Prompt:
			return task, otherTask(info)
		case info.Session != task.Session:
			return task, otherSession(info)
		case info.State == messages.RunQueued && task.Session != "":
			return task, c.put(ctx, task, "") // who put it there may have died half way
		default:
			return task, nil
		}
	}
	task.Submitted = now()
	return task, c.put(ctx, task, "")
}

// otherTask refuses a task under the id of a run that has another.
func otherTask(i messages.RunInfo) error {
	return messages.Errorf(messages.Invalid, "", "run %s is there with another task (team %q, %q): use another id", i.Run, i.Team, i.Prompt)
}

// otherSession refuses a task under the id of a run of another session.
func otherSession(i messages.RunInfo) error {
	return messages.Errorf(messages.Invalid, "", "run %s is there in another session (%q): use another id", i.Run, i.Session)
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/teamfile"
)

type submitFlags struct {
	taskFlags
	session  string
	priority string
	wait     bool
	quiet    bool
}

func submitCmd(g *global) *cobra.Command {
	var f submitFlags
	cmd := &cobra.Command{
		Use:   `submit TEAM.yaml "QUESTION"`,
		Short: "Puts a question into the queue, for the nodes to work on",
		Long: `Puts a question to the team of a file into the queue, for the nodes that serve it
("covey serve"), and prints the run's id. With --wait it follows the run: progress
on stderr, the answer on stdout, and exit status 0 only with an answer.

Tasks of one session run one after another, in the order in which they were
submitted, on whichever node. Among tasks that wait, those of a higher priority are
taken first.`,
		Args: exactly("TEAM.yaml", "the question"),
		RunE: func(cmd *cobra.Command, args []string) error {
			task, err := f.task(args[0], args[1])
			if err != nil {
				return err
			}
			return submit(cmd, g, f, task)
		},
	}
	f.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.session, "session", "", "the conversation that it belongs to (default: none)")
	fl.StringVar(&f.priority, "priority", "normal", "high, normal or low")
	fl.BoolVar(&f.wait, "wait", false, "wait for the answer")
	fl.BoolVar(&f.quiet, "quiet", false, "with --wait: no progress on stderr")
	_ = cmd.RegisterFlagCompletionFunc("priority", cobra.FixedCompletions([]string{"high", "normal", "low"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// taskFlags are those of a command that puts a question to a team.
type taskFlags struct {
	model   string
	id      string
	timeout time.Duration
}

func (f *taskFlags) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.model, "model", "", `model for every member, as "ollama/llama3.2" or "scripted"`)
	fl.StringVar(&f.id, "id", "", "id of the run: the same id is the same run, and a finished one gives its answer again (default: made up)")
	fl.DurationVar(&f.timeout, "timeout", 0, "fail the run after this time (default: no limit)")
}

// check refuses flags and a question that are wrong.
func (f *taskFlags) check(question string) error {
	if f.timeout < 0 {
		return &exit{exitUsage, fmt.Errorf("--timeout: %s is not allowed: use a positive duration, as 90s", f.timeout)}
	}
	if strings.TrimSpace(question) == "" {
		return &exit{exitUsage, errors.New("the question is empty")}
	}
	if f.id != "" {
		if err := messages.CheckName("--id", f.id); err != nil {
			return &exit{exitUsage, err}
		}
	}
	return nil
}

// deadline is when the run fails, counted from now; zero for never.
func (f *taskFlags) deadline() (t time.Time) {
	if f.timeout > 0 {
		t = time.Now().Add(f.timeout)
	}
	return t
}

func (f *submitFlags) task(path, question string) (messages.Task, error) {
	if err := f.check(question); err != nil {
		return messages.Task{}, err
	}
	priority, err := messages.ParsePriority(f.priority)
	if err != nil {
		return messages.Task{}, &exit{exitUsage, fmt.Errorf("--priority: %q is not allowed: use high, normal or low", f.priority)}
	}
	if f.session != "" {
		if err := messages.CheckName("--session", f.session); err != nil {
			return messages.Task{}, &exit{exitUsage, err}
		}
	}
	file, err := teamfile.Load(path)
	if err != nil {
		return messages.Task{}, err
	}
	team, err := file.Team(teamfile.Options{Model: f.model})
	if err != nil {
		return messages.Task{}, err
	}
	return messages.Task{
		ID: cmp.Or(f.id, cluster.NewID()), Team: team.Name, Prompt: question, Definition: team.Definition,
		Session: f.session, Priority: priority, Deadline: f.deadline(),
	}, nil
}

// submitted is what --json prints.
type submitted struct {
	Run   string `json:"run"`
	Queue string `json:"queue"`
}

func submit(cmd *cobra.Command, g *global, f submitFlags, task messages.Task) error {
	began := time.Now()
	err := clientOf(cmd.Context(), g, func(ctx context.Context, c *cluster.Client) (err error) {
		if task, err = c.Submit(ctx, task); err == nil {
			warnUnserved(ctx, cmd, c, task.QueueName())
		}
		return err
	})
	if err != nil {
		return err
	}
	switch {
	case !f.wait && g.json:
		return json.NewEncoder(cmd.OutOrStdout()).Encode(submitted{task.ID, task.QueueName()})
	case !f.wait:
		_, err = fmt.Fprintln(cmd.OutOrStdout(), task.ID)
		return err
	}
	log := cmd.ErrOrStderr()
	if f.quiet {
		log = io.Discard
	}
	fmt.Fprintf(log, "run %s is submitted\n", task.ID)
	run := follower{g: g, run: task.ID, each: lines(log, g)}
	last, err := run.follow(cmd.Context())
	s := &session{g: g, out: cmd.OutOrStdout(), log: log, events: &progress{}}
	switch b := last.(type) {
	case *messages.Done:
		return s.print(b.Answer, task.ID, nil, time.Since(began))
	case *messages.Failed:
		return s.print(messages.Answer{}, task.ID, b.Error, time.Since(began))
	}
	return run.explain(cmd.Context(), err)
}

// warnUnserved says on stderr when no node takes tasks of a queue.
func warnUnserved(ctx context.Context, cmd *cobra.Command, c *cluster.Client, queue string) {
	nodes, err := c.Nodes(ctx)
	if err != nil || slices.ContainsFunc(nodes, func(n cluster.NodeState) bool {
		return n.State == cluster.NodeReady && slices.Contains(n.Queues, queue)
	}) {
		return // or nobody knows
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "no node takes such tasks now (queue %q); it waits in the queue\n", queue)
}

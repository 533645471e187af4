package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func followCmd(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "follow RUN",
		Short: "Shows a run's records as they come, to its end",
		Long: `Shows a run's records, those that are there and then new ones as they come, to its
end: also of a run that waits in the queue, and whichever node goes on with it.
Exit status 0 if it ended with an answer, 1 if it failed. With --json each record
is a line.`,
		Args: exactly("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := messages.CheckName("RUN", args[0]); err != nil {
				return &exit{exitUsage, err}
			}
			w := cmd.OutOrStdout()
			f := follower{g: g, run: args[0], each: lines(w, g)}
			if g.json {
				f.each = recordLines(w)
			}
			last, err := f.follow(cmd.Context())
			switch b := last.(type) {
			case *messages.Failed:
				return b.Error
			case *messages.Done:
				if !g.json {
					_, err = fmt.Fprintf(w, "\n%s\n", b.Answer.Text)
				}
			}
			return f.explain(cmd.Context(), err)
		},
	}
	completeRuns(cmd, g)
	return cmd
}

// follower follows a run through the ends of the nodes that work on it.
type follower struct {
	g    *global
	run  string
	each func(messages.Envelope) error

	last uint64 // the newest record that each was given
}

// follow gives each record to each, and returns the run's last: a Done or a
// Failed. On a data directory that no node runs on it gives those that there are,
// and fails with class unavailable unless the run has ended.
func (f *follower) follow(ctx context.Context) (messages.Body, error) {
	for {
		c, err := cluster.Connect(ctx, f.g.data())
		idle := messages.ClassOf(err) == messages.Unavailable && f.g.url == ""
		if idle {
			if err := f.g.needData(); err != nil {
				return nil, err
			}
			c, err = cluster.Open(ctx, f.g.data())
		}
		if err != nil {
			return nil, err
		}
		last, err := f.records(ctx, c, idle)
		c.Close()
		if messages.ClassOf(err) != messages.Stopping || f.g.url != "" || ctx.Err() != nil {
			return last, err
		}
		select { // the directory's node has ended; another may come
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *follower) records(ctx context.Context, c *cluster.Client, idle bool) (messages.Body, error) {
	info, err := c.Run(ctx, f.run)
	if err != nil {
		return nil, err
	}
	if idle && !hasEnded(info) {
		records, err := c.Read(ctx, f.run)
		for _, e := range records {
			err = errors.Join(err, f.give(e))
		}
		if err == nil {
			err = messages.Errorf(messages.Unavailable, "", "run %s is %s, and no node runs on %s", f.run, info.State, f.g.folder())
		}
		return nil, err
	}
	var last messages.Body
	for e, err := range c.Records(ctx, f.run) {
		if err == nil {
			last, err = e.Body, f.give(e)
		}
		if err != nil {
			return nil, err
		}
	}
	return last, nil
}

func (f *follower) give(e messages.Envelope) error {
	if e.Seq <= f.last {
		return nil
	}
	f.last = e.Seq
	return f.each(e)
}

// explain says what can be done where following ended before the run did.
func (f *follower) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return &exit{exitInterrupted, fmt.Errorf("interrupted; the run is not: covey runs follow %s%s", f.run, f.g.where())}
	case messages.ClassOf(err) == messages.Unavailable && f.g.url == "" && f.last > 0:
		return fmt.Errorf("%w\ngo on with: covey resume %s%s", err, f.run, f.g.where())
	}
	return err
}

// record is a journal record as --json prints it.
type record struct {
	Seq    uint64        `json:"seq"`
	Time   time.Time     `json:"time"`
	Run    string        `json:"run"`
	Writer string        `json:"writer"`
	Step   string        `json:"step,omitempty"`
	Kind   string        `json:"kind"`
	Body   messages.Body `json:"body"`
}

func recordLines(w io.Writer) func(messages.Envelope) error {
	enc := json.NewEncoder(w)
	return func(e messages.Envelope) error {
		return enc.Encode(record{e.Seq, e.Time, e.Run, e.Writer, e.Step, messages.KindOf(e.Body), e.Body})
	}
}

// lines tells each record in words, as the progress of a run does.
func lines(w io.Writer, g *global) func(messages.Envelope) error {
	p := &progress{w: w, where: g.where(), names: 16}
	tools := map[string]string{} // of intents, by key
	return func(e messages.Envelope) error {
		text := p.line(eventOf(e, tools))
		if text == "" {
			text = plainLine(e)
		}
		if text == "" {
			return nil
		}
		_, err := fmt.Fprintln(w, text)
		return err
	}
}

// eventOf is the event that a record goes with; none for what has no event.
func eventOf(e messages.Envelope, tools map[string]string) messages.Event {
	ev := messages.Event{Run: e.Run, Path: e.Writer, Step: e.Step, Time: e.Time}
	call := func(n, i int) string { return fmt.Sprint(e.Writer, " ", e.Step, " ", n, " ", i) }
	switch b := e.Body.(type) {
	case *messages.Begun:
		ev.Kind, ev.Name, ev.Text = messages.RunStarted, b.Task.Team, clip(b.Task.Prompt, 160)
	case *messages.Asked:
		ev.Kind, ev.Name, ev.Step = messages.AskSent, b.Ask.To, b.Ask.Step
	case *messages.Modeled:
		ev.Kind, ev.Name, ev.Text = messages.ModelReplied, b.Model, clip(b.Message.Content, 160)
	case *messages.Intent:
		tools[call(b.N, b.Call)] = b.Tool.Name
		ev.Kind, ev.Name, ev.Text = messages.ToolCalled, b.Tool.Name, clip(string(b.Tool.Arguments), 160)
	case *messages.Result:
		ev.Kind, ev.Name, ev.Text, ev.Error = messages.ToolReturned, tools[call(b.N, b.Call)], clip(b.Output, 160), b.Error
	case *messages.Spoken:
		ev.Kind, ev.Name, ev.Text = messages.SaidEvent, b.Said.From, clip(b.Said.Text, 160)
	case *messages.Answered:
		if b.Reply.Error != nil {
			ev.Kind, ev.Name, ev.Error = messages.AskAnswered, b.Reply.From, b.Reply.Error
		}
	}
	return ev
}

// plainLine tells a record that no event goes with; "" for an answer, which the
// model's reply has told.
func plainLine(e messages.Envelope) string {
	switch b := e.Body.(type) {
	case *messages.Decided:
		return fmt.Sprintf("  = %s is %s", b.Name, clip(string(b.Value), 160))
	case *messages.Timer:
		return fmt.Sprintf("  … waits until %s", b.Until.Local().Format(time.DateTime))
	case *messages.Resolve:
		return fmt.Sprintf("  ? a person says that call %d.%d of step %s by %s did not happen", b.N, b.Call, e.Step, e.Writer)
	case *messages.Reopened:
		return "the run is opened again"
	case *messages.Failed:
		return "the run failed: " + short(b.Error)
	case *messages.Done:
		return "the run is done: " + count(b.Answer.Steps, "step")
	}
	return ""
}

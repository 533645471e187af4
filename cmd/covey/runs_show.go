package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func showCmd(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show RUN",
		Short: "Shows where a run stands",
		Args:  exactly("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error {
				i, err := c.Run(ctx, args[0])
				if err != nil && i.State != messages.RunNewer {
					return err
				}
				if g.json {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(i)
				}
				showRun(cmd.OutOrStdout(), i, g)
				return nil
			})
		},
	}
	completeRuns(cmd, g)
	return cmd
}

func showRun(w io.Writer, i messages.RunInfo, g *global) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-9s "+format+"\n", append([]any{name}, args...)...)
	}
	line("run", "%s", i.Run)
	line("team", "%s", i.Team)
	line("question", "%s", i.Prompt)
	line("state", "%s", stateInWords(i))
	if i.Session != "" {
		line("session", "%s", i.Session)
	}
	line("priority", "%s", i.Priority)
	line("queue", "%s", i.Queue)
	line("steps", "%d", i.Steps)
	if !i.Started.IsZero() { // else only a newer program can tell
		line("started", "%s (%s ago)", i.Started.Local().Format(time.DateTime), ago(i.Started))
		line("last", "%s (%s ago)", i.Last.Local().Format(time.DateTime), ago(i.Last))
	}
	if i.Node != "" {
		line("node", "%s", nodeOf(i))
	}
	for _, member := range slices.Sorted(maps.Keys(i.Placed)) {
		line("placed", "%s on node %s", member, i.Placed[member])
	}
	for _, u := range i.Unsettled {
		showCall(w, i, u, g)
	}
	switch i.State {
	case messages.RunInterrupted, messages.RunWaiting:
		line("go on", "covey resume %s%s", i.Run, g.where())
	case messages.RunFailed:
		line("go on", "covey resume %s%s, once the cause is mended", i.Run, g.where())
	}
	if i.Answer != nil {
		a := *i.Answer
		line("cost", "%s, %d tokens in, %d out", count(a.Usage.Calls, "model call"), a.Usage.InputTokens, a.Usage.OutputTokens)
		fmt.Fprintf(w, "\n%s\n", a.Text)
	}
	if i.Error != nil {
		fmt.Fprintf(w, "\nerror: %s\n", inWords(i.Error))
		for _, o := range i.Error.Others {
			fmt.Fprintf(w, "  before: %s\n", clip(o.Error(), 200))
		}
		if i.Error.Stack != "" {
			fmt.Fprintf(w, "\nwhere it crashed:\n%s\n", strings.TrimSpace(i.Error.Stack))
		}
	}
}

// nodeOf is the run's owner, with the epoch of its lease if it has one.
func nodeOf(i messages.RunInfo) string {
	if i.Epoch == 0 {
		return i.Node
	}
	return fmt.Sprintf("%s, epoch %d", i.Node, i.Epoch)
}

func stateInWords(i messages.RunInfo) string {
	switch i.State {
	case messages.RunQueued:
		return "queued: it waits for a node"
	case messages.RunInterrupted:
		return "interrupted: nobody works on it"
	case messages.RunNewer:
		return "newer: only a newer program can show it, and go on with it"
	case messages.RunWaiting:
		return "waiting: a crash cut off a tool call that may do harm when it is made twice"
	}
	return string(i.State)
}

// showCall tells of a tool call without a result. Where it may need a person's
// word, it says how to give it.
func showCall(w io.Writer, i messages.RunInfo, u messages.Unsettled, g *global) {
	call := fmt.Sprintf("%s %s by %s (step %s)", u.Intent.Tool.Name, clip(string(u.Intent.Tool.Arguments), 80), u.Writer, u.Step)
	switch {
	case i.State == messages.RunDone || i.State == messages.RunFailed:
		fmt.Fprintf(w, "no result %s\n", call)
	case u.Intent.Effect != messages.Unsafe && i.State != messages.RunRunning:
		fmt.Fprintf(w, "cut off   %s: is called again when the run goes on, for it is %s\n", call, u.Intent.Effect)
	case i.State != messages.RunWaiting:
		fmt.Fprintf(w, "under way %s\n", call)
	default:
		at := fmt.Sprintf("covey runs resolve %s %s/%s/%d/%d", i.Run, u.Writer, u.Step, u.Intent.N, u.Intent.Call)
		fmt.Fprintf(w, "cut off   %s\n", call)
		fmt.Fprintln(w, "          a verify command of the tool settles it when the run goes on; without one, a person does:")
		fmt.Fprintf(w, "          it happened       %s --output TEXT%s\n", at, g.where())
		fmt.Fprintf(w, "          it failed         %s --error TEXT%s\n", at, g.where())
		fmt.Fprintf(w, "          it did not start  %s --retry%s\n", at, g.where())
	}
}

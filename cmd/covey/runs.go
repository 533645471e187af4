package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func runsCmd(g *global) *cobra.Command {
	var f runFilter
	var most int
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "Lists runs; shows, follows, cancels, resumes, resolves and purges them",
		Long: `Lists runs, the newest last. A run is

  queued       it waits for a node
  running      a node works on it
  interrupted  nobody works on it
  waiting      a crash cut off a tool call that may do harm when it is made twice
  newer        only a newer program can read it, and go on with it
  done         it ended with an answer
  failed       it ended without one`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if most < 1 {
				return &exit{exitUsage, fmt.Errorf("--most: %d is not allowed: use at least 1", most)}
			}
			if err := f.check(time.Now()); err != nil {
				return &exit{exitUsage, err}
			}
			if g.noData() {
				return printRuns(cmd.OutOrStdout(), g, nil, 0)
			}
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error {
				infos, err := c.Runs(ctx)
				shown := slices.DeleteFunc(infos, func(i messages.RunInfo) bool { return !f.wants(i) })
				left := max(len(shown)-most, 0)
				if perr := printRuns(cmd.OutOrStdout(), g, shown[left:], left); perr != nil {
					return perr
				}
				return err
			})
		},
	}
	f.flags(cmd, g)
	cmd.Flags().IntVar(&most, "most", 50, "how many runs, the newest ones")
	cmd.AddCommand(showCmd(g), followCmd(g), cancelCmd(g), resumeRunCmd(g), resolveCmd(g), purgeCmd(g))
	return cmd
}

// states are those of a run.
var states = []string{
	string(messages.RunQueued), string(messages.RunRunning), string(messages.RunInterrupted),
	string(messages.RunWaiting), string(messages.RunNewer), string(messages.RunDone), string(messages.RunFailed),
}

// runFilter picks runs; what is empty picks all.
type runFilter struct {
	state, team, session, node, since string

	from time.Time
}

func (f *runFilter) flags(cmd *cobra.Command, g *global) {
	fl := cmd.Flags()
	fl.StringVar(&f.state, "state", "", "only runs in this state: "+strings.Join(states, ", "))
	fl.StringVar(&f.team, "team", "", "only runs of this team")
	fl.StringVar(&f.session, "session", "", "only runs of this session")
	fl.StringVar(&f.node, "node", "", "only runs whose owner is, or was last, this node")
	fl.StringVar(&f.since, "since", "", "only runs that began since then: 90m ago, or at 2026-01-31, 2026-01-31T15:04:05Z")
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp))
	completeNodes(cmd, g, "node")
}

func (f *runFilter) check(now time.Time) error {
	if f.state != "" && !slices.Contains(states, f.state) {
		return fmt.Errorf("--state: %q is not allowed: use one of %s", f.state, strings.Join(states, ", "))
	}
	for _, named := range [][2]string{{"--team", f.team}, {"--session", f.session}, {"--node", f.node}} {
		if named[1] == "" {
			continue
		}
		if err := messages.CheckName(named[0], named[1]); err != nil {
			return err
		}
	}
	if f.since == "" {
		return nil
	}
	if d, err := time.ParseDuration(f.since); err == nil && d > 0 {
		f.from = now.Add(-d)
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, f.since, time.Local); err == nil {
			f.from = t
			return nil
		}
	}
	return fmt.Errorf("--since: %q is not allowed: use a positive duration, as 90m, or a time, as 2026-01-31 or 2026-01-31T15:04:05Z", f.since)
}

// wants reports whether a run is among those picked. One that could not be read
// is, whatever is picked: nobody knows.
func (f *runFilter) wants(i messages.RunInfo) bool {
	is := func(want, has string) bool { return want == "" || want == has }
	return i.State == "" || is(f.state, string(i.State)) && is(f.team, i.Team) && is(f.session, i.Session) && is(f.node, i.Node) && !i.Started.Before(f.from)
}

// printRuns prints a list; left is how many older ones are not in it.
func printRuns(w io.Writer, g *global, infos []messages.RunInfo, left int) error {
	if g.json {
		return json.NewEncoder(w).Encode(append([]messages.RunInfo{}, infos...))
	}
	if len(infos) == 0 {
		_, err := fmt.Fprintln(w, "no runs")
		return err
	}
	if left > 0 {
		fmt.Fprintf(w, "(%d older ones not shown: --most)\n", left)
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "RUN\tTEAM\tSTATE\tSTEPS\tSTARTED\tQUESTION")
	for _, i := range infos {
		started := "?"
		if !i.Started.IsZero() {
			started = ago(i.Started) + " ago"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s\t%s\n", i.Run, i.Team, i.State, i.Steps, started, clip(i.Prompt, 60))
	}
	return tw.Flush()
}

func clip(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// completeRuns has the shell complete the first argument with the ids of the
// runs in one of some states; none: of all.
func completeRuns(cmd *cobra.Command, g *global, in ...messages.RunState) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var ids []string
		if len(args) == 0 && !g.noData() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if c, err := cluster.Open(ctx, g.data()); err == nil {
				defer c.Close()
				infos, _ := c.Runs(ctx) // those that can be read
				for _, i := range infos {
					if len(in) == 0 || slices.Contains(in, i.State) {
						ids = append(ids, i.Run+"\t"+clip(i.Prompt, 40))
					}
				}
			}
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

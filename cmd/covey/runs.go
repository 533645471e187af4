package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func runsCmd(g *global) *cobra.Command {
	var state string
	var most int
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "Lists runs; shows, cancels, resolves and purges them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if most < 1 {
				return &exit{exitUsage, fmt.Errorf("--most: %d is not allowed: use at least 1", most)}
			}
			if state != "" && !slices.Contains(states, state) {
				return &exit{exitUsage, fmt.Errorf("--state: %q is not allowed: use one of %s", state, strings.Join(states, ", "))}
			}
			if g.noData() {
				if g.json {
					fmt.Fprintln(cmd.OutOrStdout(), "[]")
				} else {
					listRuns(cmd.OutOrStdout(), nil, 0)
				}
				return nil
			}
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error {
				infos, err := c.Runs(ctx)
				var shown []messages.RunInfo
				for _, i := range infos {
					if state == "" || string(i.State) == state {
						shown = append(shown, i)
					}
				}
				left := max(len(shown)-most, 0)
				shown = shown[left:]
				if g.json {
					if shown == nil {
						shown = []messages.RunInfo{}
					}
					if jerr := json.NewEncoder(cmd.OutOrStdout()).Encode(shown); jerr != nil {
						return jerr
					}
					return err
				}
				listRuns(cmd.OutOrStdout(), shown, left)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only runs in this state: "+strings.Join(states, ", "))
	cmd.Flags().IntVar(&most, "most", 50, "how many runs, the newest ones")
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp))
	cmd.AddCommand(showCmd(g), cancelCmd(g), resolveCmd(g), purgeCmd(g))
	return cmd
}

// states are those of a run.
var states = []string{
	string(messages.RunQueued), string(messages.RunRunning), string(messages.RunInterrupted),
	string(messages.RunWaiting), string(messages.RunDone), string(messages.RunFailed),
}

// noData reports that nothing has run here yet, so that looking leaves no data
// directory behind.
func (g *global) noData() bool {
	if g.url != "" {
		return false
	}
	_, err := os.Stat(g.folder())
	return errors.Is(err, fs.ErrNotExist)
}

// folder is the data directory.
func (g *global) folder() string { return cmp.Or(g.dir, cluster.DefaultDir) }

// data is where a client finds the data.
func (g *global) data() cluster.Config {
	return cluster.Config{Dir: g.dir, URL: g.url, Logger: silent}
}

// client runs do with a client of the node or, if none runs, of its data.
func client(cmd *cobra.Command, g *global, do func(context.Context, *cluster.Client) error) error {
	if g.noData() {
		return fmt.Errorf("nothing has run here: there is no data directory %s (--dir names another)", g.folder())
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	c, err := cluster.Open(ctx, g.data())
	if err != nil {
		return err
	}
	defer c.Close()
	return do(ctx, c)
}

// tell is client for a word to a run. Its node may end on hearing it, before it
// has said that it did; then happened judges by what the run's records say.
func tell(cmd *cobra.Command, g *global, run string, do func(context.Context, *cluster.Client) error, happened func(messages.RunInfo) bool) error {
	err := client(cmd, g, do)
	if messages.ClassOf(err) != messages.Stopping {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(2 * stopWithin)
	for {
		var info messages.RunInfo
		look := client(cmd, g, func(ctx context.Context, c *cluster.Client) (err error) {
			info, err = c.Run(ctx, run)
			return err
		})
		if look == nil && happened(info) {
			return nil
		}
		select {
		case <-tick.C: // its node is about to end
		case <-late:
			return err
		case <-cmd.Context().Done():
			return err
		}
	}
}

func listRuns(w io.Writer, infos []messages.RunInfo, left int) {
	if len(infos) == 0 {
		fmt.Fprintln(w, "no runs")
		return
	}
	if left > 0 {
		fmt.Fprintf(w, "(%d older ones not shown: --most)\n", left)
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "RUN\tTEAM\tSTATE\tSTEPS\tSTARTED\tQUESTION")
	for _, i := range infos {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%s ago\t%s\n", i.Run, i.Team, i.State, i.Steps, ago(i.Started), clip(i.Prompt, 60))
	}
	_ = tw.Flush()
}

func clip(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func showCmd(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "show RUN",
		Short: "Shows where a run stands",
		Args:  exactly("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error {
				i, err := c.Run(ctx, args[0])
				if err != nil {
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
}

func showRun(w io.Writer, i messages.RunInfo, g *global) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-9s "+format+"\n", append([]any{name}, args...)...)
	}
	line("run", "%s", i.Run)
	line("team", "%s", i.Team)
	line("question", "%s", i.Prompt)
	line("state", "%s", stateInWords(i))
	line("steps", "%d", i.Steps)
	line("started", "%s (%s ago)", i.Started.Local().Format(time.DateTime), ago(i.Started))
	line("last", "%s (%s ago)", i.Last.Local().Format(time.DateTime), ago(i.Last))
	if i.Node != "" {
		line("node", "%s", i.Node)
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

func stateInWords(i messages.RunInfo) string {
	switch i.State {
	case messages.RunQueued:
		return "queued: it waits for a node"
	case messages.RunInterrupted:
		return "interrupted: nobody works on it"
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
		fmt.Fprintf(w, "          it did not start  %s --retry%s   (while covey resume waits)\n", at, g.where())
	}
}

func cancelCmd(g *global) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel RUN",
		Short: "Ends a run for good",
		Args:  exactly("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			done := "is canceled"
			err := tell(cmd, g, args[0], func(ctx context.Context, c *cluster.Client) error {
				err := c.Cancel(ctx, args[0], reason)
				if i, look := c.Run(ctx, args[0]); err == nil && look == nil && i.State != messages.RunFailed {
					done = "is told to stop"
				}
				return err
			}, func(i messages.RunInfo) bool { return i.State == messages.RunFailed })
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "run %s %s\n", args[0], done)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return cmd
}

func purgeCmd(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "purge RUN…",
		Short: "Removes runs that have ended, records and all",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error {
				for _, run := range args {
					if err := c.Purge(ctx, run); err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "run %s is removed\n", run)
				}
				return nil
			})
		},
	}
}

func resolveCmd(g *global) *cobra.Command {
	var output, failure string
	var retry bool
	cmd := &cobra.Command{
		Use:   "resolve RUN MEMBER/STEP/REPLY/CALL",
		Short: "Settles a tool call that a crash cut off",
		Long: `Settles a tool call that was begun before a crash and has no result, where calling
it twice may do harm and the tool cannot say whether it took effect. "covey runs
show RUN" lists such calls, with the commands that settle them.`,
		Args: exactly("RUN", "MEMBER/STEP/REPLY/CALL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := parseCall(args[0], args[1])
			if err != nil {
				return &exit{exitUsage, err}
			}
			said := 0
			for _, flag := range []string{"output", "error", "retry"} {
				if cmd.Flags().Changed(flag) {
					said++
				}
			}
			if said != 1 {
				return &exit{exitUsage, fmt.Errorf("say what came of it: exactly one of --output TEXT, --error TEXT and --retry")}
			}
			r.Output, r.Error, r.Retry = output, failure, retry
			idle := false
			err = tell(cmd, g, r.Run, func(ctx context.Context, c *cluster.Client) error {
				err := c.Resolve(ctx, r)
				i, look := c.Run(ctx, r.Run)
				idle = err == nil && look == nil && i.State == messages.RunInterrupted
				return err
			}, func(i messages.RunInfo) bool {
				return !slices.ContainsFunc(i.Unsettled, func(u messages.Unsettled) bool {
					return u.Writer == r.Writer && u.Step == r.Step && u.Intent.N == r.N && u.Intent.Call == r.Call
				})
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "settled: %s of run %s\n", args[1], r.Run)
			if idle {
				fmt.Fprintf(cmd.OutOrStdout(), "go on with: covey resume %s%s\n", r.Run, g.where())
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&output, "output", "", "it took effect, and gave this")
	cmd.Flags().StringVar(&failure, "error", "", "it failed, with this")
	cmd.Flags().BoolVar(&retry, "retry", false, "it did not take effect: call it (again)")
	return cmd
}

// parseCall reads member/step/reply/call, where the member may be a path.
func parseCall(run, at string) (messages.Resolve, error) {
	r := messages.Resolve{Run: run}
	parts := strings.Split(at, "/")
	if len(parts) >= 4 {
		n := len(parts)
		r.Writer, r.Step = strings.Join(parts[:n-3], "/"), parts[n-3]
		if _, err := fmt.Sscanf(parts[n-2]+" "+parts[n-1], "%d %d", &r.N, &r.Call); err == nil {
			return r, nil
		}
	}
	return r, fmt.Errorf("%q names no tool call: use MEMBER/STEP/REPLY/CALL, as `covey runs show %s` prints it", at, run)
}

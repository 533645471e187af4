package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
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
	cmd.Flags().StringVar(&state, "state", "", "only runs in this state: queued, running, interrupted, waiting, done or failed")
	cmd.Flags().IntVar(&most, "most", 50, "how many runs, the newest ones")
	cmd.AddCommand(showCmd(g), cancelCmd(g), resolveCmd(g), purgeCmd(g))
	return cmd
}

// client runs do with a client of the node or, if none runs, of its data.
func client(cmd *cobra.Command, g *global, do func(context.Context, *cluster.Client) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	c, err := cluster.Open(ctx, cluster.Config{Dir: g.dir, URL: g.url})
	if err != nil {
		return err
	}
	defer c.Close()
	return do(ctx, c)
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
		Args:  cobra.ExactArgs(1),
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
	fmt.Fprintf(w, "run       %s\nteam      %s\nquestion  %s\nstate     %s\nsteps     %d\nstarted   %s\nlast      %s\n",
		i.Run, i.Team, i.Prompt, i.State, i.Steps, i.Started.Local().Format(time.DateTime), i.Last.Local().Format(time.DateTime))
	if i.Node != "" {
		fmt.Fprintf(w, "node      %s\n", i.Node)
	}
	for _, u := range i.Unsettled {
		fmt.Fprintf(w, "unsettled %s by %s %s: a crash may have cut it off\n", u.Intent.Tool.Name, u.Writer, clip(string(u.Intent.Tool.Arguments), 80))
		at := fmt.Sprintf("%s %s/%s/%d/%d", i.Run, u.Writer, u.Step, u.Intent.N, u.Intent.Call)
		fmt.Fprintf(w, "          it happened:      covey runs resolve %s --output TEXT%s\n", at, g.where())
		fmt.Fprintf(w, "          it failed:        covey runs resolve %s --error TEXT%s\n", at, g.where())
		fmt.Fprintf(w, "          it did not start: covey runs resolve %s --retry%s (while the run is resumed)\n", at, g.where())
	}
	if i.Error != nil {
		fmt.Fprintf(w, "error     %s\n", i.Error)
		if i.Error.Stack != "" {
			fmt.Fprintf(w, "\n%s\n", i.Error.Stack)
		}
	}
	if i.Answer != nil {
		fmt.Fprintf(w, "\n%s\n", i.Answer.Text)
	}
}

func cancelCmd(g *global) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel RUN",
		Short: "Ends a run for good",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error {
				return c.Cancel(ctx, args[0], reason)
			})
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
		Args: cobra.ExactArgs(2),
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
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error { return c.Resolve(ctx, r) })
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

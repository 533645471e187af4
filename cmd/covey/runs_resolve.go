package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

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
			var stands messages.RunInfo
			err = tell(cmd, g, r.Run, func(ctx context.Context, c *cluster.Client) error {
				err := c.Resolve(ctx, r)
				if i, look := c.Run(ctx, r.Run); err == nil && look == nil {
					stands = i
				}
				return err
			}, func(i messages.RunInfo) bool {
				stands = i
				return !slices.ContainsFunc(i.Unsettled, func(u messages.Unsettled) bool {
					return u.Writer == r.Writer && u.Step == r.Step && u.Intent.N == r.N && u.Intent.Call == r.Call
				})
			})
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(stands)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "settled: %s of run %s\n", args[1], r.Run)
			if stands.State == messages.RunInterrupted {
				fmt.Fprintf(cmd.OutOrStdout(), "go on with: covey resume %s%s\n", r.Run, g.where())
			}
			return nil
		},
	}
	completeRuns(cmd, g, messages.RunWaiting)
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

package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func cancelCmd(g *global) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel RUN",
		Short: "Ends a run for good",
		Args:  exactly("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			stands := messages.RunInfo{Run: args[0], State: messages.RunFailed}
			err := tell(cmd, g, args[0], func(ctx context.Context, c *cluster.Client) error {
				err := c.Cancel(ctx, args[0], reason)
				if i, look := c.Run(ctx, args[0]); err == nil && look == nil {
					stands = i
				}
				return err
			}, func(i messages.RunInfo) bool { stands = i; return i.State == messages.RunFailed })
			if err != nil {
				return err
			}
			if g.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(stands)
			}
			done := "is canceled"
			if stands.State != messages.RunFailed {
				done = "is told to stop"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "run %s %s\n", args[0], done)
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	completeRuns(cmd, g, messages.RunQueued, messages.RunRunning, messages.RunInterrupted, messages.RunWaiting)
	return cmd
}

package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func resumeRunCmd(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Puts a run back into the queue, for the nodes to go on with",
		Long: `Has the nodes go on with a run that was interrupted, or that failed: a failed one
is opened again, and its task is put into the queue again. It returns at once, and
works on nothing itself ("covey resume RUN" does). A run that a node works on is
left alone.`,
		Args: exactly("RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return client(cmd, g, func(ctx context.Context, c *cluster.Client) error {
				i, err := c.Resume(ctx, args[0])
				if err != nil {
					return err
				}
				warnUnserved(ctx, cmd, c, i.Queue)
				if g.json {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(i)
				}
				where := "is in the queue again"
				if i.State == messages.RunRunning {
					where = "is running on node " + i.Node
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "run %s %s\n", i.Run, where)
				return err
			})
		},
	}
	completeRuns(cmd, g, messages.RunFailed, messages.RunInterrupted, messages.RunWaiting)
	return cmd
}

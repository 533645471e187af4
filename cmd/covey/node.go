package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func nodeCmd(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Drains a node",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(drainCmd(g))
	return cmd
}

func drainCmd(g *global) *cobra.Command {
	var waits bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Has a node take nothing more, and hand over what it has",
		Long: `Has a node take nothing more, and hand over what it has: each of its runs goes to
another node as soon as the steps under way are done, and those are in the journal
and are not paid for again. The node stays up, idle, until it is stopped; to have
it take tasks again, restart it.`,
		Args: exactly("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := messages.CheckName("NODE", args[0]); err != nil {
				return &exit{exitUsage, err}
			}
			if timeout <= 0 {
				return &exit{exitUsage, fmt.Errorf("--timeout: %s is not allowed: use a positive duration, as 90s", timeout)}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return nodeClient(ctx, g, func(c *cluster.Client) error { return drain(ctx, cmd, g, c, args[0], waits) })
		},
	}
	cmd.ValidArgsFunction = nodeNames(g)
	cmd.Flags().BoolVar(&waits, "wait", false, "wait until it has nothing left")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "with --wait: give up waiting after this time; the node drains on")
	return cmd
}

// nodeClient runs do with a client of nodes that run.
func nodeClient(ctx context.Context, g *global, do func(*cluster.Client) error) error {
	c, err := cluster.Connect(ctx, g.data())
	if messages.ClassOf(err) == messages.Unavailable && g.url == "" {
		return fmt.Errorf("no node runs on %s (--dir and --nats name others)", g.folder())
	}
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}

func drain(ctx context.Context, cmd *cobra.Command, g *global, c *cluster.Client, node string, waits bool) error {
	left, err := c.Drain(ctx, node)
	if err != nil {
		return err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for waits && left.Runs+left.Guests > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			if cmd.Context().Err() != nil {
				return &exit{exitInterrupted, fmt.Errorf("interrupted; node %s drains on", node)}
			}
			return fmt.Errorf("node %s still has %s and %s; it drains on", node, count(left.Runs, "run"), count(left.Guests, "guest"))
		}
		left, err = c.Drain(ctx, node)
		if messages.ClassOf(err) == messages.Unavailable {
			fmt.Fprintf(cmd.ErrOrStderr(), "node %s has ended\n", node)
			left = messages.NodeInfo{Node: node, Draining: true}
		} else if err != nil && ctx.Err() == nil {
			return err
		}
	}
	if g.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(left)
	}
	if left.Runs+left.Guests == 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "node %s is drained: it has nothing left\n", node)
		return nil
	}
	fmt.Fprintf(cmd.OutOrStdout(), "node %s drains: it hands over %s and %s\n", node, count(left.Runs, "run"), count(left.Guests, "guest"))
	return nil
}

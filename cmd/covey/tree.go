package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func treeCmd(g *global) *cobra.Command {
	var watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "tree",
		Short: "Shows the live supervision tree of a running node",
		Long: `Shows the live supervision tree of the node that runs on the data directory (or of
all nodes on --nats): name, kind, state, restarts in the window, mailbox, current
step, last failure and its class.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 50*time.Millisecond {
				return &exit{exitUsage, fmt.Errorf("--every: %s is not allowed: use at least 50ms", every)}
			}
			ctx := cmd.Context()
			c, err := cluster.Connect(ctx, cluster.Config{Dir: g.dir, URL: g.url, Logger: silent})
			if messages.ClassOf(err) == messages.Unavailable && g.url == "" {
				return fmt.Errorf("no node runs on %s: a tree lives as long as a run or a node does (--dir and --nats name others)", g.data())
			}
			if err != nil {
				return err
			}
			defer c.Close()
			if !watch {
				return drawTree(ctx, c, g, cmd.OutOrStdout())
			}
			return watchTree(ctx, c, g, cmd, every)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "draw it again and again, until Ctrl-C or the node's end")
	cmd.Flags().DurationVar(&every, "every", 500*time.Millisecond, "how often --watch draws")
	return cmd
}

func drawTree(ctx context.Context, c *cluster.Client, g *global, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	trees, err := c.Tree(ctx)
	if err != nil {
		return err
	}
	if g.json {
		return json.NewEncoder(w).Encode(trees)
	}
	for _, t := range trees {
		printTree(w, t, time.Now())
	}
	return nil
}

// watchTree draws until it is interrupted, or nobody answers any more.
func watchTree(ctx context.Context, c *cluster.Client, g *global, cmd *cobra.Command, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for drawn := 0; ; drawn++ {
		var b strings.Builder
		if err := drawTree(ctx, c, g, &b); err != nil {
			switch {
			case ctx.Err() != nil:
				return nil
			case drawn > 0:
				fmt.Fprintln(cmd.ErrOrStderr(), "the node has ended")
				return nil
			}
			return err
		}
		clear := ""
		if !g.json {
			clear = "\x1b[H\x1b[2J"
		}
		if _, err := fmt.Fprint(cmd.OutOrStdout(), clear, b.String()); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// printTree draws a tree as a table.
func printTree(w io.Writer, t messages.TreeNode, now time.Time) {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "ACTOR\tKIND\tSTATE\tRESTARTS\tMAILBOX\tSTEP\tLAST FAILURE")
	treeRow(tw, t, "", "", now)
	_ = tw.Flush()
	for l := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(l, " \n"))
	}
}

func treeRow(w io.Writer, t messages.TreeNode, first, rest string, now time.Time) {
	state := string(t.State)
	if d := t.Until.Sub(now); !t.Until.IsZero() && d > 0 {
		state += " for " + wait(d)
	}
	restarts := fmt.Sprint(t.Restarts)
	if t.Total > t.Restarts {
		restarts += fmt.Sprintf(" (%d in all)", t.Total)
	}
	failure := ""
	if t.LastFailure != nil {
		failure = fmt.Sprintf("%s ago: %s", now.Sub(t.FailedAt).Round(time.Second), short(t.LastFailure))
	}
	fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%d\t%s\t%s\n", first, t.Name, t.Kind, state, restarts, t.Mailbox, doing(t), failure)
	for i, c := range t.Children {
		branch, below := "├─ ", "│  "
		if i == len(t.Children)-1 {
			branch, below = "└─ ", "   "
		}
		treeRow(w, c, rest+branch, rest+below, now)
	}
}

// doing is an actor's step and whatever else it says of itself.
func doing(t messages.TreeNode) string {
	parts := []string{}
	if t.Step != "" {
		parts = append(parts, t.Step)
	}
	for _, k := range slices.Sorted(maps.Keys(t.Detail)) {
		parts = append(parts, strings.ReplaceAll(k, "_", " ")+" "+t.Detail[k])
	}
	return strings.Join(parts, ", ")
}

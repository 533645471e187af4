package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func nodesCmd(g *global) *cobra.Command {
	var f watching
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "Lists the nodes, and how each is",
		Long: `Lists every node: on --nats all that have a lease, else the one that runs on the
data directory. A node is

  ready      it takes tasks
  draining   it takes nothing more, and hands over what it has
  no answer  it has a lease and did not answer within a second: it is frozen, cut
             off, or has just died; the rest of its line is what it said last
  gone       with --watch: it was there at the last look`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			seen := vanished{}
			return f.show(cmd, g, "there is no node to list", func(ctx context.Context, c *cluster.Client, w io.Writer) error {
				return drawNodes(ctx, c, g, seen, w)
			})
		},
	}
	f.flags(cmd, "")
	return cmd
}

func drawNodes(ctx context.Context, c *cluster.Client, g *global, seen vanished, w io.Writer) error {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, name := range seen.since(names(nodes)) {
		nodes = append(nodes, cluster.NodeState{NodeInfo: messages.NodeInfo{Node: name}, State: cluster.NodeGone})
	}
	slices.SortFunc(nodes, func(a, b cluster.NodeState) int { return strings.Compare(a.Node, b.Node) })
	if g.json {
		return json.NewEncoder(w).Encode(nodes)
	}
	if len(nodes) == 0 {
		_, err := fmt.Fprintln(w, "no nodes")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "NODE\tSTATE\tEPOCH\tPOOLS\tRUNS\tGUESTS\tLOAD\tQUEUES\tTOOLS\tVERSION\tUP\tSEEN")
	for _, n := range nodes {
		if n.State == cluster.NodeGone {
			fmt.Fprintf(tw, "%s\t%s\t-\t-\t-\t-\t-\t-\t-\t-\t-\t-\n", n.Node, n.State)
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d/%d\t%d/%d\t%.0f%%\t%s\t%s\t%s\t%s\t%s ago\n", n.Node, n.State,
			epoch(n.Epoch), list(n.Pools), n.Runs, n.MaxRuns, n.Guests, n.MaxGuests,
			100*n.Load(), list(n.Queues), list(n.Tools), n.Version, ago(n.Started), wait(time.Since(n.At)))
	}
	return tw.Flush()
}

// epoch is a lease's, "-" for none.
func epoch(e uint64) string {
	if e == 0 {
		return "-"
	}
	return strconv.FormatUint(e, 10)
}

func list(names []string) string { return cmp.Or(strings.Join(names, ","), "-") }

func names(nodes []cluster.NodeState) (all []string) {
	for _, n := range nodes {
		all = append(all, n.Node)
	}
	return all
}

// completeNodes has the shell complete a flag with the names of the nodes.
func completeNodes(cmd *cobra.Command, g *global, flag string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, nodeNames(g))
}

// nodeNames completes with the names of the nodes that are there.
func nodeNames(g *global) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var all []string
		if len(args) == 0 {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if c, err := cluster.Connect(ctx, g.data()); err == nil {
				defer c.Close()
				nodes, _ := c.Nodes(ctx) // no names, no completion
				all = names(nodes)
			}
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

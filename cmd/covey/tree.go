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
	var f watching
	var only string
	cmd := &cobra.Command{
		Use:   "tree",
		Short: "Shows the live supervision tree of the nodes",
		Long: `Shows the live supervision tree of the node that runs on the data directory, or of
all nodes on --nats as one: name, kind, state, restarts in the window, mailbox,
current step, last failure and its class. A member that lives on another node than
its run stands under its run. A node that does not answer within a second is
"unresponsive", and with --watch one that has vanished is shown once more, "gone".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if only != "" {
				if err := messages.CheckName("--node", only); err != nil {
					return &exit{exitUsage, err}
				}
			}
			seen := vanished{}
			return f.show(cmd, g, "a tree lives as long as a run or a node does", func(ctx context.Context, c *cluster.Client, w io.Writer) error {
				return drawTree(ctx, c, g, only, seen, w)
			})
		},
	}
	f.flags(cmd, ", or the end of the node on the data directory")
	cmd.Flags().StringVar(&only, "node", "", "this node as it is: members of other nodes' runs stand under its guests")
	completeNodes(cmd, g, "node")
	return cmd
}

func drawTree(ctx context.Context, c *cluster.Client, g *global, only string, seen vanished, w io.Writer) error {
	var trees []messages.TreeNode
	var err error
	if only != "" {
		var t messages.TreeNode
		t, err = c.NodeTree(ctx, only)
		trees = []messages.TreeNode{t}
	} else {
		trees, err = c.Tree(ctx)
	}
	if err != nil {
		return err
	}
	var names []string
	for _, t := range trees {
		names = append(names, t.Name)
	}
	for _, name := range seen.since(names) {
		trees = append(trees, messages.TreeNode{Name: name, Kind: "node", State: messages.State(cluster.NodeGone)})
	}
	slices.SortFunc(trees, func(a, b messages.TreeNode) int { return strings.Compare(a.Name, b.Name) })
	if g.json {
		return json.NewEncoder(w).Encode(trees)
	}
	printTrees(w, trees, time.Now())
	return nil
}

// printTrees draws trees as one table.
func printTrees(w io.Writer, trees []messages.TreeNode, now time.Time) {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "ACTOR\tKIND\tSTATE\tRESTARTS\tMAILBOX\tSTEP\tLAST FAILURE")
	for _, t := range trees {
		treeRow(tw, t, "", "", now)
	}
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

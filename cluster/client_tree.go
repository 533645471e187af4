package cluster

import (
	"context"
	"slices"
	"strings"

	"github.com/covey-run/covey/messages"
)

// Tree asks every node for its supervision tree, and returns them by name, as
// one: a member that lives on another node than its run stands under its run,
// with what is below it there. A node that has a lease and does not answer within
// a second is there without children, unresponsive. No node at all is an error of
// class unavailable.
func (c *Client) Tree(ctx context.Context) ([]messages.TreeNode, error) {
	roster, err := c.roster(ctx)
	if err != nil {
		return nil, err
	}
	var trees []messages.TreeNode
	err = c.gather(ctx, verbTree, roster, func(b messages.Body) string {
		t, ok := b.(*messages.TreeNode)
		if !ok {
			return ""
		}
		trees = append(trees, *t)
		return t.Name
	})
	if err != nil {
		return nil, err
	}
	for _, i := range roster {
		if !slices.ContainsFunc(trees, func(t messages.TreeNode) bool { return t.Name == i.Node }) {
			trees = append(trees, messages.TreeNode{Name: i.Node, Kind: "node", State: messages.Unresponsive, Since: i.Started})
		}
	}
	if len(trees) == 0 {
		return nil, messages.Errorf(messages.Unavailable, "tree", "no node is there")
	}
	slices.SortFunc(trees, func(a, b messages.TreeNode) int { return strings.Compare(a.Name, b.Name) })
	graft(trees)
	return trees, nil
}

// NodeTree is one node's supervision tree as it is, its guests apart. Class
// unavailable: there is no such node; timeout: it does not answer.
func (c *Client) NodeTree(ctx context.Context, node string) (messages.TreeNode, error) {
	b, err := c.ask(ctx, node, verbTree)
	if err != nil {
		return messages.TreeNode{}, err
	}
	t, ok := b.(*messages.TreeNode)
	if !ok {
		return messages.TreeNode{}, messages.Errorf(messages.Invalid, "node "+node, "it answers with a %s", messages.KindOf(b))
	}
	return *t, nil
}

// The names in a tree that placed members go by.
const (
	runsName   = "runs"
	guestsName = "guests"
	// detailNode is where the proxy of a placed member says which node it is on.
	detailNode = "node"
)

// graft moves each guest to where its proxy stands in its run's tree. One whose
// proxy is not there stays.
func graft(trees []messages.TreeNode) {
	guests := map[string]*messages.TreeNode{} // by node and name
	for i := range trees {
		if g := below(&trees[i], guestsName); g != nil {
			for k := range g.Children {
				guests[trees[i].Name+"/"+g.Children[k].Name] = &g.Children[k]
			}
		}
	}
	taken := map[*messages.TreeNode]bool{}
	var walk func(t *messages.TreeNode, path string)
	walk = func(t *messages.TreeNode, path string) {
		if on := t.Detail[detailNode]; on != "" {
			if g := guests[on+"/"+path]; g != nil && !taken[g] {
				taken[g] = true
				takeOn(t, *g)
			}
		}
		for i := range t.Children {
			walk(&t.Children[i], path+"."+t.Children[i].Name)
		}
	}
	for i := range trees {
		if runs := below(&trees[i], runsName); runs != nil {
			for k := range runs.Children {
				walk(&runs.Children[k], runs.Children[k].Name)
			}
		}
	}
	for i := range trees {
		g := below(&trees[i], guestsName)
		if g == nil {
			continue
		}
		var left []messages.TreeNode
		for k := range g.Children {
			if !taken[&g.Children[k]] {
				left = append(left, g.Children[k])
			}
		}
		g.Children = left
	}
}

// takeOn gives a proxy what its guest says of itself. Restarts and failures are
// the proxy's own: its supervisor counts them.
func takeOn(proxy *messages.TreeNode, guest messages.TreeNode) {
	if proxy.State == messages.Idle || proxy.State == messages.Running {
		proxy.State = guest.State
	}
	if guest.Step != "" {
		proxy.Step = guest.Step
	}
	if !guest.Until.IsZero() {
		proxy.Until = guest.Until
	}
	proxy.Mailbox += guest.Mailbox
	for k, v := range guest.Detail {
		if proxy.Detail[k] == "" {
			proxy.Detail[k] = v
		}
	}
	proxy.Children = append(proxy.Children, guest.Children...)
}

func below(t *messages.TreeNode, name string) *messages.TreeNode {
	for i := range t.Children {
		if t.Children[i].Name == name {
			return &t.Children[i]
		}
	}
	return nil
}

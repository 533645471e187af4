package cluster

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
)

// heldModel tells of each call, and answers it when it is told to.
type heldModel struct{ asked, answer chan struct{} }

func newHeldModel() *heldModel {
	return &heldModel{make(chan struct{}, 16), make(chan struct{}, 16)}
}

func (m *heldModel) Stream(ctx context.Context, _ *provider.Request) iter.Seq2[provider.Chunk, error] {
	return func(yield func(provider.Chunk, error) bool) {
		m.asked <- struct{}{}
		select {
		case <-m.answer:
			yield(provider.Chunk{Text: "well", Stop: messages.StopEnd, Model: "held", Usage: messages.Usage{Calls: 1}}, nil)
		case <-ctx.Done():
			yield(provider.Chunk{}, messages.AsError(ctx.Err(), messages.Canceled, "held"))
		}
	}
}

func (m *heldModel) providers() map[string]provider.Factory {
	return map[string]provider.Factory{"held": func(string) (provider.Model, error) { return m, nil }}
}

var heldTeam = actors.Team{Name: "pair", Plan: plan.Pipeline{}, Members: []actors.Member{
	actors.Agent{Name: "one", Model: "held"}, actors.Agent{Name: "two", Model: "held"},
}}

// await receives, within the test's time.
func await(t *testing.T, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-testCtx(t).Done():
		t.Fatal("never")
	}
}

// TestDrainHandsOver drains the node that works on a run: another one goes on
// with it, and makes no call again that is in the journal.
func TestDrainHandsOver(t *testing.T) {
	ctx := testCtx(t)
	url, _ := listen(t, t.TempDir(), freePort(t))
	m := newHeldModel()
	cfg := Config{URL: url, Name: "a", Pools: []string{"eu"}, Models: m.providers()}
	a := startNode(t, cfg)
	must(a.Submit(ctx, heldTeam, messages.Task{ID: "r", Prompt: "Why?"}))(t)
	await(t, m.asked)
	cfg.Name = "b"
	b := startNode(t, cfg)
	ok(t, b.Serve(ctx, heldTeam))

	if i := must(b.Client().Drain(ctx, "a"))(t); !i.Draining || i.Runs != 1 {
		t.Fatalf("%+v", i)
	}
	nodes := must(b.Client().Nodes(ctx))(t)
	if len(nodes) != 2 || nodes[0].State != NodeDraining || nodes[0].Runs != 1 || len(nodes[0].Queues) != 0 {
		t.Fatalf("%+v", nodes)
	}
	if n := nodes[1]; n.State != NodeReady || !slices.Contains(n.Queues, "pair") || !slices.Equal(n.Pools, []string{"eu"}) || n.PID == 0 || n.MaxRuns != 16 || n.MaxGuests != 256 {
		t.Fatalf("%+v", n)
	}
	m.answer <- struct{}{} // the step under way is done
	await(t, m.asked)      // and the next one begins elsewhere
	ok(t, a.Drain(ctx))
	if i := must(b.Client().Run(ctx, "r"))(t); i.Node != "b" {
		t.Errorf("%+v", i)
	}
	m.answer <- struct{}{}
	for e, err := range b.Client().Records(ctx, "r") {
		ok(t, err)
		if d, is := e.Body.(*messages.Done); is && d.Answer.Usage.Calls != 2 {
			t.Errorf("%+v", d.Answer)
		}
	}
	wantClass(t, a.Serve(ctx, heldTeam), messages.Stopping, "drains")
	_, err := b.Client().Drain(ctx, "c")
	wantClass(t, err, messages.Unavailable, `node "c" is not there; there are a, b`)
}

// TestNodesNamesTheSilent: a node that has a lease and does not answer is in the
// list of nodes and in the tree.
func TestNodesNamesTheSilent(t *testing.T) {
	ctx := testCtx(t)
	url, _ := listen(t, t.TempDir(), freePort(t))
	nc := dialURL(t, url)
	js := must(jetStream(nc))(t)
	kv := must(js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: leaseBucket}))(t)
	lease := func(name string) {
		b := must(json.Marshal(messages.NodeInfo{Node: name, Epoch: 7, Started: time.Now()}))(t)
		must(kv.Put(ctx, name, b))(t)
	}
	lease("frozen")
	lease("over")
	ok(t, kv.Delete(ctx, "over"))
	c := must(Open(ctx, Config{URL: url}))(t)
	t.Cleanup(c.Close)
	nodes := must(c.Nodes(ctx))(t)
	if len(nodes) != 1 || nodes[0].Node != "frozen" || nodes[0].State != NodeSilent || nodes[0].Epoch != 7 {
		t.Fatalf("%+v", nodes)
	}
	trees := must(c.Tree(ctx))(t)
	if len(trees) != 1 || trees[0].Name != "frozen" || trees[0].State != messages.Unresponsive || trees[0].Kind != "node" {
		t.Fatalf("%+v", trees)
	}
	_, err := c.Drain(ctx, "frozen")
	wantClass(t, err, messages.Unavailable, "has a lease and is not connected")
}

func TestGraft(t *testing.T) {
	node := func(name, kind string, children ...messages.TreeNode) messages.TreeNode {
		return messages.TreeNode{Name: name, Kind: kind, State: messages.Idle, Children: children}
	}
	proxy := node("critic", "agent")
	proxy.Detail, proxy.Restarts = map[string]string{"node": "b"}, 3
	guest := node("r1.press.critic", "guest", node("search", "tool"))
	guest.State, guest.Step, guest.Mailbox, guest.Detail = messages.Running, "step 2", 1, map[string]string{"model": "m"}
	trees := []messages.TreeNode{
		node("a", "node", node("runs", "supervisor", node("r1", "run", node("press", "team", proxy)))),
		node("b", "node", node("guests", "supervisor", guest, node("r9.critic", "guest"))),
	}
	graft(trees)
	got := trees[0].Children[0].Children[0].Children[0].Children[0]
	if got.Name != "critic" || got.State != messages.Running || got.Step != "step 2" || got.Mailbox != 1 || got.Restarts != 3 ||
		got.Detail["node"] != "b" || got.Detail["model"] != "m" || len(got.Children) != 1 || got.Children[0].Name != "search" {
		t.Errorf("%+v", got)
	}
	if left := trees[1].Children[0].Children; len(left) != 1 || left[0].Name != "r9.critic" {
		t.Errorf("%+v", left)
	}
}

// TestTreeSpansNodes: a member that lives on another node stands in its run, with
// what is below it there.
func TestTreeSpansNodes(t *testing.T) {
	ctx := testCtx(t)
	url, _ := listen(t, t.TempDir(), freePort(t))
	m := newHeldModel()
	look := tool.Must(tool.New("look", "looks", func(context.Context, struct{}) (string, error) { return "", nil }, tool.Pure))
	team := actors.Team{Name: "pair", Plan: plan.Pipeline{}, Members: []actors.Member{
		actors.Agent{Name: "one", Model: "held", Pool: "far", Tools: []tool.Tool{look}}, actors.Agent{Name: "two", Model: "held"},
	}}
	a := startNode(t, Config{URL: url, Name: "a", Models: m.providers()})
	b := startNode(t, Config{URL: url, Name: "b", Pools: []string{"far"}, Models: m.providers()})
	b.mu.Lock()
	b.members["pair"] = team // known, and not served
	b.mu.Unlock()
	run := must(a.Submit(ctx, team, messages.Task{ID: "r", Prompt: "Why?"}))(t)
	await(t, m.asked)
	trees := must(b.Client().Tree(ctx))(t)
	if len(trees) != 2 || trees[0].Name != "a" || trees[1].Name != "b" {
		t.Fatalf("%+v", trees)
	}
	at := &trees[0]
	for _, name := range []string{"runs", "r", "one"} {
		if at = below(at, name); at == nil {
			t.Fatalf("no %s in %+v", name, trees[0])
		}
	}
	if at.Detail["node"] != "b" || at.State != messages.Running || len(at.Children) == 0 {
		t.Errorf("%+v", at)
	}
	if g := below(&trees[1], guestsName); g != nil && len(g.Children) > 0 {
		t.Errorf("it is still on b: %+v", g)
	}
	own := must(a.Client().NodeTree(ctx, "b"))(t)
	if g := below(&own, guestsName); g == nil || len(g.Children) != 1 || g.Children[0].Name != "r.one" {
		t.Errorf("%+v", own)
	}
	if i := must(b.Client().Run(ctx, "r"))(t); i.Placed["one"] != "b" {
		t.Errorf("%+v", i)
	}
	m.answer <- struct{}{}
	m.answer <- struct{}{}
	must(run.Wait(ctx))(t)
}

package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/plan"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/internal/certs"
	"github.com/covey-run/covey/messages"
)

// clusterCtx ends after two minutes: three servers on a busy machine take their
// time.
func clusterCtx(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// certsFor makes a folder of certificates for nodes on loopback.
func certsFor(t testing.TB, names ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs")
	var nodes []certs.Spec
	for _, n := range names {
		nodes = append(nodes, certs.Spec{Name: n})
	}
	must(certs.Init(dir, nodes, 0))(t)
	return dir
}

// clusterConfigs are those of so many nodes with embedded servers on loopback:
// n1, n2 and so on.
func clusterConfigs(t testing.TB, n int) []Config {
	t.Helper()
	var names, routes []string
	for i := range n {
		names = append(names, fmt.Sprint("n", i+1))
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	}
	dir := certsFor(t, names...)
	var all []Config
	for i, name := range names {
		all = append(all, Config{
			Name: name, Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Cluster: &ClusterConfig{Listen: fmt.Sprintf("127.0.0.1:%d", freePort(t)), Routes: routes[i], Peers: routes, Certs: dir},
		})
	}
	return all
}

// startAll starts the nodes at once, as none is ready without others.
func startAll(t testing.TB, cfgs []Config) []*Node {
	t.Helper()
	ctx := clusterCtx(t)
	nodes, errs := make([]*Node, len(cfgs)), make([]error, len(cfgs))
	var wg sync.WaitGroup
	for i, cfg := range cfgs {
		wg.Go(func() { nodes[i], errs[i] = Start(ctx, cfg) })
	}
	wg.Wait()
	for i, n := range nodes {
		if n != nil {
			t.Cleanup(func() { _ = n.Stop(clusterCtx(t)) })
		}
		ok(t, errs[i])
	}
	return nodes
}

func leaderOf(t testing.TB, ctx context.Context, n *Node, stream string) (leader string, replicas int) {
	t.Helper()
	s := must(n.client.journal.js.Stream(ctx, stream))(t)
	for info := s.CachedInfo(); ; info = must(s.Info(ctx))(t) {
		if info.Cluster != nil && info.Cluster.Leader != "" {
			return info.Cluster.Leader, info.Config.Replicas
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A run goes on while the node that leads the journal is stopped, and comes to
// its end. It can be read from every node that is left.
func TestThreeNodes(t *testing.T) {
	t.Parallel()
	cfgs := clusterConfigs(t, 3)
	cfgs[0].Durability, cfgs[1].Durability, cfgs[2].Durability = SurvivePower, SurvivePower, SurvivePower
	called, goOn := make(chan struct{}, 1), make(chan struct{})
	wait := tool.Must(tool.New("wait", "waits", func(ctx context.Context, in struct{}) (string, error) {
		called <- struct{}{}
		select {
		case <-goOn:
			return "waited", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}, tool.Pure))
	model := scripted.Of(
		scripted.Rule{When: scripted.When{Result: "wait"}, Reply: scripted.Reply{Text: "It waited."}},
		scripted.Rule{Reply: scripted.Reply{ToolCalls: []scripted.ToolCall{{Name: "wait", Arguments: map[string]any{}}}}},
	)
	for i := range cfgs {
		cfgs[i].Models = map[string]provider.Factory{"scripted": func(string) (provider.Model, error) { return model, nil }}
	}
	nodes := startAll(t, cfgs)
	ctx := clusterCtx(t)
	names := must(jetStream(nodes[0].nc))(t).StreamNames(ctx)
	for name := range names.Name() {
		if _, r := leaderOf(t, ctx, nodes[0], name); r != 3 {
			t.Errorf("stream %s has %d replicas", name, r)
		}
	}
	ok(t, names.Err())

	leader, _ := leaderOf(t, ctx, nodes[0], journalStream)
	var leads, works, watches *Node
	for _, n := range nodes {
		switch {
		case n.Name() == leader:
			leads = n
		case works == nil:
			works = n
		default:
			watches = n
		}
	}
	team := actors.Team{Name: "pair", Plan: plan.RoundTable{}, Members: []actors.Member{
		actors.Agent{Name: "a", Model: "scripted", Tools: []tool.Tool{wait}}, actors.Agent{Name: "b", Model: "scripted", Tools: []tool.Tool{wait}},
	}}
	run := must(works.Submit(ctx, team, messages.Task{ID: "r1", Prompt: "Wait."}))(t)
	<-called
	ok(t, leads.Stop(ctx))
	close(goOn)
	go func() {
		for {
			select {
			case <-called:
			case <-ctx.Done():
				return
			}
		}
	}()
	ans := must(run.Wait(ctx))(t)
	if !strings.Contains(ans.Text, "waited") {
		t.Errorf("%+v", ans)
	}
	info := must(watches.client.Run(ctx, "r1"))(t)
	if info.State != messages.RunDone {
		t.Errorf("%+v", info)
	}
	if now, _ := leaderOf(t, ctx, watches, journalStream); now == leader {
		t.Errorf("%s still leads", now)
	}

	// The directory of a server of a cluster is opened as nothing else.
	cfg := Config{Dir: leads.cfg.Dir}
	_, err := Open(ctx, cfg)
	wantClass(t, err, messages.Invalid, "server of a cluster")

	// A process of the same user gets in through the data directory.
	c := must(Connect(ctx, Config{Dir: works.cfg.Dir}))(t)
	defer c.Close()
	if info := must(c.Run(ctx, "r1"))(t); info.State != messages.RunDone {
		t.Errorf("%+v", info)
	}
}

// A single server listens for clients only, keeps one copy, and its directory
// cannot become that of one of three.
func TestOneServerThatListens(t *testing.T) {
	t.Parallel()
	cfgs := clusterConfigs(t, 1)
	routes := cfgs[0].Cluster.Routes
	n := startAll(t, cfgs)[0]
	ctx := testCtx(t)
	if c, err := net.Dial("tcp", routes); err == nil {
		_ = c.Close()
		t.Error("it listens for routes")
	}
	if info := must(n.client.journal.stream.Info(ctx))(t); info.Config.Replicas != 1 {
		t.Errorf("%d replicas", info.Config.Replicas)
	}
	other := must(Start(ctx, Config{
		Name: "other", URL: "tls://" + cfgs[0].Cluster.Listen, Logger: cfgs[0].Logger,
		Credentials: Credentials{NKeyFile: filepath.Join(cfgs[0].Cluster.Certs, "n1.nk"), CA: filepath.Join(cfgs[0].Cluster.Certs, "ca.pem")},
	}))(t)
	model := actors.Agent{Name: "a", Model: "scripted"}
	must(other.Ask(ctx, model, "Well?"))(t)
	ok(t, other.Stop(ctx))
	ok(t, n.Stop(ctx))
	three := clusterConfigs(t, 3)[0]
	three.Dir = cfgs[0].Dir
	_, err := Start(ctx, three)
	wantClass(t, err, messages.Invalid, "the data of a server alone")
}

func TestPeersThatAreNotThere(t *testing.T) {
	t.Parallel()
	cfg := clusterConfigs(t, 3)[0]
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err := Start(ctx, cfg)
	wantClass(t, err, messages.Timeout, "0 of the 2 other servers", cfg.Cluster.Peers[1], cfg.Cluster.Peers[2], "refused")
}

func TestClusterConfigs(t *testing.T) {
	good := clusterConfigs(t, 3)[0]
	busy := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer func() { _ = busy.Close() }()
	openSeed := certsFor(t, "n1")
	ok(t, os.Chmod(filepath.Join(openSeed, "n1.nk"), 0o640))
	for _, c := range []struct {
		name  string
		do    func(*Config)
		class messages.Class
		words string
	}{
		{"with a URL", func(c *Config) { c.URL, c.Dir = "nats://x:1", "" }, messages.Invalid, "together with a URL"},
		{"no name", func(c *Config) { c.Name = "" }, messages.Invalid, "config: name"},
		{"no certs", func(c *Config) { c.Cluster.Certs = "" }, messages.Invalid, "covey cert init"},
		{"every interface, no certs", func(c *Config) { c.Cluster.Certs, c.Cluster.Listen = "", "0.0.0.0:4222" }, messages.Invalid, "covey cert init"},
		{"two", func(c *Config) { c.Cluster.Peers = c.Cluster.Peers[:2] }, messages.Invalid, "three or more"},
		{"twice", func(c *Config) { c.Cluster.Peers = append(c.Cluster.Peers[:2:2], c.Cluster.Peers[1]) }, messages.Invalid, "twice"},
		{"no port", func(c *Config) { c.Cluster.Listen = "127.0.0.1" }, messages.Invalid, "config: cluster: listen"},
		{"any port", func(c *Config) { c.Cluster.Routes = "127.0.0.1:0" }, messages.Invalid, "config: cluster: routes"},
		{"taken", func(c *Config) { c.Cluster.Listen = busy.Addr().String() }, messages.Unavailable, "in use"},
		{"another's name", func(c *Config) { c.Name = "n9" }, messages.Invalid, "n9.key"},
		{"an open seed", func(c *Config) { c.Cluster.Certs = openSeed }, messages.Invalid, "0640"},
		{"replicas", func(c *Config) { c.Replicas = 6 }, messages.Invalid, "replicas: 6"},
		{"credentials", func(c *Config) { c.Credentials.CA = "x" }, messages.Invalid, "without a URL"},
	} {
		cfg, cl := good, *good.Cluster
		cfg.Cluster = &cl
		c.do(&cfg)
		_, err := Start(testCtx(t), cfg)
		if messages.ClassOf(err) != c.class || !strings.Contains(fmt.Sprint(err), c.words) {
			t.Errorf("%s: %v, want %s with %q", c.name, err, c.class, c.words)
		}
	}
}

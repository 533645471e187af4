package cluster

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
)

// as is how a client of a role reaches a node's server.
func as(cfg Config, role string) Config {
	return Config{
		URL: "tls://" + cfg.Cluster.Listen, Logger: cfg.Logger,
		Credentials: Credentials{NKeyFile: filepath.Join(cfg.Cluster.Certs, role+".nk"), CA: filepath.Join(cfg.Cluster.Certs, "ca.pem")},
	}
}

// request sends what no method of a client would.
func request(ctx context.Context, nc *nats.Conn, subject, body string) error {
	return guarded(ctx, nc, subject, func(ctx context.Context) error {
		_, err := nc.RequestWithContext(ctx, subject, []byte(body))
		return err
	})
}

// joins tries to take a lease.
func joins(ctx context.Context, nc *nats.Conn, name string) error {
	m, err := join(ctx, nc, membershipOptions{Name: name, Info: func() messages.NodeInfo { return messages.NodeInfo{Node: name} }, Warn: func(error) {}})
	if err != nil {
		return err
	}
	return m.leave(ctx)
}

// follow reads a run up to its last record.
func follow(t testing.TB, ctx context.Context, c *Client, run string) (last messages.Body) {
	t.Helper()
	for e, err := range c.Records(ctx, run) {
		ok(t, err)
		last = e.Body
	}
	return last
}

func TestRoles(t *testing.T) {
	t.Parallel()
	cfg := clusterConfigs(t, 1)[0]
	called := make(chan struct{}, 1)
	hang := tool.Must(tool.New("hang", "waits for ever", func(ctx context.Context, in struct{}) (string, error) {
		called <- struct{}{}
		<-ctx.Done()
		return "", ctx.Err()
	}, tool.Pure))
	hangs := scripted.Of(scripted.Rule{Reply: scripted.Reply{ToolCalls: []scripted.ToolCall{{Name: "hang", Arguments: map[string]any{}}}}})
	cfg.Models = map[string]provider.Factory{"hangs": func(string) (provider.Model, error) { return hangs, nil }}
	n := startAll(t, []Config{cfg})[0]
	ctx := testCtx(t)
	ok(t, n.Serve(ctx, actors.Agent{Name: "quick", Model: "scripted"}))
	ok(t, n.Serve(ctx, actors.Agent{Name: "slow", Model: "hangs", Tools: []tool.Tool{hang}}))

	submitter := must(Open(ctx, as(cfg, "submit")))(t)
	defer submitter.Close()
	observer := must(Open(ctx, as(cfg, "observe")))(t)
	defer observer.Close()

	// What each may do.
	for _, team := range []string{"quick", "slow"} {
		must(submitter.queue.submit(ctx, messages.Task{ID: team, Team: team, Prompt: "Well?", Submitted: now()}))(t)
	}
	<-called
	for who, c := range map[string]*Client{"submitter": submitter, "observer": observer} {
		if _, done := follow(t, ctx, c, "quick").(*messages.Done); !done {
			t.Errorf("%s: the run has not ended", who)
		}
		if all := must(c.Runs(ctx))(t); len(all) != 2 {
			t.Errorf("%s: %+v", who, all)
		}
		if i := must(c.Run(ctx, "slow"))(t); i.State != messages.RunRunning {
			t.Errorf("%s: %+v", who, i)
		}
		must(c.Queue(ctx))(t)
		must(c.Parked(ctx))(t)
		if all := must(c.Nodes(ctx))(t); len(all) != 1 || all[0].Node != "n1" {
			t.Errorf("%s: %+v", who, all)
		}
		if trees := must(c.Tree(ctx))(t); len(trees) == 0 {
			t.Errorf("%s: no tree", who)
		}
	}
	everything := must(observer.nc.SubscribeSync("covey.>"))(t)
	ok(t, observer.nc.Flush()) // the next is said on another connection
	must(submitter.queue.submit(ctx, messages.Task{ID: "heard", Team: "quick", Prompt: "Well?", Submitted: now()}))(t)
	must(everything.NextMsgWithContext(ctx))(t)

	// What they may not.
	task := messages.Task{ID: "r2", Team: "quick", Prompt: "Well?", Submitted: now()}
	noOne := func(c *Client) map[string]error {
		_, drain := c.Drain(ctx, "n1")
		return map[string]error{
			"$JS.API.STREAM.PURGE.COVEY_JOURNAL":         c.Purge(ctx, "quick"),
			"covey.claims.slow.plan":                     c.write(ctx, "slow", messages.PlanWriter, "", &messages.Failed{}),
			"covey.nodes.n1.drain":                       drain,
			"covey.runs.slow.plan":                       request(ctx, c.nc, "covey.runs.slow.plan", "{}"),
			"$JS.API.STREAM.DELETE.COVEY_JOURNAL":        request(ctx, c.nc, "$JS.API.STREAM.DELETE.COVEY_JOURNAL", ""),
			"$JS.API.STREAM.UPDATE.COVEY_TASKS":          request(ctx, c.nc, "$JS.API.STREAM.UPDATE.COVEY_TASKS", "{}"),
			"$JS.API.STREAM.CREATE.SPY":                  request(ctx, c.nc, "$JS.API.STREAM.CREATE.SPY", "{}"),
			"$JS.API.STREAM.MSG.DELETE.COVEY_JOURNAL":    request(ctx, c.nc, "$JS.API.STREAM.MSG.DELETE.COVEY_JOURNAL", "{}"),
			"$JS.API.CONSUMER.CREATE.COVEY_TASKS.thief.": request(ctx, c.nc, "$JS.API.CONSUMER.CREATE.COVEY_TASKS.thief.covey.>", "{}"),
			"$KV.COVEY_NODES.n1":                         request(ctx, c.nc, "$KV.COVEY_NODES.n1", "{}"),
			"$JS.API.CONSUMER.CREATE.COVEY_TASKS.covey-": c.queue.serve(ctx, "quick"),
			"$KV.COVEY_NODES.spy":                        joins(ctx, c.nc, "spy"),
		}
	}
	for subject, err := range noOne(submitter) {
		wantClass(t, err, messages.Unauthorized, subject)
	}
	all := noOne(observer)
	all["covey.bus.slow.plan"] = observer.Cancel(ctx, "slow", "")
	_, all["covey.tasks."] = observer.queue.submit(ctx, task)
	all["$KV.COVEY_SESSIONS.s"] = request(ctx, observer.nc, "$KV.COVEY_SESSIONS.s", "{}")
	for subject, err := range all {
		wantClass(t, err, messages.Unauthorized, subject)
	}
	for _, c := range []*Client{submitter, observer} { // replies to others
		failed := make(chan error, 1)
		c.nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { failed <- err })
		must(c.nc.SubscribeSync("_INBOX.>"))(t)
		if err := <-failed; !strings.Contains(err.Error(), "_INBOX.>") {
			t.Error(err)
		}
	}

	ok(t, submitter.Cancel(ctx, "slow", "enough"))
	if f, failed := follow(t, ctx, observer, "slow").(*messages.Failed); !failed || f.Error.Class != messages.Canceled {
		t.Errorf("%+v", f)
	}
}

// A program with a member's key serves a member, and may do nothing else.
func TestTheRoleOfAProgram(t *testing.T) {
	t.Parallel()
	cfg := clusterConfigs(t, 1)[0]
	n := startAll(t, []Config{cfg})[0]
	ctx := testCtx(t)
	own := as(cfg, "member")
	show := must(own.Credentials.options())(t)
	nc := must(connect(ctx, own.URL, "program", connEvents{}, show...))(t)
	t.Cleanup(nc.Close)
	must(nc.Subscribe("covey.members.echo", func(m *nats.Msg) {
		_ = m.Respond([]byte("+OK"))
		reply := nats.NewMsg(messages.Subject(messages.SubjectBus, m.Header.Get("Covey-Run"), "echo"))
		reply.Header = nats.Header{
			"Covey-Version": {"1"}, "Covey-Kind": {"reply"}, "Covey-Run": m.Header["Covey-Run"], "Covey-Writer": m.Header["Covey-Writer"],
		}
		reply.Data = []byte(`{"step":"` + m.Header.Get("Covey-Step") + `","from":"echo","answer":{"text":"said by a program"}}`)
		if _, err := nc.RequestMsg(reply, 5*time.Second); err != nil {
			t.Error(err)
		}
	}))(t)
	ok(t, nc.Flush())
	ans, err := n.Ask(ctx, actors.Agent{Name: "echo", External: "echo"}, "Well?")
	if err != nil || ans.Text != "said by a program" {
		t.Errorf("%+v, %v", ans, err)
	}
	for _, subject := range []string{"covey.tasks.q.normal.-", "covey.runs.r.plan", "$JS.API.INFO", "covey.nodes.n1.drain"} {
		wantClass(t, request(ctx, nc, subject, "{}"), messages.Unauthorized, subject)
	}
}

// A request that is refused fails at once, and takes none of the others that are
// under way with it.
func TestARefusalIsForTheOneRequest(t *testing.T) {
	t.Parallel()
	cfg := clusterConfigs(t, 1)[0]
	startAll(t, []Config{cfg})
	ctx := testCtx(t)
	c := must(Open(ctx, as(cfg, "observe")))(t)
	defer c.Close()
	other := make(chan error, 1)
	begun := make(chan struct{})
	short, cancel := context.WithCancel(ctx)
	go func() {
		other <- guarded(short, c.nc, "covey.nodes.n1.ping", func(ctx context.Context) error {
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-begun
	start := time.Now()
	wantClass(t, request(ctx, c.nc, "covey.nodes.n1.drain", ""), messages.Unauthorized, "covey.nodes.n1.drain")
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	cancel()
	if err := <-other; messages.ClassOf(err) == messages.Unauthorized {
		t.Error(err)
	}
}

func TestNoNodeHasBeenHere(t *testing.T) {
	t.Parallel()
	cfg := clusterConfigs(t, 1)[0]
	p := must(openPeers(cfg))(t)
	srv := must(embed(cfg.Dir, "", nil, p))(t)
	defer srv.stop()
	for _, role := range []string{"submit", "observe"} {
		_, err := Open(testCtx(t), as(cfg, role))
		wantClass(t, err, messages.Unauthorized, "no node has been here yet", journalStream)
	}
}

// A node answers into inboxes only: asked to answer elsewhere, it would do with
// its own rights what the asker may not.
func TestANodeLendsNobodyItsRights(t *testing.T) {
	t.Parallel()
	cfg := clusterConfigs(t, 1)[0]
	n := startAll(t, []Config{cfg})[0]
	ctx := testCtx(t)
	must(n.Ask(ctx, actors.Agent{Name: "quick", Model: "scripted"}, "Well?"))(t)
	before := must(n.client.journal.stream.Info(ctx))(t).State
	c := must(Open(ctx, as(cfg, "observe")))(t)
	defer c.Close()
	for _, verb := range []string{verbPing, verbInfo, verbTree} {
		for _, to := range []string{"$JS.API.STREAM.PURGE.COVEY_JOURNAL", "covey.claims.r.plan", nodeSubject("n1", verbDrain)} {
			ok(t, c.nc.PublishRequest(nodeSubject("n1", verb), to, nil))
		}
	}
	// A server's answer can be led there, and is no request.
	ok(t, c.nc.PublishRequest("$JS.API.STREAM.INFO.COVEY_JOURNAL", nodeSubject("n1", verbDrain), nil))
	must(c.ask(ctx, "n1", verbInfo))(t) // behind all of them
	after := must(n.client.journal.stream.Info(ctx))(t).State
	if after.Msgs != before.Msgs || after.LastSeq != before.LastSeq {
		t.Errorf("the journal has %d messages up to %d, had %d up to %d", after.Msgs, after.LastSeq, before.Msgs, before.LastSeq)
	}
	if i := n.info(); i.Draining {
		t.Error("the node drains")
	}
}

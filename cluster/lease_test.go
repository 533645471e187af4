package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// onServer starts a node on a shared server.
func onServer(t testing.TB, url, name string, change ...func(*Config)) *Node {
	t.Helper()
	cfg := Config{URL: url, Name: name, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	n := must(Start(testCtx(t), cfg))(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = n.Stop(ctx) // a node that died cannot stop well
	})
	return n
}

// holdingTeam is a team of which every step waits for goOn. It tells each time that
// one begins, and where.
func holdingTeam(begun chan<- string, goOn <-chan struct{}) func(node string) actors.Team {
	return func(node string) actors.Team {
		return actors.Team{Name: "waiting", Members: []actors.Member{actors.Agent{Name: "a", Model: "scripted"}},
			Plan: actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (messages.Answer, error) {
				at, err := actors.Once(ctx, s, "where", func(ctx context.Context) (string, error) {
					begun <- node
					select {
					case <-goOn:
						return node, nil
					case <-ctx.Done():
						return "", ctx.Err()
					}
				})
				return messages.Answer{Text: at}, err
			})}
	}
}

func hear[T any](t testing.TB, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(25 * time.Second):
		t.Fatalf("never: %s", what)
	}
	return v
}

// A node dies in the middle of a run: another one goes on with it, long before
// the queue would have handed the task out again.
func TestARunMovesWhenItsNodeDies(t *testing.T) {
	t.Parallel()
	url, _ := listen(t, t.TempDir(), freePort(t))
	begun, goOn := make(chan string, 10), make(chan struct{})
	team := holdingTeam(begun, goOn)
	n1, n2 := onServer(t, url, "n1"), onServer(t, url, "n2")
	ctx := testCtx(t)
	run := must(n1.Submit(ctx, team("n1"), messages.Task{ID: "r1", Prompt: "Where?"}))(t)
	if at := hear(t, begun, "the run begins"); at != "n1" {
		t.Fatalf("begun on %s", at)
	}
	ok(t, n2.Serve(ctx, team("n2")))
	old := n1.self()
	began := time.Now()
	n1.nc.Close() // as a kill does
	if at := hear(t, begun, "the run goes on elsewhere"); at != "n2" {
		t.Fatalf("taken over by %s", at)
	}
	took := time.Since(began)
	t.Logf("taken over after %v", took)
	if took > 15*time.Second {
		t.Errorf("taken over after %v", took)
	}
	hear(t, n2.cluster.Lost("n1", old.Epoch), "the lease is over")
	close(goOn)
	info := func() messages.RunInfo {
		for e, err := range n2.Client().Records(ctx, "r1") {
			ok(t, err)
			_ = e
		}
		return must(n2.Client().Run(ctx, "r1"))(t)
	}()
	if info.State != messages.RunDone || info.Answer.Text != "n2" || info.Node != "n2" || info.Epoch != n2.self().Epoch {
		t.Errorf("run %+v", info)
	}
	_, err := run.Wait(ctx)
	if err == nil {
		t.Error("the dead node has an answer")
	}
}

func TestANameIsOneNodes(t *testing.T) {
	t.Parallel()
	url, _ := listen(t, t.TempDir(), freePort(t))
	n1 := onServer(t, url, "n1")
	_, err := Start(testCtx(t), Config{URL: url, Name: "n1", Logger: slog.New(slog.DiscardHandler)})
	wantClass(t, err, messages.Invalid, "config: name", `"n1"`, "live node")
	first := n1.self().Epoch
	n1.nc.Close()
	again := onServer(t, url, "n1")
	if e := again.self().Epoch; e <= first {
		t.Errorf("epoch %d after %d", e, first)
	}
	ok(t, again.Stop(testCtx(t)))
	js := must(jetStream(dialURL(t, url)))(t)
	_, err = must(js.KeyValue(testCtx(t), leaseBucket))(t).Get(testCtx(t), "n1")
	if !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("after the stop: %v", err)
	}
}

// NATS goes away for longer than a lease lasts. The node stops what it works on,
// by its own clock, takes another lease when NATS is back, and goes on. Whoever
// waits for the run has its answer.
func TestNATSGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), freePort(t)
	url, stop := listen(t, dir, port)
	begun, goOn := make(chan string, 10), make(chan struct{})
	team := holdingTeam(begun, goOn)
	n := onServer(t, url, "n1", func(c *Config) { c.lease = leaseTimes{TTL: 2 * time.Second, Renew: 200 * time.Millisecond} })
	sub := n.Events().Subscribe(64, func(ev messages.Event) bool { return ev.Kind == messages.NodeFenced })
	defer sub.Close()
	ctx := testCtx(t)
	run := must(n.Submit(ctx, team("n1"), messages.Task{ID: "r1", Prompt: "Where?"}))(t)
	hear(t, begun, "the run begins")
	first := n.self().Epoch
	stop()
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	_, err := n.Submit(short, team("n1"), messages.Task{ID: "r2", Prompt: "Where?"})
	cancel()
	wantClass(t, err, messages.Timeout)
	ev := hear(t, sub.C, "it fences itself")
	if ev.Class != messages.Fenced || ev.Error == nil {
		t.Errorf("event %+v", ev)
	}
	if e := n.self().Epoch; e != 0 {
		t.Errorf("epoch %d without a lease", e)
	}
	listen(t, dir, port)
	hear(t, begun, "it goes on")
	if e := n.self().Epoch; e <= first {
		t.Errorf("epoch %d after %d", e, first)
	}
	close(goOn)
	if ans, err := run.Wait(ctx); err != nil || ans.Text != "n1" {
		t.Errorf("answer %+v, %v", ans, err)
	}
}

// A short absence of NATS costs nothing: the lease outlives it, and the run never
// learns of it.
func TestAShortAbsenceOfNATSIsNotNoticed(t *testing.T) {
	t.Parallel()
	dir, port := t.TempDir(), freePort(t)
	url, stop := listen(t, dir, port)
	begun, goOn := make(chan string, 10), make(chan struct{})
	team := holdingTeam(begun, goOn)
	n1 := onServer(t, url, "n1")
	n2 := onServer(t, url, "n2")
	ctx := testCtx(t)
	run := must(n1.Submit(ctx, team("n1"), messages.Task{ID: "r1", Prompt: "Where?"}))(t)
	hear(t, begun, "the run begins")
	e1, e2 := n1.self().Epoch, n2.self().Epoch
	stop()
	listen(t, dir, port)
	close(goOn)
	if ans, err := run.Wait(ctx); err != nil || ans.Text != "n1" {
		t.Errorf("answer %+v, %v", ans, err)
	}
	if n1.self().Epoch != e1 || n2.self().Epoch != e2 {
		t.Errorf("epochs %d and %d, were %d and %d", n1.self().Epoch, n2.self().Epoch, e1, e2)
	}
}

// The end of a lease is told to whoever asked, before or after, and of one that
// this node has not heard of yet, not too early.
func TestTheEndOfALeaseIsTold(t *testing.T) {
	t.Parallel()
	url, _ := listen(t, t.TempDir(), freePort(t))
	n1 := onServer(t, url, "n1")
	select {
	case <-n1.cluster.Lost("n2", n1.self().Epoch+1000):
		t.Error("a lease of the future is over")
	default:
	}
	hear(t, n1.cluster.Lost("nobody", 1), "a lease that never was is over")
	_, changed := n1.cluster.Live()
	n2 := onServer(t, url, "n2")
	hear(t, changed, "a node has come")
	epoch := n2.self().Epoch
	over := n1.cluster.Lost("n2", epoch)
	for {
		live, changed := n1.cluster.Live()
		if len(live) == 2 && live[1].Epoch == epoch {
			break
		}
		hear(t, changed, "n2's lease is heard of")
	}
	select {
	case <-over:
		t.Error("it is over, and the node lives")
	default:
	}
	ok(t, n2.Stop(testCtx(t)))
	hear(t, over, "it is over")
	hear(t, n1.cluster.Lost("n2", epoch), "it is over for who asks later")
}

// Whoever listens to everything that is said is no responder where nodes are
// asked whether they live: a death is noticed as fast as without.
func TestAListenerHidesNoDeath(t *testing.T) {
	t.Parallel()
	url, _ := listen(t, t.TempDir(), freePort(t))
	n := onServer(t, url, "n1")
	listener := dialURL(t, url)
	must(listener.SubscribeSync("covey.>"))(t)
	ok(t, listener.Flush())
	if owner, err := n.client.ping(testCtx(t), "n1"); err != nil || owner != n.self().Owner() {
		t.Errorf("a live node says %q, %v", owner, err)
	}
	if _, err := n.client.ping(testCtx(t), "n2"); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("a node that is not there: %v", err)
	}
}

// A process that was frozen, or cut off, does not know that its lease was ended.
// Before it does what must not happen twice it finds out.
func TestALeaseIsConfirmed(t *testing.T) {
	t.Parallel()
	url, _ := listen(t, t.TempDir(), freePort(t))
	n := onServer(t, url, "n1", func(c *Config) { c.lease.Renew = time.Hour })
	ctx := testCtx(t)
	l, epoch := n.cluster.lease, n.self().Epoch
	age := func(d time.Duration) { // as if the last renewal had been sent so long ago
		l.mu.Lock()
		defer l.mu.Unlock()
		l.until = time.Now().Add(l.times.TTL - d)
	}
	age(5 * time.Second)
	ok(t, n.cluster.Confirm(ctx, epoch))
	if left := l.left(); left < l.times.TTL-2*time.Second {
		t.Errorf("confirmed without a renewal: %v left", left)
	}
	wantClass(t, n.cluster.Confirm(ctx, epoch+1), messages.Fenced)
	kv := must(must(jetStream(dialURL(t, url)))(t).KeyValue(ctx, leaseBucket))(t)
	ok(t, kv.Purge(ctx, "n1")) // as a neighbour does
	age(5 * time.Second)
	wantClass(t, n.cluster.Confirm(ctx, epoch), messages.Fenced, "n1~")
}

// Many nodes come and go; those that stay see the same in the end.
func TestNodesComeAndGo(t *testing.T) {
	t.Parallel()
	url, _ := listen(t, t.TempDir(), freePort(t))
	n := onServer(t, url, "stays")
	for i := range 3 {
		other := onServer(t, url, fmt.Sprint("n", i))
		if i == 1 {
			other.nc.Close()
		} else {
			ok(t, other.Stop(testCtx(t)))
		}
	}
	for {
		live, changed := n.cluster.Live()
		if len(live) == 1 {
			break
		}
		hear(t, changed, "the others are gone")
	}
}

// All nodes restart at once. Their runs, which were handed back, are each taken
// over by one of them, and not by a second one that takes the first for dead.
func TestARestartOfAllNodesDoublesNoRun(t *testing.T) {
	t.Parallel()
	const runs = 200
	url, _ := listen(t, t.TempDir(), freePort(t))
	ctx := testCtx(t)
	var r resident
	lives := func() (nodes []*Node) {
		r.waiting.Store(0)
		for i := range 2 {
			nodes = append(nodes, onServer(t, url, fmt.Sprint("n", i), func(c *Config) { c.MaxRuns = runs }))
		}
		for _, n := range nodes {
			ok(t, n.Serve(ctx, r.team()))
		}
		return nodes
	}
	nodes := lives()
	for i := range runs {
		must(nodes[0].queue.submit(ctx, messages.Task{ID: fmt.Sprint("r", i), Team: "resident", Prompt: "Wait."}))(t)
	}
	all := func() {
		for int(r.waiting.Load()) < runs {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("%d of %d runs wait", r.waiting.Load(), runs)
			}
		}
	}
	all()
	for _, n := range nodes {
		ok(t, n.Stop(ctx))
	}
	nodes = lives()
	all()
	if on := len(nodes[0].rt.Runs()) + len(nodes[1].rt.Runs()); on != runs {
		t.Errorf("%d runs are on %d nodes' hands", runs, on)
	}
}

// entry is a change of the bucket, as a watch tells of it.
type entry struct {
	jetstream.KeyValueEntry
	node string
	rev  uint64
}

func (e entry) Key() string                     { return e.node }
func (e entry) Value() []byte                   { return []byte(`{"node":"` + e.node + `","epoch":1}`) }
func (e entry) Revision() uint64                { return e.rev }
func (e entry) Operation() jetstream.KeyValueOp { return jetstream.KeyValuePut }

// A watch that is begun anew may be answered by a replica that is behind: a node
// in its listing has a lease.
func TestAListingThatIsBehindEndsNoLease(t *testing.T) {
	r := newRoster(func(messages.NodeInfo) {}, func(i messages.NodeInfo) { t.Errorf("%s is lost", i.Node) }, func(err error) { t.Error(err) })
	r.take(entry{node: "n1", rev: 7})
	r.whole()
	r.take(entry{node: "n1", rev: 5})
	r.whole()
	if r.count() != 1 {
		t.Error("it is gone")
	}
}

// Who has the right has it also when it asks again: the answer may have been lost.
func TestTheRightToHandOnIsOneNodes(t *testing.T) {
	t.Parallel()
	url, _ := listen(t, t.TempDir(), freePort(t))
	n1, n2 := onServer(t, url, "n1"), onServer(t, url, "n2")
	for range 2 {
		if is, err := n1.mayHandOn(testCtx(t), messages.Claim{Node: "dead", Epoch: 1}); err != nil || !is {
			t.Errorf("%t, %v", is, err)
		}
	}
	if is, err := n2.mayHandOn(testCtx(t), messages.Claim{Node: "dead", Epoch: 1}); err != nil || is {
		t.Errorf("%t, %v", is, err)
	}
}

// A lease that has run out by the own clock is none, before keep finds out.
func TestALeaseEndsByTheOwnClock(t *testing.T) {
	l := &lease{epoch: 7, until: time.Now().Add(-time.Millisecond)}
	if e := l.current(); e != 0 {
		t.Errorf("epoch %d", e)
	}
}

// Whoever waits for another node's run is forgotten when it has its answer.
func TestNobodyWaitsForARunThatHasEnded(t *testing.T) {
	t.Parallel()
	url, _ := listen(t, t.TempDir(), freePort(t))
	begun, goOn := make(chan string, 10), make(chan struct{})
	team := holdingTeam(begun, goOn)
	n1 := onServer(t, url, "n1", func(c *Config) { c.MaxRuns = 1 })
	ctx := testCtx(t)
	must(n1.Submit(ctx, team("n1"), messages.Task{Prompt: "first"}))(t)
	hear(t, begun, "the first begins")
	n2 := onServer(t, url, "n2")
	ok(t, n2.Serve(ctx, team("n2")))
	run := must(n1.Submit(ctx, team("n1"), messages.Task{Prompt: "second"}))(t)
	if at := hear(t, begun, "the second begins"); at != "n2" {
		t.Fatalf("begun on %s", at)
	}
	close(goOn)
	if a := must(run.Wait(ctx))(t); a.Text != "n2" {
		t.Errorf("%+v", a)
	}
	for {
		n1.mu.Lock()
		left := len(n1.handles)
		n1.mu.Unlock()
		if left == 0 {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%d are remembered", left)
		}
		time.Sleep(time.Millisecond)
	}
}

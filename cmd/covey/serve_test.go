package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// served is a `covey serve` of a world: a life of its own, beside others.
type served struct {
	*process
	name string
	life int
}

// serve starts a node on the world's NATS server, and waits until it is ready.
func (w *world) serve(name string, args ...string) *served {
	w.t.Helper()
	s := &served{name: name, process: w.begin(append([]string{"serve", "--nats", w.data.URL, "--name", name, "--file", w.team}, args...)...)}
	s.life = w.life
	s.sees("node " + name + " is ready: NATS at " + strings.TrimPrefix(w.data.URL, "nats://"))
	return s
}

// dies is kill -9 for a node, and for the tools that it has begun.
func (w *world) dies(s *served) {
	s.kill()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kills++
	close(w.gone[s.life-1])
}

// owner is the node that works on a run.
func (w *world) owner(run string, nodes ...*served) (owner, other *served) {
	w.t.Helper()
	i := decode[messages.RunInfo](w.t, w.where.run(w.t, 0, "runs", "show", run, "--json", "--nats", w.data.URL))
	if nodes[0].name == i.Node {
		return nodes[0], nodes[1]
	}
	return nodes[1], nodes[0]
}

// submits puts the world's question into the queue and returns its run, which is
// held at a point.
func (w *world) submits(point string) string {
	w.t.Helper()
	w.holdAt(point)
	p := w.where.run(w.t, 0, "submit", "--nats", w.data.URL, w.team, question)
	p.quiet(p.err)
	w.await(point, func() bool { return w.held })
	return strings.TrimSpace(p.out.String())
}

// TestServeFailover kills the node that works on a run, in mid-call: another one
// goes on, and whoever follows the run sees its end.
func TestServeFailover(t *testing.T) {
	w := newWorld(t)
	w.onServer()
	at := "--nats=" + w.data.URL
	a, b := w.serve("a"), w.serve("b")
	run := w.submits("model 4 is asked") // the cashier's, whose tool is unsafe
	follow := w.where.start(t, "runs", "follow", run, at)
	again := w.where.start(t, "submit", at, w.team, question, "--id", run, "--wait")
	poll(t, "the follower has seen the clerk", func() bool { return strings.Contains(follow.out.String(), "CLERK: the price") })
	owner, heir := w.owner(run, a, b)
	died := time.Now()
	w.dies(owner)
	follow.wait(0).prints("the run is done", rightAnswer)
	t.Logf("answered %s after the death", time.Since(died).Round(time.Millisecond))
	if got := strings.TrimSpace(again.wait(0).out.String()); got != rightAnswer {
		t.Errorf("answer %q\n%s", got, again)
	}
	heir.sees("run " + run + " of team shop is done")
	heir.says("run " + run + " of team shop goes on")
	w.check()
}

// TestServeDrains tells the node that works on a run to stop: it ends well, and
// another one goes on without doing anything again.
func TestServeDrains(t *testing.T) {
	w := newWorld(t)
	w.onServer()
	a, b := w.serve("a"), w.serve("b")
	run := w.submits("model 4 is asked")
	owner, heir := w.owner(run, a, b)
	owner.signal(syscall.SIGTERM)
	owner.sees("node " + owner.name + " drains")
	w.release()
	owner.wait(0).says("run "+run+" of team shop is handed over", "node "+owner.name+" has stopped").quiet(owner.out)
	w.where.run(t, 0, "runs", "follow", run, "--nats", w.data.URL).prints(rightAnswer)
	heir.sees("run " + run + " of team shop is done")
	w.check()
}

// TestNewerTask has a newer program put in a task: a node says that it leaves it
// to others, and the lists show it.
func TestNewerTask(t *testing.T) {
	w := newWorld(t)
	w.onServer()
	a := w.serve("a")
	nc, err := nats.Connect(w.data.URL)
	ok(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	ok(t, err)
	_, err = js.PublishMsg(t.Context(), &nats.Msg{Subject: "covey.tasks.defined.normal.-", Data: []byte("{}"), Header: nats.Header{
		messages.HeaderVersion: {"99"}, messages.HeaderKind: {"task"}, messages.HeaderRun: {"tomorrow"},
	}})
	ok(t, err)
	a.sees("unknown schema version: 99, this program knows up to 1")
	a.says(`the task of run \"tomorrow\"`, "left to a newer node")
	w.where.run(t, 0, "runs", "--nats", w.data.URL).prints("tomorrow", "newer")
	w.where.run(t, 0, "runs", "show", "tomorrow", "--nats", w.data.URL).prints("newer: only a newer program", "unknown schema version: 99")
	i := decode[messages.RunInfo](t, w.where.run(t, 0, "runs", "show", "tomorrow", "--json", "--nats", w.data.URL))
	if i.State != messages.RunNewer || i.Error.Class != messages.Unavailable {
		t.Errorf("%+v", i)
	}
	w.where.run(t, exitFailed, "runs", "cancel", "tomorrow", "--nats", w.data.URL).says("a newer node can read it")
}

// TestServeCutsOff has a node cut its steps off when its time is up, and another
// one end at once on a second signal.
func TestServeCutsOff(t *testing.T) {
	w := newWorld(t)
	w.onServer()
	a := w.serve("a", "--drain-timeout", "50ms")
	run := w.submits("model 1 is asked")
	a.signal(syscall.SIGTERM)
	a.wait(exitFailed).says("cut off, to be resumed: " + run)
	b := w.serve("b")
	w.await("the call is made again", func() bool { return w.calls[w.order[0]] == 2 })
	w.kills++ // it was
	w.holdAt("model 2 is asked")
	w.await("the next one", func() bool { return w.held })
	b.signal(syscall.SIGTERM)
	b.sees("node b drains")
	b.signal(syscall.SIGTERM)
	b.wait(exitInterrupted)
}

// TestNodeDrain drains a node from afar; it stays up, idle.
func TestNodeDrain(t *testing.T) {
	w := newWorld(t)
	w.onServer()
	at := "--nats=" + w.data.URL
	a, b := w.serve("a", "--pool", "eu", "--pool", "gpu"), w.serve("b")
	run := w.submits("model 4 is asked")
	owner, heir := w.owner(run, a, b)
	w.where.run(t, 0, "node", "drain", owner.name, at).prints("node " + owner.name + " drains: it hands over 1 run and 0 guests")
	drained := w.where.start(t, "node", "drain", owner.name, at, "--wait", "--json")
	w.release()
	if left := decode[messages.NodeInfo](t, drained.wait(0)); left.Runs != 0 || !left.Draining {
		t.Errorf("%+v", left)
	}
	heir.sees("run " + run + " of team shop is done")
	nodes := decode[[]cluster.NodeState](t, w.where.run(t, 0, "nodes", "--json", at))
	if len(nodes) != 2 || nodes[0].Node != "a" || strings.Join(nodes[0].Pools, " ") != "eu gpu" {
		t.Errorf("%+v", nodes)
	}
	w.where.run(t, 0, "nodes", at).prints("NODE", owner.name+"     draining", heir.name+"     ready", "eu,gpu", "0/16", "0/256")
	w.where.run(t, exitFailed, "node", "drain", "c", at).says(`node "c" is not there; there are a, b`)
	w.where.run(t, 0, "__complete", "node", "drain", at, "").prints("a\nb\n")
	heir.signal(syscall.SIGTERM)
	heir.wait(0)
	w.check()
	w.where.run(t, 0, "submit", at, w.team, question).says("no node takes such tasks now")
}

// TestFrozenNode is in the list of nodes and in the tree for as long as it has a
// lease.
func TestFrozenNode(t *testing.T) {
	w := newWorld(t)
	w.onServer()
	at := "--nats=" + w.data.URL
	a, b := w.serve("a"), w.serve("b")
	run := w.submits("model 1 is asked")
	_, other := w.owner(run, a, b)
	tree := w.where.run(t, 0, "tree", at)
	tree.prints("\na ", "\nb ", run, "clerk")
	if strings.Count(tree.out.String(), "ACTOR") != 1 {
		t.Error(tree)
	}
	w.where.run(t, 0, "tree", at, "--node", other.name).prints(other.name)
	watch := w.where.start(t, "tree", at, "--watch", "--every", "50ms")
	poll(t, "the tree is drawn", func() bool { return strings.Contains(watch.out.String(), run) })
	nodes := w.where.start(t, "nodes", at, "--watch", "--every", "50ms")
	poll(t, "both are ready", func() bool { return strings.Count(nodes.out.String(), "ready") >= 2 })
	other.signal(syscall.SIGSTOP)
	t.Cleanup(func() { other.signal(syscall.SIGCONT) })
	poll(t, "it does not answer", func() bool { return strings.Contains(nodes.out.String(), other.name+"     no answer") })
	poll(t, "the watched tree has it", func() bool { return strings.Contains(watch.out.String(), "unresponsive") })
	other.signal(syscall.SIGCONT)
	other.kill()
	poll(t, "it is shown as gone", func() bool { return strings.Contains(watch.out.String(), "gone") })
	for _, p := range []*process{watch, nodes} {
		p.signal(os.Interrupt)
		p.wait(0)
	}
	w.release()
	w.where.run(t, 0, "runs", "follow", run, at).prints(rightAnswer)
}

// TestSubmitSession has the tasks of a session run one after another, on two
// nodes.
func TestSubmitSession(t *testing.T) {
	w := newWorld(t)
	w.onServer()
	at := "--nats=" + w.data.URL
	w.serve("a")
	w.serve("b")
	w.holdAt("model 1 is asked")
	for _, id := range []string{"t1", "t2", "t3"} {
		w.where.run(t, 0, "submit", at, w.team, question, "--id", id, "--session", "s")
	}
	w.await("the first is asked", func() bool { return w.held })
	w.where.run(t, 0, "runs", "show", "t2", at).prints("state     queued", "session   s")
	w.release()
	w.where.start(t, "runs", "follow", "t3", at).wait(0)
	infos := decode[[]messages.RunInfo](t, w.where.run(t, 0, "runs", "--session", "s", "--json", at))
	if len(infos) != 3 {
		t.Fatalf("%+v", infos)
	}
	for i, info := range infos {
		if info.Run != fmt.Sprint("t", i+1) || info.State != messages.RunDone || i > 0 && info.Started.Before(infos[i-1].Last) {
			t.Errorf("%+v", info)
		}
	}
}

// TestServeAlone serves a data directory, without any NATS server.
func TestServeAlone(t *testing.T) {
	w := where{dir: t.TempDir()}
	team := file(t, soloTeam)
	node := w.start(t, "serve", "--name", "n1", "--json", "--model", "scripted", "--file", team)
	node.sees("node n1 is ready: data in .covey, no pools, room for 16 runs and 256 guests")
	p := w.run(t, 0, "submit", team, "Why?", "--wait", "--id", "r1")
	p.prints("Because.\n").says("is asked (step 1)")
	if i := decode[submitted](t, w.run(t, 0, "submit", team, "Why?", "--id", "r2", "--json", "--priority", "high")); i.Run != "r2" || i.Queue != messages.DefinedQueue {
		t.Errorf("%+v", i)
	}
	w.run(t, 0, "runs", "follow", "r2").prints("Because.")
	w.run(t, 0, "runs", "show", "r2").prints("priority  high", "node      n1")
	w.run(t, exitFailed, "submit", team, "Fail!", "--id", "r3", "--wait").says("no such thing", "covey resume r3")
	w.run(t, exitFailed, "submit", team, "Why not?", "--id", "r1").says("there with another task")
	w.run(t, 0, "nodes").prints("n1", "ready", "defined")
	node.signal(os.Interrupt)
	node.wait(0).prints(`"kind":"run.ended"`)
	w.run(t, exitFailed, "nodes").says("no node runs on .covey")
}

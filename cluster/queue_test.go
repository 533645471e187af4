package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
)

// startQueue opens a queue whose deliveries come on the channel.
func startQueue(t testing.TB, nc *nats.Conn, o queueOptions) (*queue, chan *delivery) {
	t.Helper()
	got := make(chan *delivery, 1000)
	o.Deliver = func(d *delivery) { got <- d }
	if o.Room == 0 {
		o.Room = 100
	}
	q := must(openQueue(testCtx(t), nc, o))(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = q.stop(ctx)
	})
	return q, got
}

func task(id string) messages.Task { return messages.Task{ID: id, Team: "team", Prompt: "why?"} }

// next is the next delivery within 5 s.
func next(t testing.TB, got chan *delivery) *delivery {
	t.Helper()
	select {
	case d := <-got:
		return d
	case <-time.After(5 * time.Second):
		t.Fatal("no delivery within 5 s")
		return nil
	}
}

// none fails if there is a delivery within d.
func none(t testing.TB, got chan *delivery, within time.Duration) {
	t.Helper()
	select {
	case d := <-got:
		t.Fatalf("delivered %s, delivery %d", d.Task.ID, d.Deliveries)
	case <-time.After(within):
	}
}

func empty(t testing.TB, q *queue) {
	t.Helper()
	if ts := must(q.waiting(testCtx(t)))(t); len(ts) != 0 {
		t.Errorf("the queue still has %+v", ts)
	}
}

func TestQueueDeliversOnceAndForgetsWhatIsDone(t *testing.T) {
	n := startEmbedded(t, t.TempDir(), "")
	q, got := startQueue(t, n.nc, queueOptions{})
	ctx := testCtx(t)
	for i, want := range []bool{false, true, true} {
		if dup := must(q.submit(ctx, task("t1")))(t); dup != want {
			t.Errorf("submission %d: duplicate is %t", i, dup)
		}
	}
	if ts := must(q.waiting(ctx))(t); len(ts) != 1 || ts[0].ID != "t1" {
		t.Errorf("waiting: %+v", ts)
	}
	ok(t, q.serve(ctx, "team"))
	ok(t, q.serve(ctx, "team"))
	d := next(t, got)
	if d.Task.Prompt != "why?" || d.Deliveries != 1 || d.Ack() == "" {
		t.Errorf("%+v", d)
	}
	ok(t, d.done(ctx))
	ok(t, d.done(ctx))
	ok(t, d.release(0)) // after done: nothing
	empty(t, q)
	must(q.submit(ctx, task("t2")))(t)
	if d := next(t, got); d.Task.ID != "t2" {
		t.Errorf("got %s", d.Task.ID)
	}
}

func TestQueueKeepsToItsRoom(t *testing.T) {
	n := startEmbedded(t, t.TempDir(), "")
	q, got := startQueue(t, n.nc, queueOptions{Room: 3})
	ctx := testCtx(t)
	ok(t, q.serve(ctx, "team"))
	ok(t, q.serve(ctx, "other"))
	for i := range 10 {
		must(q.submit(ctx, task(fmt.Sprint("t", i))))(t)
		must(q.submit(ctx, messages.Task{ID: fmt.Sprint("o", i), Team: "other"}))(t)
	}
	seen := map[string]bool{}
	var held []*delivery
	for range 20 {
		for len(held) < 3 && len(seen) < 20 {
			d := next(t, got)
			if seen[d.Task.ID] {
				t.Fatalf("%s twice", d.Task.ID)
			}
			seen[d.Task.ID] = true
			held = append(held, d)
		}
		none(t, got, 10*time.Millisecond)
		ok(t, held[0].done(ctx))
		held = held[1:]
	}
	empty(t, q)
}

func TestAReleasedTaskComesAgain(t *testing.T) {
	n := startEmbedded(t, t.TempDir(), "")
	q, got := startQueue(t, n.nc, queueOptions{})
	ctx := testCtx(t)
	ok(t, q.serve(ctx, "team"))
	must(q.submit(ctx, task("t1")))(t)
	ok(t, next(t, got).release(0))
	d := next(t, got)
	if d.Deliveries != 2 {
		t.Errorf("delivery %d", d.Deliveries)
	}
	start := time.Now()
	ok(t, d.release(300*time.Millisecond))
	d = next(t, got)
	if late := time.Since(start); late < 250*time.Millisecond {
		t.Errorf("again after %v", late)
	}
	ok(t, d.done(ctx))
	empty(t, q)
}

func TestProgressKeepsATaskBeyondAckWait(t *testing.T) {
	const wait = 300 * time.Millisecond
	n := startEmbedded(t, t.TempDir(), "")
	q, got := startQueue(t, n.nc, queueOptions{AckWait: wait})
	other, otherGot := startQueue(t, must(n.srv.connect("other", connEvents{}))(t), queueOptions{AckWait: wait})
	defer other.nc.Close()
	ctx := testCtx(t)
	ok(t, q.serve(ctx, "team"))
	must(q.submit(ctx, task("t1")))(t)
	d := next(t, got)
	ok(t, other.serve(ctx, "team"))
	none(t, otherGot, 4*wait)
	none(t, got, 0)
	d.drop() // no more signs of life: it comes again after AckWait
	select {
	case d = <-got:
	case d = <-otherGot:
	case <-time.After(5 * time.Second):
		t.Fatal("a task without signs of life did not come again")
	}
	ok(t, d.done(ctx))
	empty(t, q)
	_ = other.stop(ctx)
}

func TestStopHandsEverythingBack(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	ctx := testCtx(t)
	q, got := startQueue(t, dialURL(t, url), queueOptions{Shared: true})
	other, otherGot := startQueue(t, dialURL(t, url), queueOptions{Shared: true})
	const n = 20
	for i := range n {
		must(q.submit(ctx, task(fmt.Sprint("t", i))))(t)
	}
	ok(t, q.serve(ctx, "team"))
	for range n {
		next(t, got)
	}
	ok(t, other.serve(ctx, "team"))
	start := time.Now()
	ok(t, q.stop(ctx))
	for range n {
		ok(t, next(t, otherGot).done(ctx))
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v under an AckWait of 30 s", d)
	}
	empty(t, other)
	wantClass(t, q.serve(ctx, "team"), messages.Stopping)
}

// In shared mode a dead node's tasks are handed on by their ack subjects.
func TestNakBySubject(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	ctx := testCtx(t)
	q, got := startQueue(t, dialURL(t, url), queueOptions{Shared: true})
	c := startChild(t, "worker", "URL="+url, "ACKWAIT=30s")
	c.expect("serving")
	acks := map[string]string{}
	for i := range 5 {
		must(q.submit(ctx, task(fmt.Sprint("t", i))))(t)
		var id, ack string
		must(fmt.Sscan(c.expect("took"), &id, &ack))(t)
		acks[id] = ack
	}
	c.kill()
	ok(t, q.serve(ctx, "team"))
	start := time.Now()
	for _, ack := range acks {
		ok(t, nakDeliveries(ctx, q.nc, ack))
	}
	for range acks {
		d := next(t, got)
		if acks[d.Task.ID] == "" || d.Deliveries != 2 {
			t.Errorf("%s, delivery %d", d.Task.ID, d.Deliveries)
		}
		defer func() { ok(t, d.done(ctx)) }()
	}
	late := time.Since(start)
	t.Logf("%d tasks of a dead node redelivered within %v", len(acks), late)
	if late > 100*time.Millisecond {
		t.Errorf("took %v", late)
	}
	wantClass(t, nakDeliveries(ctx, q.nc, "covey.tasks.team"), messages.Invalid)
	wantClass(t, nakDeliveries(ctx, q.nc, "$JS.ACK.OTHER.c.1.1.1.1.1"), messages.Invalid)
}

// A node that nobody missed: its tasks come again after AckWait by themselves.
func TestADeadNodesTasksComeAgain(t *testing.T) {
	t.Parallel()
	const wait = 500 * time.Millisecond
	url, _ := listen(t, t.TempDir(), freePort(t))
	ctx := testCtx(t)
	q, got := startQueue(t, dialURL(t, url), queueOptions{Shared: true, AckWait: wait})
	c := startChild(t, "worker", "URL="+url, "ACKWAIT="+wait.String())
	c.expect("serving")
	must(q.submit(ctx, task("t1")))(t)
	c.expect("took")
	ok(t, q.serve(ctx, "team"))
	none(t, got, 3*wait) // it is held
	c.kill()
	if d := next(t, got); d.Deliveries < 2 {
		t.Errorf("delivery %d", d.Deliveries)
	} else {
		ok(t, d.done(ctx))
	}
	empty(t, q)
}

// In embedded mode a restart after kill -9 finds what was held, at once: the
// consumers died with their server.
func TestARestartAfterKill9FindsWhatWasHeld(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, "holder", "DIR="+dir)
	for range 3 {
		c.expect("took")
	}
	c.kill()

	l := must(lockDir(dir))(t)
	defer func() { ok(t, l.release()) }()
	n := startEmbedded(t, dir, "")
	ctx := testCtx(t)
	q, got := startQueue(t, n.nc, queueOptions{})
	start := time.Now()
	ok(t, q.serve(ctx, "team"))
	for range 3 {
		ok(t, next(t, got).done(ctx))
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v under an AckWait of 30 s", d)
	}
	empty(t, q)
}

func TestWhatIsNoTaskIsReported(t *testing.T) {
	n := startEmbedded(t, t.TempDir(), "")
	bad := make(chan error, 10)
	q, got := startQueue(t, n.nc, queueOptions{Bad: func(err error) { bad <- err }})
	ctx := testCtx(t)
	ok(t, q.serve(ctx, "team"))
	publish := func(h nats.Header, data string) {
		t.Helper()
		must(q.js.PublishMsg(ctx, &nats.Msg{Subject: taskSubject(task("x")), Header: h, Data: []byte(data)}))(t)
	}
	publish(nats.Header{messages.HeaderVersion: {"99"}, messages.HeaderKind: {"task"}}, "{}")
	if err := <-bad; !errors.Is(err, messages.ErrVersion) {
		t.Error(err)
	}
	publish(nil, "hello")
	publish(nats.Header{messages.HeaderVersion: {"1"}, messages.HeaderKind: {"ask"}}, "{}")
	publish(nats.Header{messages.HeaderVersion: {"1"}, messages.HeaderKind: {"task"}}, `{"id":"../../etc","team":"team"}`)
	for range 3 {
		if err := <-bad; !errors.Is(err, messages.ErrWire) {
			t.Error(err)
		}
	}
	must(q.submit(ctx, task("good")))(t)
	ok(t, next(t, got).done(ctx))
	if info := must(q.stream.Info(ctx))(t); info.State.Msgs != 1 {
		t.Errorf("%d messages left, want only the one for a newer node", info.State.Msgs)
	}
}

// A task that is delivered again to the node that holds it is not run twice.
func TestARedeliveryToItsHolderIsTheSameDelivery(t *testing.T) {
	n := startEmbedded(t, t.TempDir(), "")
	q, got := startQueue(t, n.nc, queueOptions{})
	ctx := testCtx(t)
	ok(t, q.serve(ctx, "team"))
	must(q.submit(ctx, task("t1")))(t)
	d := next(t, got)
	first := d.Ack()
	ok(t, nakDeliveries(ctx, n.nc, first)) // somebody took this node for dead
	must(q.submit(ctx, task("t2")))(t)
	next(t, got) // came after it
	none(t, got, 0)
	if d.Ack() == first {
		t.Error("the old delivery's ack subject is still used")
	}
	ok(t, d.done(ctx))
	if ts := must(q.waiting(ctx))(t); len(ts) != 1 || ts[0].ID != "t2" {
		t.Errorf("left: %+v", ts)
	}
}

func TestLeavingATeam(t *testing.T) {
	n := startEmbedded(t, t.TempDir(), "")
	q, got := startQueue(t, n.nc, queueOptions{})
	ctx := testCtx(t)
	ok(t, q.serve(ctx, "team"))
	must(q.submit(ctx, task("t1")))(t)
	next(t, got)
	q.leave("team")
	must(q.submit(ctx, task("t2")))(t)
	none(t, got, 50*time.Millisecond)
	ok(t, q.serve(ctx, "team"))
	if d := next(t, got); d.Task.ID != "t2" {
		t.Errorf("got %s", d.Task.ID)
	}
}

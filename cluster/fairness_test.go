package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
)

// A queue's tasks come by priority, and within one in order.
func TestPriorities(t *testing.T) {
	n := startEmbedded(t, t.TempDir(), "")
	q, got := startQueue(t, n.nc, queueOptions{Room: 1})
	ctx := testCtx(t)
	put := func(prio messages.Priority, ids ...string) {
		t.Helper()
		for _, id := range ids {
			x := task(id)
			x.Priority = prio
			must(q.submit(ctx, x))(t)
		}
	}
	put(messages.Low, "l1")
	put(messages.Normal, "n1", "n2")
	put(messages.High, "h1")
	ok(t, q.serve(ctx, "team"))
	d := next(t, got)
	put(messages.High, "h2") // to the end of its own, and before all others
	for i, want := range []string{"h1", "h2", "n1", "n2", "l1", "l2"} {
		if d.Task.ID != want {
			t.Errorf("place %d: %s, want %s", i, d.Task.ID, want)
		}
		ok(t, d.done(ctx))
		if want == "l1" {
			none(t, got, 10*time.Millisecond) // idle: its pulls wait at the server
			put(messages.Low, "l2")
		}
		if want != "l2" {
			d = next(t, got)
		}
	}
	empty(t, q)
}

// A consumer that the server has forgotten is made anew, and finds its tasks.
func TestAConsumerThatIsGone(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	ctx := testCtx(t)
	q, got := startQueue(t, dialURL(t, url), queueOptions{Shared: true})
	own := task("t1")
	own.Queue = OwnQueue("t1")
	ok(t, q.serve(ctx, own.Queue))
	name := "covey-" + own.Queue + "-normal"
	c := must(q.js.Consumer(ctx, taskStream, name))(t)
	if cfg := c.CachedInfo().Config; cfg.InactiveThreshold != unserved || cfg.Durable != "" {
		t.Errorf("%+v", cfg)
	}
	ok(t, q.js.DeleteConsumer(ctx, taskStream, name))
	must(q.submit(ctx, own))(t)
	d := next(t, got)
	ok(t, q.js.DeleteConsumer(ctx, taskStream, name)) // it is held: the same delivery
	must(q.submit(ctx, func() messages.Task { x := own; x.ID = "t2"; return x }()))(t)
	other := next(t, got)
	if other.Task.ID != "t2" {
		t.Errorf("got %s again", other.Task.ID)
	}
	ok(t, other.done(ctx))
	ok(t, d.done(ctx))
	empty(t, q)
}

// Three nodes work off thousands of tasks, none beyond its room, each its share;
// and what is submitted last with a high priority is begun before what still
// waits.
func TestThreeNodesShareOut(t *testing.T) {
	count := 10_000
	if withRace || testing.Short() {
		count = 500
	}
	const room = 8
	nodes, _ := startNodes(t, 3, Config{MaxRuns: room})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var mu sync.Mutex
	var order []string // of the beginnings
	var taken []string // as they left the queue: how long each then takes to begin is chance
	shares := make([]atomic.Int32, len(nodes))
	var full sync.WaitGroup // each of the first tasks waits until all rooms are full
	full.Add(room * len(nodes))
	gate, done := make(chan struct{}), make(chan struct{})
	for i, n := range nodes {
		var now atomic.Int32
		deliver := n.queue.Deliver
		n.queue.Deliver = func(d *delivery) {
			mu.Lock()
			taken = append(taken, d.Task.ID)
			mu.Unlock()
			deliver(d)
		}
		ok(t, n.Serve(ctx, planned("team", func(_ context.Context, s *actors.Stage) (string, error) {
			if now.Add(1) > room {
				t.Errorf("node %d has more than %d runs", i, room)
			}
			defer now.Add(-1)
			shares[i].Add(1)
			mu.Lock()
			order = append(order, s.Prompt())
			n := len(order)
			mu.Unlock()
			if n <= room*3 {
				full.Done()
				<-gate
			}
			if n == count+100 {
				close(done)
			}
			return "done", nil
		})))
	}
	put := func(prio messages.Priority, from, to int) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := from + w; i < to; i += 8 {
					id := fmt.Sprint("t", i)
					if _, err := nodes[0].queue.submit(ctx, messages.Task{ID: id, Team: "team", Prompt: id, Priority: prio}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	began := time.Now()
	put(messages.Normal, 0, count)
	full.Wait()
	put(messages.High, count, count+100)
	close(gate)
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatalf("%d of %d begun", len(order), count+100)
	}
	t.Logf("%d tasks in %v, shares %d %d %d", count+100, time.Since(began), shares[0].Load(), shares[1].Load(), shares[2].Load())
	seen := map[string]bool{}
	for _, id := range order {
		if seen[id] {
			t.Errorf("%s was begun twice", id)
		}
		seen[id] = true
	}
	for i, id := range taken {
		var n int
		must(fmt.Sscanf(id, "t%d", &n))(t)
		if n >= count && i >= 2*room*len(nodes)+100 { // in the places after the first, give or take who is faster
			t.Errorf("place %d: %s, of high priority", i, id)
		}
	}
	for i := range nodes {
		if s := int(shares[i].Load()); s < (count+100)/10 {
			t.Errorf("node %d had %d of %d", i, s, count+100)
		}
	}
	for !must(allDone(ctx, nodes[0]))(t) {
		time.Sleep(10 * time.Millisecond)
	}
}

// allDone reports whether the queue is empty.
func allDone(ctx context.Context, n *Node) (bool, error) {
	info, err := n.queue.stream.Info(ctx)
	return err == nil && info.State.Msgs == 0, err
}

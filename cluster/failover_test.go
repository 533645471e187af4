package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
)

// BenchmarkFailover ends one of three nodes, each a process, that work on 12 runs
// together: b.N times. It measures every run that the node had, by the server's
// clock.
//
// killed, by kill -9, and frozen, by SIGSTOP: from the signal to the next record
// of the run, which is another node's. A frozen node is woken then, and must not
// write again. drained, by SIGTERM: between the last record of the one node and
// the first of the other, which takes 10 ms itself.
func BenchmarkFailover(b *testing.B) {
	for name, by := range map[string]os.Signal{"killed": syscall.SIGKILL, "frozen": syscall.SIGSTOP, "drained": syscall.SIGTERM} {
		b.Run(name, func(b *testing.B) { failover(b, by) })
	}
}

func failover(b *testing.B, by os.Signal) {
	const runs, room = 12, 16
	url, _ := startNATS(b)
	f := failing{b: b, client: newFiguresClient(b, url), nodes: map[string]*child{}}
	f.heard = hearRecords(b, f.client)
	for i := range 3 {
		name := fmt.Sprint("n", i)
		f.nodes[name] = childNodeOn(b, url, name, room)
	}
	var pauses spread
	ends := 0
	for b.Loop() {
		ends++
		ids := f.begin(runs)
		victim := f.last[ids[0]].node
		node, epoch := f.nodes[victim], f.epoch(victim)
		began := time.Now()
		ok(b, node.cmd.Process.Signal(by))
		left := map[string]bool{}
		for _, id := range ids {
			left[id] = f.last[id].node == victim
		}
		for moving := f.count(left); moving > 0; moving = f.count(left) {
			was, now := f.next()
			if now.node == victim {
				left[now.run] = true // it was handed to the node just before
			} else if left[now.run] {
				left[now.run] = false
				since := began
				if by == syscall.SIGTERM {
					since = was.at
				}
				pauses = append(pauses, now.at.Sub(since))
			}
		}
		f.gone = victim
		if by == syscall.SIGSTOP {
			ok(b, node.cmd.Process.Signal(syscall.SIGCONT))
			for f.epoch(victim) <= epoch {
				f.next()
			}
		}
		f.cancel(ids)
		f.gone = ""
		if by != syscall.SIGSTOP {
			if err := node.cmd.Wait(); err != nil && by == syscall.SIGTERM {
				b.Errorf("node %s: %v", victim, err)
			}
			f.nodes[victim] = childNodeOn(b, url, victim, room)
		}
	}
	pauses.metrics(b, "")
	b.ReportMetric(float64(len(pauses)), "runs-moved")
	b.ReportMetric(float64(ends), "nodes-ended")
	quiet(b)
}

// failing is a cluster whose nodes fail.
type failing struct {
	b      *testing.B
	client *Client
	heard  <-chan noted
	nodes  map[string]*child
	last   map[string]where // by run
	ended  map[string]bool
	gone   string // who may write no more
	rounds int
}

// where is where a run was at a time.
type where struct {
	run, node string
	at        time.Time
}

// begin submits runs and returns once each has come to its third beat.
func (f *failing) begin(n int) (ids []string) {
	f.rounds++
	f.last, f.ended = map[string]where{}, map[string]bool{}
	for i := range n {
		id := fmt.Sprintf("r%d-%d", f.rounds, i)
		ids = append(ids, id)
		_, err := f.client.queue.submit(f.b.Context(), messages.Task{ID: id, Team: "beats", Prompt: "Beat.", Submitted: now()})
		ok(f.b, err)
	}
	for seen := map[string]int{}; len(seen) < n || minOf(seen) < 3; {
		_, is := f.next()
		seen[is.run]++
	}
	return ids
}

func minOf(m map[string]int) int {
	least := -1
	for _, n := range m {
		if least < 0 || n < least {
			least = n
		}
	}
	return least
}

// next waits for a beat, and returns where the run was before.
func (f *failing) next() (was, is where) {
	f.b.Helper()
	for {
		h := hear(f.b, f.heard, "a beat")
		switch body := h.Body.(type) {
		case *messages.Decided:
			is = where{run: h.Run, at: h.at}
			ok(f.b, json.Unmarshal(body.Value, &is.node))
			if is.node == f.gone {
				f.b.Fatalf("%s writes to run %s, which it has lost", is.node, h.Run)
			}
			was, f.last[h.Run] = f.last[h.Run], is
			return was, is
		case *messages.Failed:
			f.ended[h.Run] = true
		}
	}
}

// cancel ends the runs.
func (f *failing) cancel(ids []string) {
	for _, id := range ids {
		ok(f.b, f.client.Cancel(f.b.Context(), id, "measured"))
	}
	for len(f.ended) < len(ids) {
		h := hear(f.b, f.heard, "the end of a run")
		if _, is := h.Body.(*messages.Failed); is {
			f.ended[h.Run] = true
		}
	}
}

func (f *failing) count(left map[string]bool) (n int) {
	for _, is := range left {
		if is {
			n++
		}
	}
	return n
}

func (f *failing) epoch(node string) uint64 { return leaseEpoch(f.b, f.client, node) }

package cluster

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
)

// BenchmarkResident is what runs cost that wait for hours: 1,000 of them on two
// nodes, each a process, or as many as COVEY_RUNS says. It measures until all are
// in the queue, and wait; what they then take; and until all wait again, after a
// restart of both nodes (SIGTERM) and after their death (kill -9). One iteration
// does all of it.
func BenchmarkResident(b *testing.B) {
	runs := 1000
	if s := os.Getenv("COVEY_RUNS"); s != "" {
		_, err := fmt.Sscan(s, &runs)
		ok(b, err)
	}
	for b.Loop() {
		residents(b, runs)
	}
	quiet(b)
}

func residents(b *testing.B, runs int) {
	url, srv := startNATS(b)
	client := newFiguresClient(b, url)
	nodes := make([]*child, 2)
	start := func() {
		var wg sync.WaitGroup
		for i := range nodes {
			wg.Go(func() { nodes[i] = childNodeOn(b, url, fmt.Sprint("n", i), runs) })
		}
		wg.Wait()
	}
	measured := func(what string, do func()) {
		began := time.Now()
		do()
		b.ReportMetric(time.Since(began).Seconds(), what+"-s")
		b.Logf("%s: %v", what, time.Since(began))
	}
	start()
	idle := make([]uint64, len(nodes))
	var idleReport report
	for i, n := range nodes {
		idleReport = n.reportOf("memory")
		_, idle[i] = n.usage()
	}
	began := time.Now()
	measured("submit", func() { submitAll(b, client, runs) })
	waitForAll(b, nodes, runs)
	b.ReportMetric(time.Since(began).Seconds(), "all-wait-s")

	before := make([]time.Duration, 3)
	const watched = 10 * time.Second
	all := append([]*child{srv}, nodes...)
	for i, c := range all {
		before[i], _ = c.usage()
	}
	time.Sleep(watched)
	var memory uint64
	var kept report
	for i, c := range all {
		cpu, mem := c.usage()
		share := (cpu - before[i]).Seconds() / watched.Seconds()
		if i == 0 {
			b.ReportMetric(float64(mem)/1e6, "server-MB")
			b.ReportMetric(100*share, "server-%cpu")
			continue
		}
		b.ReportMetric(100*share, fmt.Sprintf("%%cpu-n%d", i-1))
		memory += mem - idle[i-1]
		r := c.reportOf("memory")
		kept.Heap, kept.Stacks = kept.Heap+r.Heap-idleReport.Heap, kept.Stacks+r.Stacks-idleReport.Stacks
		kept.Goroutines += r.Goroutines - idleReport.Goroutines
		kept.Subscriptions += r.Subscriptions - idleReport.Subscriptions
	}
	each := func(n uint64, unit string) { b.ReportMetric(float64(n)/float64(runs), unit) }
	each(memory, "resident-B/run")
	each(kept.Heap, "heap-B/run")
	each(kept.Stacks, "stack-B/run")
	each(uint64(kept.Goroutines), "goroutines/run")
	each(uint64(kept.Subscriptions), "subscriptions/run")

	measured("drain", func() {
		for _, n := range nodes {
			ok(b, n.cmd.Process.Signal(syscall.SIGTERM))
		}
		for _, n := range nodes {
			ok(b, n.cmd.Wait())
		}
	})
	measured("restart", func() { start(); waitForAll(b, nodes, runs) })
	for _, n := range nodes {
		n.kill()
	}
	measured("after-kill", func() { start(); waitForAll(b, nodes, runs) })
	for _, n := range append(nodes, srv) {
		n.kill()
	}
}

// submitAll submits the runs, 64 at a time.
func submitAll(b *testing.B, c *Client, runs int) {
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for i := w; i < runs; i += 64 {
				if _, err := c.queue.submit(b.Context(), messages.Task{ID: fmt.Sprint("r", i), Team: "resident", Prompt: "Wait.", Submitted: now()}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// waitForAll returns once every run is on one of the nodes, and waits there.
func waitForAll(b *testing.B, nodes []*child, runs int) {
	b.Helper()
	var seen int64
	began := time.Now()
	for told := began; ; time.Sleep(100 * time.Millisecond) {
		seen = 0
		var on int
		for _, n := range nodes {
			r := n.reportOf("count")
			seen, on = seen+r.Waiting, on+r.Runs
		}
		if seen >= int64(runs) && on == runs {
			if seen > int64(runs) {
				b.Logf("%d runs were begun more than once", seen-int64(runs))
			}
			return
		}
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			b.Logf("after %v %d runs wait, %d are on a node", time.Since(began).Round(time.Second), seen, on)
		}
		if time.Since(began) > 10*time.Minute {
			b.Fatalf("after 10 minutes %d of %d runs wait, %d are on a node", seen, runs, on)
		}
	}
}

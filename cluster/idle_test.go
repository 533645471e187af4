package cluster

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkIdleNode is what a node costs that has nothing to do, one of three,
// each a process, for 20 s: processor time and memory, those of the server beside.
// The process is this test's program, which holds some more than a node needs.
func BenchmarkIdleNode(b *testing.B) {
	const watched = 20 * time.Second
	for b.Loop() {
		url, srv := startNATS(b)
		all := []*child{srv}
		for i := range 3 {
			all = append(all, childNodeOn(b, url, fmt.Sprint("n", i), 16))
		}
		time.Sleep(5 * time.Second)
		before := make([]time.Duration, len(all))
		for i, c := range all {
			before[i], _ = c.usage()
		}
		time.Sleep(watched)
		var cpu time.Duration
		var memory uint64
		for i, c := range all {
			now, mem := c.usage()
			if i == 0 {
				b.ReportMetric(100*(now-before[i]).Seconds()/watched.Seconds(), "server-%cpu")
				b.ReportMetric(float64(mem)/1e6, "server-MB")
				continue
			}
			cpu, memory = cpu+now-before[i], memory+mem
		}
		nodes := float64(len(all) - 1)
		b.ReportMetric(100*cpu.Seconds()/watched.Seconds()/nodes, "%cpu/node")
		b.ReportMetric(float64(memory)/nodes/1e6, "MB/node")
		r := all[1].reportOf("memory")
		b.ReportMetric(float64(r.Heap)/1e6, "heap-MB/node")
		b.ReportMetric(float64(r.Goroutines), "goroutines/node")
		b.ReportMetric(float64(r.Subscriptions), "subscriptions/node")
		for _, c := range all {
			c.kill()
		}
	}
	quiet(b)
}

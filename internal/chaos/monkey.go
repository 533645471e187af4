package chaos

import (
	"context"
	"sync"
	"time"
)

// termWithin bounds the end of a process after SIGTERM.
const termWithin = 40 * time.Second

// do does every fault at its time, after begin. The faults of one target follow
// one another; each is over when do returns, also after ctx's end.
func (c *cluster) do(ctx context.Context, begin time.Time, faults []Fault) {
	targets := map[int][]Fault{}
	for _, f := range faults {
		targets[f.Node] = append(targets[f.Node], f)
	}
	var wg sync.WaitGroup
	for _, fs := range targets {
		wg.Go(func() {
			for _, f := range fs {
				if wait(ctx, time.Until(begin.Add(f.At))) != nil {
					return
				}
				c.fault(ctx, f)
			}
		})
	}
	wg.Wait()
}

// fault does one fault, and undoes it.
func (c *cluster) fault(ctx context.Context, f Fault) {
	d := &done{Fault: f, Time: time.Now()}
	c.note(d)
	over := func() error { return wait(ctx, f.Length) } // ctx's end is seen by the caller
	if f.Kind == NATS {
		c.troubleAll()
		if f.Hard {
			c.nats.kill()
		} else {
			c.terminate(ctx, c.nats, true)
		}
		_ = over()
		c.troubleAll()
		if err := c.nats.start(); err != nil {
			c.accident("%v", err)
		}
		return
	}
	n := c.nodes[f.Node]
	n.trouble()
	switch f.Kind {
	case Kill:
		n.meant(true)
		n.kill()
		_ = over()
		n.meant(false)
	case Term:
		n.meant(true)
		c.terminate(ctx, n.process, false)
		c.tookToStop(d)
		_ = over()
		n.meant(false)
	case Stop:
		c.signal(n.process, freeze)
		_ = over()
		c.signal(n.process, thaw)
	case Partition:
		for _, w := range n.ways {
			w.sever()
		}
		_ = over()
		for _, w := range n.ways {
			w.heal()
		}
	}
	n.trouble()
}

package chaos

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	covey "github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// cluster is the nodes and their NATS, as processes.
type cluster struct {
	o     Options
	nodes []*node
	nats  *process // nil with embedded servers
	// url and show are the kit's own way to NATS.
	url  string
	show covey.Credentials
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu        sync.Mutex // guards the rest
	faults    []*done
	accidents []string
}

// done is a fault that was done.
type done struct {
	Fault
	// Time is when it began.
	Time time.Time `json:"time"`
	// Took is how long the process took to end after SIGTERM.
	Took time.Duration `json:"took_ns,omitempty"`
	// Affected is how many runs had their plan or a member on the node, or, when
	// NATS went away, were under way, and did not pause already.
	Affected int `json:"affected"`
}

// start starts every process.
func (c *cluster) start(ctx context.Context) error {
	if c.nats != nil {
		if err := c.nats.start(); err != nil {
			return err
		}
		if err := listens(ctx, strings.TrimPrefix(c.url, "nats://")); err != nil {
			return err
		}
	}
	keep, stop := context.WithCancel(ctx)
	c.stop = stop
	for _, n := range c.nodes {
		n.trouble() // the others, and NATS, are starting too
		c.wg.Go(func() { n.keep(keep) })
	}
	return nil
}

// listens waits until somebody listens at an address, at most 30 s.
func listens(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if wait(ctx, 20*time.Millisecond) != nil {
			return messages.Errorf(messages.Unavailable, "chaos", "nobody listens: %w", err)
		}
	}
}

// end stops nodes by SIGTERM, the way they are stopped every day.
func (c *cluster) end(ctx context.Context, nodes ...*node) {
	var wg sync.WaitGroup
	for _, n := range nodes {
		n.meant(true)
		wg.Go(func() { c.terminate(ctx, n.process, true) })
	}
	wg.Wait()
}

// close ends every process that is left, and every connection.
func (c *cluster) close() {
	if c.stop != nil {
		c.stop()
	}
	for _, n := range c.nodes {
		n.meant(true)
	}
	c.wg.Wait()
	for _, n := range c.nodes {
		n.kill()
		for _, w := range n.ways {
			w.close()
		}
	}
	if c.nats != nil {
		c.nats.kill()
	}
}

// terminate ends a process by SIGTERM; one that does not end is killed, which is
// an accident. A node's status of 1 says that it could not finish a step, as
// happens while NATS is away; with calm there is no such reason.
func (c *cluster) terminate(ctx context.Context, p *process, calm bool) {
	c.signal(p, term)
	select {
	case <-p.end():
		if s := p.status(); s != "exit status 0" && (calm || s != "exit status 1") {
			c.accident("%s, after SIGTERM: %s", p.name, s)
		}
		return
	case <-ctx.Done():
	case <-time.After(termWithin):
		c.accident("%s has not ended %s after SIGTERM", p.name, termWithin)
		c.signal(p, stacks) // into its log
		select {
		case <-p.end():
		case <-time.After(5 * time.Second):
		}
	}
	p.kill()
}

func (c *cluster) signal(p *process, s os.Signal) {
	if err := p.signal(s); err != nil {
		c.accident("%v", err)
	}
}

func (c *cluster) troubleAll() {
	for _, n := range c.nodes {
		n.trouble()
	}
}

// note tells of a fault that begins.
func (c *cluster) note(d *done) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, d)
	fmt.Fprintf(c.o.Log, "%8s  %s\n", d.At.Round(10*time.Millisecond), d.Fault)
}

func (c *cluster) tookToStop(d *done) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.Took = time.Since(d.Time)
}

// accident is something that no fault explains.
func (c *cluster) accident(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what := fmt.Sprintf(format, args...)
	c.accidents = append(c.accidents, what)
	fmt.Fprintln(c.o.Log, "          ", what)
}

// wrong returns the accidents.
func (c *cluster) wrong() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.accidents)
}

package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/covey-run/covey/messages"
)

// cluster is the nodes and their NATS, as processes.
type cluster struct {
	o     Options
	nodes []*node
	nats  *process // nil with embedded servers
	url   string   // the kit's own way to NATS
	stop  context.CancelFunc
	wg    sync.WaitGroup

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

// newCluster makes ready what the processes need; start starts them. env is the
// nodes' environment.
func newCluster(o Options, env []string) (*cluster, error) {
	c := &cluster{o: o}
	if o.Embedded {
		return nil, messages.Errorf(messages.Invalid, "", "chaos: embedded: true is not allowed: this covey has no embedded cluster")
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c.url = "nats://" + loopback(port)
	c.nats = &process{
		name: "nats", log: filepath.Join(o.Dir, "nats.log"), env: os.Environ(),
		argv: []string{o.Binary, "chaos-nats", fmt.Sprintf("--port=%d", port), "--store=" + filepath.Join(o.Dir, "nats")},
	}
	for i := range o.Nodes {
		way, err := newProxy(loopback(port))
		if err != nil {
			c.close()
			return nil, err
		}
		metrics, err := freePort()
		if err != nil {
			c.close()
			return nil, err
		}
		n := &node{number: i, metrics: loopback(metrics), ways: []*proxy{way}, accident: c.accident}
		n.process = &process{
			name: nodeName(i), log: filepath.Join(o.Dir, nodeName(i)+".log"), env: env,
			argv: []string{o.Binary, "serve", "--nats=nats://" + way.addr(), "--name=" + nodeName(i),
				fmt.Sprintf("--max-runs=%d", o.Rooms), "--metrics=" + n.metrics},
		}
		if o.Team != "" {
			n.argv = append(n.argv, "--file="+o.Team)
		}
		for k, pool := range o.Pools {
			if o.Nodes == 1 || i != k%o.Nodes { // elsewhere for the runs of one node
				n.argv = append(n.argv, "--pool="+pool)
			}
		}
		c.nodes = append(c.nodes, n)
	}
	return c, nil
}

// start starts every process.
func (c *cluster) start(ctx context.Context) error {
	if err := c.nats.start(); err != nil {
		return err
	}
	keep, stop := context.WithCancel(ctx)
	c.stop = stop
	for _, n := range c.nodes {
		n.trouble() // NATS is starting too
		c.wg.Go(func() { n.keep(keep) })
	}
	return nil
}

// end stops every node by SIGTERM, the way they are stopped every day.
func (c *cluster) end(ctx context.Context) {
	var wg sync.WaitGroup
	for _, n := range c.nodes {
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

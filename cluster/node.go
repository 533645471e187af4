package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// Node runs teams. It is safe for concurrent use.
type Node struct {
	cfg     Config
	store   *store // nil with a URL
	nc      *nats.Conn
	client  *Client
	queue   *queue
	bus     *bus
	sys     *supervisor.System
	rt      *actors.Runtime
	gate    *gate       // nil where no other node can be
	cluster *membership // nil where no other node can be
	watch   watchers
	svc     micro.Service
	work    sync.WaitGroup // deliveries in hand

	started time.Time
	ready   atomic.Bool // all of the above is there

	// running ends with the node, and so do the sweeps.
	running context.Context
	halt    context.CancelFunc
	sweeps  sync.WaitGroup

	mu       sync.Mutex
	members  map[string]actors.Member // by team name
	handles  map[string][]*Run
	draining bool
	told     map[string]time.Time // what was logged, and when: see seldom
	once     sync.Once
	stopErr  error
}

// Start starts a node. ctx bounds the start alone; the node lives until Stop.
// A data directory that another process owns is [ErrInUse].
func Start(ctx context.Context, cfg Config) (_ *Node, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	n := &Node{cfg: cfg, started: now(), members: map[string]actors.Member{}, handles: map[string][]*Run{}, told: map[string]time.Time{}}
	n.running, n.halt = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			if n.sys != nil {
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				defer cancel()
				_ = n.sys.Stop(last) // the error is Start's
				n.leave(last)
			}
			n.abandon()
		}
	}()
	if cfg.URL != "" {
		show, err := cfg.Credentials.options()
		if err != nil {
			return nil, err
		}
		if n.nc, err = connect(ctx, cfg.URL, cfg.Name, connEvents{Failed: n.warn("connection")}, show...); err != nil {
			return nil, err
		}
	} else {
		if n.store, err = takeStore(ctx, cfg); err != nil {
			return nil, err
		}
		n.nc = n.store.nc
	}
	if n.client, err = newClient(ctx, n.nc, cfg.Replicas, n.away, nil, func() {}); err != nil {
		return nil, err
	}
	n.queue, err = openQueue(ctx, n.nc, queueOptions{
		Shared: cfg.shared(), Replicas: cfg.Replicas, Room: cfg.MaxRuns, Deliver: n.deliver, Bad: n.seldom("task queue"), Retrying: n.away,
	})
	if err != nil {
		return nil, err
	}
	if cfg.shared() { // for those who may put tasks into sessions, and make no bucket
		if err := n.client.waits.open(ctx); err != nil {
			return nil, err
		}
	}
	n.bus = newBus(n.nc)
	if n.sys, err = supervisor.NewSystem(supervisor.Config{Name: cfg.Name, Clock: cfg.Clock}); err != nil {
		return nil, err
	}
	if cfg.shared() {
		if n.cluster, err = join(ctx, n.nc, membershipOptions{
			Name: cfg.Name, Replicas: cfg.Replicas, Times: cfg.lease, Info: n.info, Fence: n.fence, Joined: n.joined, Lost: n.lost, Warn: n.warn("lease"),
		}); err != nil {
			return nil, err
		}
	}
	if err := n.startRuntime(ctx); err != nil {
		return nil, err
	}
	if err := n.startWatchers(); err != nil {
		return nil, err
	}
	if n.svc, err = n.serveNode(); err != nil {
		return nil, err
	}
	n.ready.Store(true)
	if n.cluster != nil {
		n.cluster.lease.renewNow()
		n.sweeps.Go(n.sweep)
	}
	return n, nil
}

// warn logs what has no caller.
func (n *Node) warn(what string) func(error) {
	return func(err error) { n.cfg.Logger.Warn("covey: "+what, "node", n.cfg.Name, "error", err) }
}

// seldom is warn for what comes again and again: the same words are logged once
// an hour.
func (n *Node) seldom(what string) func(error) {
	return func(err error) {
		n.mu.Lock()
		if len(n.told) >= 1000 {
			clear(n.told)
		}
		words := what + err.Error()
		again := time.Since(n.told[words]) < time.Hour
		if !again {
			n.told[words] = time.Now()
		}
		n.mu.Unlock()
		if !again {
			n.warn(what)(err)
		}
	}
}

// away logs that the journal or the queue has been away for some tries.
func (n *Node) away(what string, attempt int, err error) {
	if attempt == 3 {
		n.cfg.Logger.Warn("covey: NATS does not answer; trying on", "node", n.cfg.Name, "what", what, "error", err)
	}
}

// Name is the node's name.
func (n *Node) Name() string { return n.cfg.Name }

// Client looks at runs, this node's and others'.
func (n *Node) Client() *Client { return n.client }

// Events is everything that happens on the node, as it happens.
func (n *Node) Events() *supervisor.Events { return n.sys.Events() }

// Tree is the node's live supervision tree.
func (n *Node) Tree(ctx context.Context) messages.TreeNode {
	return n.sys.Tree(ctx, supervisor.TreeOptions{})
}

// Ping says whether the models of a member would work, without a model call,
// where their clients can tell. An agent with a fallback needs one rung that
// works.
func (n *Node) Ping(ctx context.Context, m actors.Member) error {
	var errs []error
	seen := map[string]bool{}
	for _, a := range agentsOf(m) {
		key := fmt.Sprintf("%s %s %q", a.Model, a.Kind, a.Fallback)
		if a.Calls != nil || !seen[key] {
			seen[key] = true
			errs = append(errs, n.rt.PingAgent(ctx, a))
		}
	}
	return errors.Join(errs...)
}

func agentsOf(m actors.Member) (all []actors.Agent) {
	switch m := m.(type) {
	case actors.Agent:
		return []actors.Agent{m}
	case actors.Team:
		for _, m := range m.Members {
			all = append(all, agentsOf(m)...)
		}
	}
	return all
}

// stopWithin bounds a Stop whose context has no deadline.
const stopWithin = 30 * time.Second

// Stop ends the node: it takes no more tasks, begins no new step, waits for the
// steps under way, and leaves every run that is not done resumable. When ctx
// ends first (30 s without a deadline) the rest is cut off and named in the
// error, of class timeout; runs are resumable all the same. A second Stop
// returns what the first did.
func (n *Node) Stop(ctx context.Context) error {
	n.once.Do(func() { n.stopErr = n.stop(ctx) })
	return n.stopErr
}

func (n *Node) stop(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, stopWithin)
		defer cancel()
	}
	errs := []error{n.Drain(ctx)}
	// What follows is quick, and is done also when the time is up.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	errs = append(errs, n.sys.Stop(last), n.rt.Close(last))
	n.concluded(last)
	errs = append(errs, n.queue.stop(last), n.svc.Stop())
	n.leave(last)
	n.abandon()
	n.mu.Lock()
	var left []string
	for id := range n.handles {
		left = append(left, id)
	}
	n.mu.Unlock()
	for _, id := range left {
		n.finish(id, result{err: messages.Errorf(messages.Stopping, id, "the node has stopped: the run can be resumed")})
	}
	return errors.Join(errs...)
}

// concluded waits, within ctx, until what has come of each delivery is told: a
// task whose acknowledgement is cut off comes again only after AckWait.
func (n *Node) concluded(ctx context.Context) {
	told := make(chan struct{})
	go func() {
		n.work.Wait()
		close(told)
	}()
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// abandon closes what is open.
func (n *Node) abandon() {
	n.halt()
	n.watch.stop()
	if n.gate != nil {
		n.gate.close()
	}
	if n.bus != nil {
		n.bus.close()
	}
	if n.client != nil {
		n.client.queue.quit()
	}
	if n.queue != nil {
		n.queue.quit()
	}
	if n.store != nil {
		n.store.close()
	} else if n.nc != nil {
		n.nc.Close()
	}
}

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	covey "github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// Run starts a cluster, has a team work on it while faults are done to it, and
// reports what held. The error says that it could not come so far; what did not
// hold is in the report. Every process has ended when it returns.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	k := &kit{o: o, report: &Report{Seed: o.Seed, For: o.For, Embedded: o.Embedded, Schedule: o.plan().Schedule()}}
	defer k.close()
	if err := k.begin(ctx); err != nil {
		return nil, err
	}
	if err := k.load(ctx); err != nil {
		return nil, err
	}
	return k.judge(ctx)
}

// kit is one Run.
type kit struct {
	o       Options
	report  *Report
	model   *model // nil for a team that is not the kit's own
	effects string // the folder
	cluster *cluster
	client  *covey.Client
	journal journal
	runs    *load
	before  []int // goroutines of each node, before the load
	closers []func()
}

func (k *kit) close() {
	for i := len(k.closers) - 1; i >= 0; i-- {
		k.closers[i]()
	}
}

func (k *kit) say(format string, args ...any) { fmt.Fprintf(k.o.Log, format+"\n", args...) }

// begin brings the cluster up.
func (k *kit) begin(ctx context.Context) error {
	env := os.Environ()
	if k.o.Team == "" {
		k.effects = filepath.Join(k.o.Dir, "effects")
		for _, tool := range tools {
			if err := os.MkdirAll(filepath.Join(k.effects, tool), 0o700); err != nil {
				return messages.Errorf(messages.Unavailable, "chaos", "%w", err)
			}
		}
		var err error
		if k.model, err = startModel(k.o.Pace); err != nil {
			return err
		}
		k.closers = append(k.closers, k.model.close)
		if err := k.o.ownTeam(k.effects); err != nil {
			return err
		}
		env = append(env, "OLLAMA_HOST="+k.model.url)
	}
	var err error
	if k.cluster, err = newCluster(k.o, env); err != nil {
		return err
	}
	k.closers = append(k.closers, k.cluster.close)
	if err := k.cluster.start(ctx); err != nil {
		return err
	}
	ready, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	nc, js, err := dial(k.cluster.url, k.cluster.show)
	if err != nil {
		return err
	}
	k.closers = append(k.closers, nc.Close)
	k.journal = journal{js}
	if err := k.ready(ready); err != nil {
		return err
	}
	for _, n := range k.cluster.nodes {
		g, err := n.goroutines(ready)
		if err != nil {
			return err
		}
		k.before = append(k.before, g)
	}
	return nil
}

// ready waits until every node takes tasks.
func (k *kit) ready(ctx context.Context) error {
	for {
		err := k.tryReady(ctx)
		if err == nil {
			return nil
		}
		if wait(ctx, 100*time.Millisecond) != nil {
			return messages.Errorf(messages.Unavailable, "chaos", "the cluster does not come up: %w; the logs are in %s", err, k.o.Dir)
		}
	}
}

func (k *kit) tryReady(ctx context.Context) error {
	if k.client == nil {
		c, err := covey.Open(ctx, covey.Config{URL: k.cluster.url, Credentials: k.cluster.show})
		if err != nil {
			return err
		}
		k.client = c
		k.closers = append(k.closers, c.Close)
	}
	nodes, err := k.client.Nodes(ctx)
	if err != nil {
		return err
	}
	n := 0
	for _, node := range nodes {
		if node.State == covey.NodeReady {
			n++
		}
	}
	if n < k.o.Nodes {
		return messages.Errorf(messages.Unavailable, "", "%d of %d nodes are ready", n, k.o.Nodes)
	}
	return nil
}

// load does the faults while runs are under way, and waits for the end of both.
func (k *kit) load(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	k.runs = newLoad(k.o, k.client)
	begin := time.Now()
	var wg, follower sync.WaitGroup
	follower.Go(func() {
		err := k.journal.follow(ctx, 0, func(r record) bool { k.runs.heard(r); return true })
		if ctx.Err() == nil {
			cancel(err)
		}
	})
	defer follower.Wait()
	defer cancel(nil)
	wg.Go(func() {
		if err := k.runs.submit(ctx, begin.Add(k.o.For)); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	})
	k.cluster.do(ctx, begin, k.report.Schedule)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	open, _ := k.runs.open()
	k.say("%8s  the last fault is over; %d runs are under way", time.Since(begin).Round(10*time.Millisecond), open)
	calm := time.Now()
	settle, stop := context.WithTimeout(ctx, k.o.Within)
	defer stop()
	k.runs.settle(settle)
	k.report.Settled = time.Since(calm)
	if open, _ = k.runs.open(); open > 0 {
		k.say("%8s  %d runs have not ended, %s after the last fault", time.Since(begin).Round(10*time.Millisecond), open, k.o.Within)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// judge makes every check, and stops the nodes for the last of them.
func (k *kit) judge(ctx context.Context) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	r := k.report
	waiting := k.runs.waiting
	// What waits for a person would be a run that a node still has.
	if err := k.runs.cancel(ctx); err != nil {
		return nil, err
	}
	atRest := k.atRest(ctx)
	queue := k.emptyQueue(ctx)
	records, err := k.journal.all(ctx)
	if err != nil {
		return nil, err
	}
	all := histories(records)
	r.measure(k.runs.submitted, all, k.cluster.faults)
	r.add(ended(k.runs.submitted, all, waiting))
	if k.model == nil {
		r.add(skipped(checkEffects, "the team's tools are not the kit's: their effects cannot be counted"))
		r.add(skipped(checkModels, "the team's models are not the kit's: their calls cannot be counted"))
	} else {
		world, err := allEffects(k.effects)
		if err != nil {
			return nil, err
		}
		r.add(effects(world, all))
		calls, bad := k.model.counted()
		c := repeats(calls, all, len(k.cluster.faults), k.o.Rooms*k.o.Nodes)
		c.Found = append(c.Found, bad...)
		r.add(c)
	}
	r.add(fence(records))
	r.add(once(records))
	r.add(queue)
	r.add(atRest)
	r.add(k.noLeases(ctx))
	return r, k.logs()
}

// restWithin is how long nodes may take to come to rest once their runs ended.
const restWithin = time.Minute

// lookWithin bounds one look.
const lookWithin = 8 * time.Second

// within calls look until it finds nothing or time is up, and returns what it
// found last.
func within(ctx context.Context, d time.Duration, look func(context.Context) Check) Check {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		tctx, cancel := context.WithTimeout(ctx, lookWithin) // an election loses requests
		c := look(tctx)
		cancel()
		if c.OK() || wait(ctx, 250*time.Millisecond) != nil {
			return c
		}
	}
}

// spare is how many goroutines a node may have more than before the load: the
// dispatcher parks up to 64 of them for its next messages, and there are those of
// the models' actors and of connections that are kept. One left behind by each
// run would be hundreds.
const spare = 64 + 50

// atRest checks that the nodes have no run, no guest, and no goroutine of either.
func (k *kit) atRest(ctx context.Context) Check {
	c := within(ctx, restWithin, func(ctx context.Context) Check {
		c := Check{Name: checkGo}
		nodes, err := k.client.Nodes(ctx)
		if err != nil {
			c.found("%v", err)
		}
		ready := 0
		for _, n := range nodes {
			if n.State == covey.NodeReady {
				ready++
			}
			if n.Runs > 0 || n.Guests > 0 {
				c.found("%s still has %d runs and %d guests", n.Node, n.Runs, n.Guests)
			}
		}
		if ready != k.o.Nodes {
			c.found("%d of %d nodes are ready", ready, k.o.Nodes)
		}
		for i, n := range k.cluster.nodes {
			g, err := n.goroutines(ctx)
			switch {
			case err != nil:
				c.found("%v", err)
			case g > k.before[i]+spare:
				c.found("%s has %d goroutines; before the load it had %d", n.name, g, k.before[i])
			}
			c.Seen += fmt.Sprintf("%s: %d goroutines, %d before the load; ", n.name, g, k.before[i])
		}
		return c
	})
	if !c.OK() {
		for _, n := range k.cluster.nodes {
			k.cluster.signal(n.process, stacks) // into their logs
		}
	}
	return c
}

func (k *kit) emptyQueue(ctx context.Context) Check {
	return within(ctx, restWithin, func(ctx context.Context) Check {
		c := Check{Name: checkQueue, Seen: "the queue is empty"}
		n, err := k.journal.queued(ctx)
		if err != nil {
			c.found("%v", err)
		}
		if n > 0 {
			c.found("%d tasks are in the queue", n)
		}
		return c
	})
}

// noLeases stops the nodes by SIGTERM, and checks that none keeps its lease.
// Embedded servers are stopped one after the other, and started again, for the
// others to tell.
func (k *kit) noLeases(ctx context.Context) Check {
	if !k.o.Embedded {
		k.cluster.end(ctx, k.cluster.nodes...)
		return k.noLease(ctx, k.cluster.nodes...)
	}
	all := Check{Name: checkLeases, Seen: "each node was stopped by SIGTERM, and had no lease then"}
	for _, n := range k.cluster.nodes {
		k.cluster.end(ctx, n)
		all.Found = append(all.Found, k.noLease(ctx, n).Found...)
		n.meant(false)
		ready, cancel := context.WithTimeout(ctx, time.Minute)
		err := k.ready(ready)
		cancel()
		if err != nil {
			all.found("after a restart of %s: %v", n.name, err)
			break
		}
	}
	k.cluster.end(ctx, k.cluster.nodes...)
	return all
}

func (k *kit) noLease(ctx context.Context, stopped ...*node) Check {
	return within(ctx, restWithin, func(ctx context.Context) Check {
		c := Check{Name: checkLeases, Seen: "every node was stopped by SIGTERM, and none has a lease"}
		names, err := k.journal.leases(ctx)
		if err != nil {
			c.found("%v", err)
		}
		for _, n := range stopped {
			if slices.Contains(names, n.name) {
				c.found("%s has stopped, and has a lease", n.name)
			}
		}
		return c
	})
}

// logs reads what the processes have printed.
func (k *kit) logs() error {
	c := Check{Name: checkLogs, Found: k.cluster.wrong()}
	files, err := filepath.Glob(filepath.Join(k.o.Dir, "*.log"))
	for _, f := range files {
		found, ferr := alarming(f)
		err = errors.Join(err, ferr)
		c.Found = append(c.Found, found...)
		c.Seen += filepath.Base(f) + " "
	}
	k.report.add(c)
	return err
}

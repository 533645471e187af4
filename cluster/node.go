package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// Node runs teams. It is safe for concurrent use.
type Node struct {
	cfg    Config
	store  *store // nil with a URL
	nc     *nats.Conn
	client *Client
	queue  *queue
	bus    *bus
	sys    *supervisor.System
	rt     *actors.Runtime
	gate   *gate // nil without a URL
	watch  watchers
	svc    micro.Service
	work   sync.WaitGroup // deliveries in hand

	mu      sync.Mutex
	members map[string]actors.Member // by team name
	handles map[string][]*Run
	once    sync.Once
	stopErr error
}

// Start starts a node. ctx bounds the start alone; the node lives until Stop.
// A data directory that another process owns is [ErrInUse].
func Start(ctx context.Context, cfg Config) (_ *Node, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	n := &Node{cfg: cfg, members: map[string]actors.Member{}, handles: map[string][]*Run{}}
	defer func() {
		if err != nil {
			if n.sys != nil {
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				defer cancel()
				_ = n.sys.Stop(last) // the error is Start's
			}
			n.abandon()
		}
	}()
	if cfg.URL != "" {
		if n.nc, err = connect(ctx, cfg.URL, cfg.Name, connEvents{Failed: n.warn("connection")}); err != nil {
			return nil, err
		}
	} else {
		if n.store, err = openStore(cfg); err != nil {
			return nil, err
		}
		n.nc = n.store.nc
	}
	if n.client, err = newClient(ctx, n.nc, nil, func() {}); err != nil {
		return nil, err
	}
	n.queue, err = openQueue(ctx, n.nc, queueOptions{
		Shared: cfg.URL != "", Room: cfg.MaxRuns, Deliver: n.deliver, Bad: n.warn("task queue"), Retrying: n.away,
	})
	if err != nil {
		return nil, err
	}
	n.bus = newBus(n.nc)
	if n.sys, err = supervisor.NewSystem(supervisor.Config{Name: cfg.Name, Clock: cfg.Clock}); err != nil {
		return nil, err
	}
	if err := n.startRuntime(ctx); err != nil {
		return nil, err
	}
	if err := n.startWatchers(); err != nil {
		return nil, err
	}
	n.svc, err = n.serveNode()
	return n, err
}

// warn logs what has no caller.
func (n *Node) warn(what string) func(error) {
	return func(err error) { n.cfg.Logger.Warn("covey: "+what, "node", n.cfg.Name, "error", err) }
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

// Serve makes a team known to the node, which from then on takes the tasks of
// its name from the queue. [Node.Ask] and [Node.Submit] do so by themselves.
func (n *Node) Serve(ctx context.Context, m actors.Member) error {
	if m == nil {
		return messages.Errorf(messages.Invalid, "", "serve: the member is nil: use an actors.Agent or an actors.Team")
	}
	if err := m.Check(); err != nil {
		return err
	}
	if err := n.rt.CheckModels(m); err != nil {
		return err
	}
	n.mu.Lock()
	n.members[m.MemberName()] = m
	n.mu.Unlock()
	return n.queue.serve(ctx, m.MemberName())
}

// Ask puts a question to a team, or to a single agent, and waits for the answer.
// When ctx ends first the run goes on, and can be waited for by its id.
func (n *Node) Ask(ctx context.Context, m actors.Member, prompt string) (messages.Answer, error) {
	run, err := n.Submit(ctx, m, messages.Task{Prompt: prompt})
	if err != nil {
		return messages.Answer{}, err
	}
	return run.Wait(ctx)
}

// Submit puts a task into the queue and returns at once. A task whose ID is that
// of a run which is there already is that run: a finished one is answered from
// the journal, an interrupted one goes on, and a failed one gives its failure
// (see [Node.Resume]). Team and Definition are filled in from m.
func (n *Node) Submit(ctx context.Context, m actors.Member, task messages.Task) (*Run, error) {
	if m == nil {
		return nil, messages.Errorf(messages.Invalid, "", "submit: the member is nil: use an actors.Agent or an actors.Team")
	}
	if task.Prompt == "" {
		return nil, messages.Errorf(messages.Invalid, "", "task: prompt: it is empty: say what is asked")
	}
	fresh := task.ID == ""
	if fresh {
		task.ID = NewID()
	}
	if err := messages.CheckName("task: id", task.ID); err != nil {
		return nil, err
	}
	task.Team = m.MemberName()
	if t, ok := m.(actors.Team); ok && task.Definition == nil {
		task.Definition = t.Definition
	}
	task.Submitted = now()
	if err := n.Serve(ctx, m); err != nil {
		return nil, err
	}
	return n.submit(ctx, task, "", fresh)
}

// Resume has a run go on that was interrupted, or that failed. m is its team; nil
// for the one that its first record defines, which needs [Config.Load].
func (n *Node) Resume(ctx context.Context, run string, m actors.Member) (*Run, error) {
	task, err := n.client.Task(ctx, run)
	if err != nil {
		return nil, err
	}
	if m == nil {
		if m, err = n.load(task); err != nil {
			return nil, err
		}
	}
	if m.MemberName() != task.Team {
		return nil, messages.Errorf(messages.Invalid, "", "run %s: its team is %q, not %q", run, task.Team, m.MemberName())
	}
	if err := n.Serve(ctx, m); err != nil {
		return nil, err
	}
	again := ""
	info, err := n.client.Run(ctx, run)
	if err == nil && info.State == messages.RunFailed {
		if err := n.client.write(ctx, run, messages.PlanWriter, "", &messages.Reopened{By: n.cfg.Name}); err != nil {
			return nil, err
		}
		again = "/reopened-" + NewID()
	}
	return n.submit(ctx, task, again, false)
}

// load makes the team that a task defines.
func (n *Node) load(t messages.Task) (actors.Member, error) {
	if len(t.Definition) == 0 || n.cfg.Load == nil {
		return nil, messages.Errorf(messages.Invalid, "", "run %s: its team %q is defined in code: resume it from the program that has it", t.ID, t.Team)
	}
	m, err := n.cfg.Load(t.Definition)
	if err != nil {
		return nil, messages.AsError(err, messages.Invalid, "run "+t.ID+": team definition")
	}
	return m, nil
}

// submit hands the task to the queue, unless it is there, and returns the run.
func (n *Node) submit(ctx context.Context, task messages.Task, dedup string, fresh bool) (*Run, error) {
	r := &Run{ID: task.ID, node: n, done: make(chan struct{})}
	n.mu.Lock()
	n.handles[task.ID] = append(n.handles[task.ID], r)
	n.mu.Unlock()
	put := true
	if !fresh {
		info, err := n.client.Run(ctx, task.ID)
		if err == nil && (info.Team != task.Team || info.Prompt != task.Prompt) {
			n.forget(r)
			return nil, messages.Errorf(messages.Invalid, "", "run %s is there with another task (team %q, %q): use another id", task.ID, info.Team, info.Prompt)
		}
		if err == nil && (info.State == messages.RunDone || info.State == messages.RunFailed) {
			n.finish(task.ID, result{ended: true, info: &info})
			return r, nil
		}
		waiting, err := n.queue.waiting(ctx)
		if err != nil {
			n.forget(r)
			return nil, err
		}
		for _, w := range waiting {
			if w.ID == task.ID {
				put = false
			}
		}
		if put && dedup == "" {
			dedup = "/again-" + NewID() // it was taken out of the queue, and is not done
		}
	}
	if put {
		if _, err := n.queue.submitAs(ctx, task, task.ID+dedup); err != nil {
			n.forget(r)
			return nil, err
		}
	}
	if n.cfg.URL != "" {
		go n.await(r)
		if !put {
			go n.takeOver(r)
		}
	}
	return r, nil
}

// await reads the result of a run that may be another node's.
func (n *Node) await(r *Run) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-r.done
		cancel()
	}()
	for e, err := range n.client.Records(ctx, r.ID) {
		if err != nil {
			r.finish(result{err: err})
			return
		}
		switch b := e.Body.(type) {
		case *messages.Done:
			r.finish(result{ended: true, answer: b.Answer})
		case *messages.Failed:
			r.finish(result{ended: true, err: b.Error})
		}
	}
}

// notTaken is for how long a task is handed back that the node cannot work on.
const notTaken = 30 * time.Second

// deliver takes a task from the queue.
func (n *Node) deliver(d *delivery) {
	n.work.Go(func() {
		if n.cfg.Accept != nil && !n.cfg.Accept(d.Task) {
			n.leaveToOthers(d)
			return
		}
		run, err := n.begin(d)
		if err != nil {
			n.finish(d.Task.ID, result{err: err})
			n.handBack(d, err)
			return
		}
		<-run.Done()
		answer, err := run.Result()
		if run.Ended() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if lost := d.done(ctx); lost != nil {
				n.warn("acknowledging a task")(lost)
			}
		} else {
			n.handBack(d, err)
		}
		n.finish(d.Task.ID, result{ended: run.Ended(), answer: answer, err: err})
	})
}

// begin starts the run of a delivery, with the team that its task defines or
// that was given to the node.
func (n *Node) begin(d *delivery) (*actors.Run, error) {
	n.mu.Lock()
	m := n.members[d.Task.Team]
	n.mu.Unlock()
	if len(d.Task.Definition) > 0 && n.cfg.Load != nil {
		var err error
		if m, err = n.load(d.Task); err != nil {
			return nil, err
		}
	}
	if m == nil {
		return nil, messages.Errorf(messages.Invalid, "", "task %s: the node does not know the team %q", d.Task.ID, d.Task.Team)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return n.rt.Start(ctx, d.Task, m, d.Ack())
}

// handBack gives a task up that has not ended.
func (n *Node) handBack(d *delivery, err error) {
	switch messages.ClassOf(err) {
	case messages.Fenced:
		d.drop()
	case messages.Stopping:
		n.release(d, 0)
	default:
		n.release(d, notTaken)
	}
}

// leaveToOthers hands back a task that is not for this node: at first for a
// moment, since the node that it is for may be waiting, then for longer. The
// task of a run that has ended, whose node died before it could say so, is taken
// out of the queue.
func (n *Node) leaveToOthers(d *delivery) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	info, err := n.client.Run(ctx, d.Task.ID)
	if err == nil && (info.State == messages.RunDone || info.State == messages.RunFailed) {
		if lost := d.done(ctx); lost != nil {
			n.warn("acknowledging a task")(lost)
		}
		return
	}
	n.release(d, min(20*time.Millisecond<<min(d.Deliveries-1, 12), notTaken))
}

func (n *Node) release(d *delivery, after time.Duration) {
	if err := d.release(after); err != nil {
		n.warn("handing a task back")(err)
	}
}

// finish tells every waiter of this process what became of a run.
func (n *Node) finish(run string, r result) {
	n.mu.Lock()
	handles := n.handles[run]
	delete(n.handles, run)
	n.mu.Unlock()
	for _, h := range handles {
		h.finish(r)
	}
}

// forget drops one waiter, whose task was not put in.
func (n *Node) forget(r *Run) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handles[r.ID] = slices.DeleteFunc(n.handles[r.ID], func(h *Run) bool { return h == r })
	if len(n.handles[r.ID]) == 0 {
		delete(n.handles, r.ID)
	}
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
	n.mu.Lock()
	for team := range n.members {
		n.queue.leave(team)
	}
	n.mu.Unlock()
	errs := []error{n.rt.Drain(ctx)}
	// What follows is quick, and is done also when the time is up.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	errs = append(errs, n.sys.Stop(last), n.rt.Close(last), n.queue.stop(last), n.svc.Stop())
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

// abandon closes what is open.
func (n *Node) abandon() {
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

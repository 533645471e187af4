package cluster

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/covey-run/covey/messages"
)

// Client looks at runs and nodes, and speaks to them, without working on runs
// itself. Every [Node] has one.
type Client struct {
	nc      *nats.Conn
	journal *journal
	queue   *queue
	waits   *sessions
	lives   func(ctx context.Context, owner messages.Claim) bool
	close   func()
}

// Open returns a client of the node that runs on cfg.Dir or, if none does, of
// its data alone, which it then owns until Close; or of the NATS servers at
// cfg.URL, to whom it shows cfg.Credentials. Beside these only Replicas and
// Logger of cfg are used.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if cfg.URL != "" {
		show, err := cfg.Credentials.options()
		if err != nil {
			return nil, err
		}
		nc, err := connect(ctx, cfg.URL, "covey client", connEvents{}, show...)
		if err != nil {
			return nil, err
		}
		return newClient(ctx, nc, cfg.Replicas, nil, nil, nc.Close)
	}
	if nc, err := dial(cfg.Dir, "covey client", connEvents{}); err == nil {
		return newClient(ctx, nc, cfg.Replicas, nil, nil, nc.Close)
	}
	if cfg.Cluster != nil { // its data are a cluster's, not this server's alone
		return nil, messages.Errorf(messages.Unavailable, "data directory "+cfg.Dir, "no node answers there: start it, or name the URL of another")
	}
	s, err := takeStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	nobody := func(context.Context, messages.Claim) bool { return false }
	return newClient(ctx, s.nc, cfg.Replicas, nil, nobody, s.close)
}

// takeStore is openStore, with a second's patience for a directory whose owner is
// not there: a process holds its lock for a moment before it has left its note
// and after it has taken it away, and one that was killed may have left a child
// between fork and exec, which holds it too.
func takeStore(ctx context.Context, cfg Config) (*store, error) {
	patience := time.NewTimer(time.Second)
	defer patience.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := openStore(ctx, cfg)
		if !errors.Is(err, ErrInUse) {
			return s, err
		}
		if o, note := readOwner(cfg.Dir); note == nil && alive(o.PID) {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-patience.C:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Connect returns a client of a node that runs: on cfg.Dir, or at cfg.URL. With
// no node on the directory it fails at once, class unavailable.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.URL != "" {
		return Open(ctx, cfg)
	}
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	nc, err := dial(cfg.withDefaults().Dir, "covey client", connEvents{})
	if err != nil {
		return nil, err
	}
	return newClient(ctx, nc, cfg.Replicas, nil, nil, nc.Close)
}

// newClient ends with closeAll, and calls it also when it fails.
func newClient(ctx context.Context, nc *nats.Conn, replicas int, away retrying, lives func(context.Context, messages.Claim) bool, closeAll func()) (_ *Client, err error) {
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	j, err := openJournal(ctx, nc, journalOptions{Replicas: replicas, Retrying: away})
	if err != nil {
		return nil, err
	}
	c := &Client{nc: nc, journal: j, lives: lives, close: closeAll}
	if lives == nil {
		c.lives = c.answers
	}
	c.queue, err = openQueue(ctx, nc, queueOptions{Shared: true, Replicas: replicas, Room: 1, Deliver: func(*delivery) {}, Retrying: away})
	if err != nil {
		return nil, err
	}
	c.waits = &sessions{nc: nc, journal: j, queue: c.queue, pub: c.queue.pub}
	return c, nil
}

// Close ends the client.
func (c *Client) Close() {
	c.queue.quit()
	c.close()
}

// answers reports whether an owner lives: it says so itself or, if it does not
// answer now and yet is connected, it has a lease.
func (c *Client) answers(ctx context.Context, owner messages.Claim) bool {
	switch is, err := c.ping(ctx, owner.Node); {
	case err == nil:
		return is == messages.Owner(owner.Node, owner.Epoch)
	case errors.Is(err, nats.ErrNoResponders):
		return false
	}
	kv, err := c.journal.js.KeyValue(ctx, leaseBucket)
	if err != nil {
		return false
	}
	e, err := kv.Get(ctx, owner.Node)
	return err == nil && isLease(e.Value(), e.Revision(), owner.Epoch)
}

// ping waits a second for a node to say which owner it is. nats.ErrNoResponders
// comes at once, and is certain: a node of that name is not connected.
func (c *Client) ping(ctx context.Context, node string) (owner string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	subject := pulseSubject(node)
	err = guarded(ctx, c.nc, subject, func(ctx context.Context) error {
		r, err := c.nc.RequestWithContext(ctx, subject, nil)
		if err == nil {
			owner = string(r.Data)
		}
		return err
	})
	return owner, err
}

// alive remembers the answers for one listing.
func (c *Client) alive(ctx context.Context) aliveFunc {
	var mu sync.Mutex
	known := map[string]bool{}
	return func(owner messages.Claim) bool {
		mu.Lock()
		defer mu.Unlock()
		name := messages.Owner(owner.Node, owner.Epoch)
		is, ok := known[name]
		if !ok {
			is = c.lives(ctx, owner)
			known[name] = is
		}
		return is
	}
}

// Runs lists every run, oldest first, those that still wait in the queue or in a
// session included. When some cannot be read the error says which, and the others
// are there all the same.
func (c *Client) Runs(ctx context.Context) ([]messages.RunInfo, error) {
	infos, err := c.journal.Runs(ctx, c.alive(ctx))
	begun := make(map[string]bool, len(infos))
	for _, i := range infos {
		begun[i.Run] = true
	}
	tasks, err2 := c.waiting(ctx)
	for _, t := range tasks {
		if !begun[t.ID] {
			begun[t.ID] = true
			infos = append(infos, queuedRun(t))
		}
	}
	slices.SortStableFunc(infos, func(a, b messages.RunInfo) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Run, b.Run))
	})
	return infos, errors.Join(err, err2)
}

// waiting returns the tasks in the queue, and those that wait in sessions; some
// are in both.
func (c *Client) waiting(ctx context.Context) ([]queued, error) {
	tasks, err := c.queue.list(ctx, messages.SubjectTasks+".>")
	later, err2 := c.waits.waiting(ctx)
	for _, t := range later {
		tasks = append(tasks, queued{Task: t})
	}
	return tasks, errors.Join(err, err2)
}

// waitingTask returns a task that no node has begun. Class invalid: there is none
// of that id.
func (c *Client) waitingTask(ctx context.Context, run string) (queued, error) {
	tasks, err := c.waiting(ctx)
	for _, t := range tasks {
		if t.ID == run {
			return t, nil
		}
	}
	if err != nil {
		return queued{}, err
	}
	return queued{}, noSuchRun(run)
}

// Queue lists the tasks in the queue, oldest first: those that wait for a node,
// and those that one works on. The task of a run that has ended is among them
// only if its node died before it could say so.
func (c *Client) Queue(ctx context.Context) ([]messages.Task, error) { return c.queue.waiting(ctx) }

// Run tells where one run stands. Class invalid: there is no such run. One that
// only a newer program can read ([messages.RunNewer]) is an error of class
// unavailable, and is told as far as it can be.
func (c *Client) Run(ctx context.Context, run string) (messages.RunInfo, error) {
	info, err := c.journal.Info(ctx, run, c.alive(ctx))
	if !errors.Is(err, errNoRecords) {
		return info, err
	}
	t, err := c.waitingTask(ctx, run)
	if err != nil {
		return info, err
	}
	return queuedRun(t), t.newer
}

// queuedRun is the line of a task that no node has begun.
func queuedRun(t queued) messages.RunInfo {
	i := messages.RunInfo{Run: t.ID, State: messages.RunQueued, Started: t.Submitted, Last: t.Submitted}
	describe(&i, t.Task)
	if t.newer != nil {
		i.Queue, i.State, i.Error = t.queue, messages.RunNewer, messages.AsError(t.newer, messages.Unavailable, "")
	}
	return i
}

var errNotThere = errors.New("is not there")

func noSuchRun(run string) error {
	return messages.Errorf(messages.Invalid, "", "run %q %w: `covey runs` lists those that are", run, errNotThere)
}

// Records yields a run's records in order, then new ones as they come, up to
// its last. Its one error, if any, comes last.
func (c *Client) Records(ctx context.Context, run string) iter.Seq2[messages.Envelope, error] {
	return c.journal.Follow(ctx, run)
}

// Read returns a run's records as they are now, in order; none for a run that
// has not begun.
func (c *Client) Read(ctx context.Context, run string) ([]messages.Envelope, error) {
	return c.journal.Read(ctx, run)
}

// Task returns the task of a run, its team's definition included.
func (c *Client) Task(ctx context.Context, run string) (messages.Task, error) {
	records, err := c.journal.Read(ctx, run)
	if err != nil {
		return messages.Task{}, err
	}
	for _, e := range records {
		if b, ok := e.Body.(*messages.Begun); ok {
			return b.Task, nil
		}
	}
	t, err := c.waitingTask(ctx, run)
	if err == nil && t.newer != nil {
		return messages.Task{}, t.newer
	}
	return t.Task, err
}

// put puts a task into its queue, or into its session. again is "" for a task
// that is new; else it tells the putting of one that was there from those before.
func (c *Client) put(ctx context.Context, t messages.Task, again string) error {
	if t.Session != "" {
		return c.waits.put(ctx, t, again != "")
	}
	_, err := c.queue.submitAs(ctx, t, t.ID+again)
	return err
}

// move puts a task that is in other queues into that of its Queue, and then takes
// it out of those. Between the two it may come to two nodes: one of them is
// fenced.
func (c *Client) move(ctx context.Context, t messages.Task, from []queued) error {
	moved := from[0].Task // with its discussion
	moved.Queue = t.Queue
	if t.Session != "" {
		if err := c.put(ctx, moved, ""); err != nil {
			return err
		}
	}
	if _, err := c.queue.submitAs(ctx, moved, t.ID+"/moved-"+NewID()); err != nil {
		return err
	}
	return c.queue.remove(ctx, from)
}

// conclude has what a run left behind go, once it has ended: its place in its
// session, and its task in the queue.
func (c *Client) conclude(ctx context.Context, t messages.Task) error {
	if t.Session != "" {
		if _, err := c.waits.settle(ctx, t); err != nil {
			return err
		}
	}
	left, err := c.queue.find(ctx, t)
	if err != nil {
		return err
	}
	return c.queue.remove(ctx, left)
}

// cancelTries is how often, a second apart, a run is told to end that does not: it
// may have been on its way from one node to another.
const cancelTries = 3

// Cancel ends a run for good. One that a node works on is told, and waited for
// for some seconds; of any other the last record is written here.
func (c *Client) Cancel(ctx context.Context, run, reason string) error {
	for try := range cancelTries {
		err := c.cancel(ctx, run, reason)
		if err != nil && try == 0 {
			return err
		}
		if ended, lerr := c.endsWithin(ctx, run, time.Second); ended || lerr != nil {
			return lerr
		}
		if err != nil {
			return err
		}
	}
	return nil // it was told, and takes its time
}

// endsWithin waits for a run's last record.
func (c *Client) endsWithin(ctx context.Context, run string, d time.Duration) (bool, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(d); ; {
		last, err := c.journal.ended(ctx, run)
		if last != nil || err != nil || time.Now().After(limit) {
			return last != nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, nil // it was told
		}
	}
}

func (c *Client) cancel(ctx context.Context, run, reason string) error {
	return c.tell(ctx, run, messages.PlanWriter, &messages.Cancel{Run: run, Reason: reason}, func(ctx context.Context) error {
		task, err := c.Task(ctx, run)
		if err != nil {
			return err
		}
		if info, err := c.Run(ctx, run); err == nil && info.State == messages.RunQueued {
			if err := c.write(ctx, run, messages.PlanWriter, "", &messages.Begun{Task: task}); err != nil {
				return err
			}
		}
		e := messages.Errorf(messages.Canceled, run, "canceled: %s", cmp.Or(reason, "no reason given"))
		if err := c.write(ctx, run, messages.PlanWriter, "", &messages.Failed{Error: e}); err != nil {
			return err
		}
		return c.conclude(ctx, task)
	})
}

// Resolve settles a tool call that a crash cut off, by a person's word.
func (c *Client) Resolve(ctx context.Context, r messages.Resolve) error {
	info, err := c.Run(ctx, r.Run)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(info.Unsettled, func(u messages.Unsettled) bool {
		return u.Writer == r.Writer && u.Step == r.Step && u.Intent.N == r.N && u.Intent.Call == r.Call
	})
	if i < 0 {
		return messages.Errorf(messages.Invalid, "", "run %s: no unsettled tool call %d.%d of step %s by %q: `covey runs show %s` lists them", r.Run, r.N, r.Call, r.Step, r.Writer, r.Run)
	}
	return c.tell(ctx, r.Run, r.Writer, &r, func(ctx context.Context) error {
		if r.Retry {
			return c.write(ctx, r.Run, r.Writer, r.Step, &r)
		}
		res := &messages.Result{N: r.N, Call: r.Call, Output: r.Output, By: "person"}
		if r.Error != "" {
			res.Error = messages.Errorf(messages.Tool, info.Unsettled[i].Intent.Tool.Name, "%s", r.Error)
		}
		return c.write(ctx, r.Run, r.Writer, r.Step, res)
	})
}

// tell gives a message to whoever serves an address of a run; if nobody does,
// otherwise is called.
func (c *Client) tell(ctx context.Context, run, member string, body messages.Body, otherwise func(context.Context) error) error {
	info, err := c.Run(ctx, run)
	if err != nil {
		return err
	}
	if info.State == messages.RunDone || info.State == messages.RunFailed {
		return messages.Errorf(messages.Invalid, "", "run %s has ended (%s)", run, info.State)
	}
	b := newBus(c.nc)
	defer b.close()
	owner := messages.Claim{Node: info.Node, Epoch: info.Epoch}
	sctx := ctx
	if !c.lives(ctx, owner) {
		// Somebody who listens to everything keeps NATS from saying that nobody is
		// there.
		sctx = within(ctx, 2*busAttempt)
	}
	err = b.Send(sctx, run, member, messages.Envelope{Run: run, Time: now(), Body: body})
	nobody := messages.ClassOf(err) == messages.Unavailable || err != nil && sctx.Err() != nil && ctx.Err() == nil
	if nobody && !c.lives(ctx, owner) {
		return otherwise(ctx)
	}
	return err
}

// clientNode stands in the claims of whoever writes to a run without working on
// it.
const clientNode = "client"

// write appends a record to a run that nobody works on.
func (c *Client) write(ctx context.Context, run, writer, step string, body messages.Body) error {
	w, err := c.journal.Claim(ctx, run, writer, messages.Claim{Node: clientNode})
	if err != nil {
		return err
	}
	_, err = w.Append(ctx, step, body)
	return err
}

// Purge removes a run that has ended, its records and all.
func (c *Client) Purge(ctx context.Context, run string) error {
	info, err := c.Run(ctx, run)
	if err != nil {
		return err
	}
	if info.State != messages.RunDone && info.State != messages.RunFailed {
		return messages.Errorf(messages.Invalid, "", "run %s is %s: only one that has ended can be purged; cancel it first", run, info.State)
	}
	task, err := c.Task(ctx, run)
	if err == nil {
		err = c.conclude(ctx, task) // a task that is left would be a new run
	}
	if err != nil {
		return err
	}
	return c.journal.Purge(ctx, run)
}

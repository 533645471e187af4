package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/covey-run/covey/messages"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// queueOptions: Room and Deliver are needed; the rest has defaults.
type queueOptions struct {
	// Shared is for a NATS server that outlives this node: consumers are durable
	// and shared with the other nodes, and a dead node's tasks come again after
	// AckWait. Without it the consumers live in this process's own server, so
	// that a restart finds every task that was not done, at once.
	Shared bool
	// Replicas of a stream that has to be made; see [Config].
	Replicas int
	// AckWait is how long the server waits for a sign of life from the node that
	// holds a task; the node gives one every third of it. 0 means 30 s.
	AckWait time.Duration
	// Room is how many tasks this node holds at once.
	Room int
	// Deliver is handed each task. It must not block: it hands over to a mailbox.
	Deliver func(*delivery)
	// Bad is told of every message in the queue that is no task which this node
	// could run, and of every other failure that has no caller. It must not
	// block. nil is allowed.
	Bad      func(error)
	Retrying retrying
}

// queue is the work queue: where tasks wait, and what this node holds of them.
// It is safe for concurrent use.
type queue struct {
	queueOptions
	nc     *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	pub    publisher

	slots chan struct{} // one token for each task that there is room for
	ctx   context.Context
	quit  context.CancelFunc
	wg    sync.WaitGroup

	mu     sync.Mutex // guards the fields below; never held while Deliver runs
	held   map[string]*delivery
	served map[string]context.CancelFunc // by the queue's name
}

// openQueue opens the queue, and makes its stream if there is none. It takes no
// task until [queue.serve].
func openQueue(ctx context.Context, nc *nats.Conn, o queueOptions) (*queue, error) {
	if o.Room < 1 || o.Deliver == nil {
		return nil, messages.Errorf(messages.Invalid, "", "task queue: Room is %d, and Deliver is set: %t; use a room of at least 1 and a Deliver", o.Room, o.Deliver != nil)
	}
	if o.AckWait == 0 {
		o.AckWait = 30 * time.Second
	}
	js, err := jetStream(nc)
	if err != nil {
		return nil, err
	}
	s, err := openStream(ctx, js, taskConfig(o.Replicas), o.Retrying)
	if err != nil {
		return nil, err
	}
	q := &queue{
		queueOptions: o, nc: nc, js: js, stream: s, pub: publisher{nc: nc, retrying: o.Retrying},
		slots: make(chan struct{}, o.Room), held: map[string]*delivery{}, served: map[string]context.CancelFunc{},
	}
	for range o.Room {
		q.slots <- struct{}{}
	}
	q.ctx, q.quit = context.WithCancel(context.Background())
	q.wg.Go(q.signs)
	return q, nil
}

// submit puts a task into its queue. A task whose ID was submitted within the
// last 2 minutes is not put in again (duplicate is true); later than that the
// journal tells that its run is there already. It waits, within ctx, for a
// queue that is away.
func (q *queue) submit(ctx context.Context, t messages.Task) (duplicate bool, err error) {
	return q.submitAs(ctx, t, t.ID)
}

// submitAs is submit under another id than the task's, for one that is put in
// again on purpose.
func (q *queue) submitAs(ctx context.Context, t messages.Task, id string) (duplicate bool, err error) {
	if err := checkTask(t); err != nil {
		return false, err
	}
	h, data, err := messages.Encode(messages.Envelope{ID: id, Run: t.ID, Time: now(), Trace: traceparent(ctx), Body: &t})
	if err != nil {
		return false, messages.AsError(err, messages.Invalid, "task "+t.ID)
	}
	a, err := q.pub.publish(ctx, pending{
		msg: &nats.Msg{Subject: taskSubject(t), Header: h, Data: data}, what: named("task " + t.ID),
	})
	return a.Duplicate, err
}

// serve starts taking the tasks of a queue. It returns when the first task can
// be delivered; serving a queue twice is once.
func (q *queue) serve(ctx context.Context, name string) error {
	if err := messages.CheckName("queue", name); err != nil {
		return err
	}
	if err := q.ctx.Err(); err != nil {
		return messages.Errorf(messages.Stopping, "task queue", "it is closed: %w", err)
	}
	if slices.Contains(q.serves(), name) {
		return nil
	}
	p, err := newPuller(ctx, q, name)
	if err != nil {
		return err
	}
	pctx, cancel := context.WithCancel(q.ctx)
	if !q.begin(name, p, pctx, cancel) {
		cancel()
		p.close()
	}
	return nil
}

// begin lets a puller run, unless its queue is served already, or this is over.
func (q *queue) begin(name string, p *puller, ctx context.Context, cancel context.CancelFunc) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.served[name] != nil || q.ctx.Err() != nil {
		return false
	}
	q.served[name] = cancel
	q.wg.Go(func() { p.run(ctx) })
	return true
}

// leave stops taking a queue's tasks. What is held of them stays held.
func (q *queue) leave(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if cancel := q.served[name]; cancel != nil {
		cancel()
		delete(q.served, name)
	}
}

// serves names the queues that this node takes tasks from, sorted.
func (q *queue) serves() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Sorted(maps.Keys(q.served))
}

// queued is a task in the stream.
type queued struct {
	messages.Task
	seq   uint64
	queue string // where it is, which is not where it was put first if it was moved
	newer error  // set: a newer program wrote it, and the Task has nothing but its ID
}

// list returns the tasks on the subjects that match a filter, oldest first: those
// that nobody has taken, and those that are held.
func (q *queue) list(ctx context.Context, filter string) ([]queued, error) {
	var ts []queued
	var last uint64
	err := q.Retrying.retryWithin(ctx, listTimeout, "task queue", func(ctx context.Context) error {
		for {
			n, err := getBatch(ctx, q.nc, taskStream, getRequest{Seq: last + 1, Next: filter, Batch: batchRecords, MaxBytes: batchBytes},
				func(m *nats.Msg, seq uint64) error {
					last = seq
					t := queued{seq: seq, queue: queueOf(m.Header.Get(jetstream.SubjectHeader))}
					switch task, err := decodeTask(m.Header, m.Data); {
					case err == nil:
						t.Task = *task
					case isNewer(err):
						t.ID = m.Header.Get(messages.HeaderRun)
						t.newer = classed(err, "task "+t.ID)
					default: // it is reported when it is delivered
						return nil
					}
					ts = append(ts, t)
					return nil
				})
			if err != nil || n == 0 {
				return err
			}
		}
	})
	return ts, err
}

// waiting returns the tasks in all queues that this program can read, oldest
// first.
func (q *queue) waiting(ctx context.Context) ([]messages.Task, error) {
	list, err := q.list(ctx, messages.SubjectTasks+".>")
	var ts []messages.Task
	for _, t := range list {
		if t.newer == nil {
			ts = append(ts, t.Task)
		}
	}
	return ts, err
}

// find returns a task's messages in all queues.
func (q *queue) find(ctx context.Context, t messages.Task) ([]queued, error) {
	list, err := q.list(ctx, messages.Subject(messages.SubjectTasks, "*", "*", sessionToken(t)))
	return slices.DeleteFunc(list, func(other queued) bool { return other.ID != t.ID }), err
}

// holds reports whether a task that has a session is in a queue, by what the
// stream's leader says.
func (q *queue) holds(ctx context.Context, t messages.Task) (bool, error) {
	req := getRequest{Seq: 1, Next: messages.Subject(messages.SubjectTasks, "*", "*", sessionToken(t))}
	for {
		var m stored
		err := q.Retrying.retry(ctx, "task queue", func(ctx context.Context) (err error) {
			m, err = getFromLeader(ctx, q.nc, taskStream, req)
			return err
		})
		switch {
		case apiCode(err) == codeNoMessage:
			return false, nil
		case err != nil:
			return false, err
		}
		if other, err := decodeTask(m.header, m.data); err == nil && other.ID == t.ID {
			return true, nil
		}
		req.Seq = m.seq + 1
	}
}

// remove deletes messages from the stream, whoever holds them. It is for those of
// a run that has ended, or that were put elsewhere.
func (q *queue) remove(ctx context.Context, ts []queued) error {
	for _, t := range ts {
		err := q.Retrying.retry(ctx, "task "+t.ID+": taking it out of the queue", func(ctx context.Context) error {
			return deleteMsg(ctx, q.nc, taskStream, t.seq)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// stop takes no more tasks, and hands everything back that is held, so that it
// is delivered anew at once. It waits within ctx.
func (q *queue) stop(ctx context.Context) error {
	q.quit()
	done := make(chan struct{})
	go func() { q.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	q.mu.Lock()
	var held []*delivery
	for _, d := range q.held {
		held = append(held, d)
	}
	q.mu.Unlock()
	var errs []error
	for _, d := range held {
		errs = append(errs, d.release(0))
	}
	if err := flush(ctx, q.nc); err != nil && len(held) > 0 {
		errs = append(errs, messages.Errorf(messages.Unavailable, "task queue", "%d held tasks may come again only after %v: %w", len(held), q.AckWait, err))
	}
	return errors.Join(errs...)
}

// signs tells the server, every third of AckWait and when the connection is back,
// that this node still holds what it holds.
func (q *queue) signs() {
	t := time.NewTicker(q.AckWait / 3)
	defer t.Stop()
	back := q.nc.StatusChanged(nats.CONNECTED)
	defer q.nc.RemoveStatusListener(back)
	for {
		select {
		case <-t.C:
		case <-back: // some may have been lost
		case <-q.ctx.Done():
			return
		}
		q.mu.Lock()
		subjects := make([]string, 0, len(q.held))
		for _, d := range q.held {
			subjects = append(subjects, d.ack)
		}
		q.mu.Unlock()
		for _, s := range subjects {
			_ = q.nc.Publish(s, ackProgress) // the next tick tries again
		}
	}
}

// arrived takes one message that the server has delivered to this node. slot
// says that the caller has taken a slot for it.
func (q *queue) arrived(m *nats.Msg, slot bool) {
	t, err := decodeTask(m.Header, m.Data)
	if err != nil {
		q.refuse(m, err)
	}
	if err != nil || q.heldAlready(t.ID, m.Reply) {
		if slot {
			q.slots <- struct{}{}
		}
		return
	}
	if !slot {
		select {
		case <-q.slots:
		default: // no room: let another node have it, or this one later
			_ = q.nc.Publish(m.Reply, ackNak)
			return
		}
	}
	d := &delivery{Task: *t, Deliveries: 1, q: q, ack: m.Reply}
	if md, err := m.Metadata(); err == nil {
		d.Deliveries = int(md.NumDelivered)
	}
	q.mu.Lock()
	q.held[t.ID] = d
	q.mu.Unlock()
	q.Deliver(d)
}

// heldAlready reports whether this node holds the task; the new delivery then
// takes the place of the old one.
func (q *queue) heldAlready(id, ack string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	d := q.held[id]
	if d != nil {
		d.ack = ack
	}
	return d != nil
}

// unheldDelay is when a message that a newer node may understand is offered
// again.
const unheldDelay = 10 * time.Second

// refuse ends a message that is no task, and puts one off that a newer program
// wrote. Bad is told either way.
func (q *queue) refuse(m *nats.Msg, err error) {
	answer := []byte("+TERM " + err.Error())
	done := "it was taken out of the queue"
	if isNewer(err) {
		answer = nakAfter(unheldDelay)
		done = fmt.Sprintf("it is left to a newer node, and offered again in %v", unheldDelay)
	}
	if perr := q.nc.Publish(m.Reply, answer); perr != nil {
		done = fmt.Sprintf("it could not be answered: %v", perr)
	}
	what := "a message"
	if run := m.Header.Get(messages.HeaderRun); run != "" {
		what = fmt.Sprintf("the task of run %q", run)
	}
	if md, merr := m.Metadata(); merr == nil {
		what += fmt.Sprintf(", sequence %d,", md.Sequence.Stream)
	}
	q.bad(messages.Errorf(messages.Invalid, m.Subject, "%s in the task queue cannot be run (%s): %w", what, done, err))
}

// isNewer reports whether a message cannot be read because a newer program wrote
// it.
func isNewer(err error) bool {
	return errors.Is(err, messages.ErrVersion) || errors.Is(err, messages.ErrKind)
}

func (q *queue) bad(err error) {
	if q.Bad != nil {
		q.Bad(err)
	}
}

func decodeTask(h nats.Header, data []byte) (*messages.Task, error) {
	e, err := messages.Decode(h, data)
	if err != nil {
		return nil, err
	}
	t, ok := e.Body.(*messages.Task)
	if !ok {
		return nil, fmt.Errorf("%w: a %s, not a task", messages.ErrWire, messages.KindOf(e.Body))
	}
	if err := messages.CheckName("task id", t.ID); err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrWire, err)
	}
	return t, nil
}

// named is a plain name for errors.
type named string

func (n named) String() string { return string(n) }

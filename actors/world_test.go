package actors_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

// world is a cluster in memory: a journal with its fence, a bus, leases, and
// runtimes on them.
type world struct {
	testing.TB
	ctx context.Context

	mu      sync.Mutex
	seq     uint64
	records []messages.Envelope
	claims  map[string]*memWriter // by run and writer
	served  map[string][]*serving
	nodes   map[string]*member
	changed chan struct{}
	team    actors.Member
	knows   func(node string) bool // the team; nil: every node does
}

// member is a node of the world.
type member struct {
	*world
	info  messages.NodeInfo
	sys   *supervisor.System
	rt    *actors.Runtime
	model *scripted.Model
	lost  chan struct{} // its lease is over
	dead  chan struct{} // cut off from the world
	sub   *supervisor.Subscription
	heard []messages.Event
	said  []string // the words about guests that came here
	// frozen is asked before each unsafe call, see Confirm.
	frozen func() error
	// tenure counts down to the end of its lease, see lapse.
	tenure int
}

type serving struct {
	by     *member
	handle func(messages.Envelope)
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t, claims: map[string]*memWriter{}, served: map[string][]*serving{}, nodes: map[string]*member{}, changed: make(chan struct{})}
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return w
}

// like says what is special about a node.
type like struct {
	pools  []string
	tools  []tool.Tool
	guests int // it says that it has, of 10
	room   int // for guests; 0: 10
	clock  clockwork.Clock
}

// node starts one whose model answers by rules.
func (w *world) node(name string, l like, rules ...scripted.Rule) *member {
	w.Helper()
	n := &member{world: w, model: scripted.Of(rules...), lost: make(chan struct{}), dead: make(chan struct{})}
	w.mu.Lock()
	w.seq++
	n.info = messages.NodeInfo{Node: name, Epoch: w.seq, Pools: l.pools, Guests: l.guests, MaxGuests: 10, Wire: messages.Version}
	w.mu.Unlock()
	cfg := actors.RuntimeConfig{Models: &provider.Registry{}, Node: name, Nodes: n, Pools: l.pools, Tools: map[string]tool.Tool{}, MaxGuests: 10}
	cfg.Providers = map[string]provider.StackConfig{"m": {Retry: provider.RetryConfig{Attempts: 1}}}
	if l.room != 0 {
		cfg.MaxGuests = l.room
	}
	for _, t := range l.tools {
		cfg.Tools[t.Name] = t
		n.info.Tools = append(n.info.Tools, t.Name)
	}
	if err := cfg.Models.Register("m", func(string) (provider.Model, error) { return n.model, nil }); err != nil {
		w.Fatal(err)
	}
	var err error
	if n.sys, err = supervisor.NewSystem(supervisor.Config{Name: name, Clock: l.clock}); err != nil {
		w.Fatal(err)
	}
	n.sub = n.sys.Events().Subscribe(100_000, nil)
	if n.rt, err = actors.NewRuntime(w.ctx, n.sys, n, n, cfg); err != nil {
		w.Fatal(err)
	}
	w.mu.Lock()
	w.nodes[name] = n
	w.mu.Unlock()
	w.change()
	w.Cleanup(n.stop)
	return n
}

// stop ends the node's actors.
func (n *member) stop() {
	n.model.Release()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := n.sys.Stop(ctx); err != nil {
		n.Errorf("%s: %v", n.info.Node, err)
	}
	if err := n.rt.Close(ctx); err != nil {
		n.Errorf("%s: %v", n.info.Node, err)
	}
	if n.Failed() {
		n.all()
		for _, ev := range n.heard {
			n.Logf("%s: %s path=%s step=%s name=%s %s %s", n.info.Node, ev.Kind, ev.Path, ev.Step, ev.Name, ev.Class, ev.Text)
		}
	}
	n.sub.Close()
}

// change tells everybody that the nodes are not what they were.
func (w *world) change() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

// kill cuts the node off from the world, as it is: nothing that it does reaches
// anybody any more.
func (n *member) kill() {
	close(n.dead)
	n.expire()
}

// expire ends the node's lease, and nothing else.
func (n *member) expire() {
	n.mu.Lock()
	delete(n.nodes, n.info.Node)
	n.mu.Unlock()
	close(n.lost)
	n.change()
}

// draining has the node say that it takes nothing more.
func (n *member) draining() {
	n.mu.Lock()
	n.info.Draining = true
	n.mu.Unlock()
	n.change()
}

func (n *member) cutOff(ctx context.Context) error {
	select {
	case <-n.dead:
		<-ctx.Done()
		return messages.Errorf(messages.Timeout, n.info.Node, "no connection")
	default:
		return nil
	}
}

// The nodes.

func (n *member) Self() messages.NodeInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tenure > 0 {
		if n.tenure--; n.tenure == 0 {
			n.info.Epoch = 0
		}
	}
	return n.info
}

// lapse ends the node's lease by its own clock, after it was asked for that often,
// and nobody has told the runtime yet.
func (n *member) lapse(after int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tenure = after; after == 0 {
		n.info.Epoch = 0
	}
}

func (n *member) Live() (all []messages.NodeInfo, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range n.nodes {
		all = append(all, other.info)
	}
	return all, n.changed
}

// Confirm says what frozen says, if that is set.
func (n *member) Confirm(context.Context, uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen != nil {
		return n.frozen()
	}
	return nil
}

func (n *member) Lost(node string, epoch uint64) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if other := n.nodes[node]; other != nil && other.info.Epoch == epoch {
		return other.lost
	}
	over := make(chan struct{})
	close(over)
	return over
}

func (n *member) Place(ctx context.Context, node string, p messages.Place) error {
	if err := n.cutOff(ctx); err != nil {
		return err
	}
	word := "place"
	switch {
	case p.Leave:
		word = "leave"
	case p.Finish:
		word = "finish"
	case p.Known:
		word = "keep"
	}
	n.mu.Lock()
	to := n.nodes[node]
	n.mu.Unlock()
	if to == nil {
		return messages.Errorf(messages.Unavailable, node, "no such node")
	}
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		to.said = append(to.said, word)
	}()
	return to.rt.Host(ctx, p, func() (actors.Member, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if owner := n.claims[p.Task.ID+"/"+messages.PlanWriter].owner; owner != p.Owner {
			return nil, messages.Errorf(messages.Fenced, p.Task.ID, "it is %s's", owner)
		}
		if n.knows != nil && !n.knows(node) {
			return nil, messages.Errorf(messages.Invalid, node, "the team is not known")
		}
		return n.team, nil
	})
}

// The journal.

type memWriter struct {
	n         *member
	run, name string
	owner     string
}

func (n *member) Claim(ctx context.Context, run, name string, claim messages.Claim) (actors.Writer, error) {
	if err := n.cutOff(ctx); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	w := &memWriter{n: n, run: run, name: name, owner: messages.Owner(claim.Node, claim.Epoch)}
	n.claims[run+"/"+name] = w
	return w, nil
}

func (w *memWriter) Append(ctx context.Context, step string, body messages.Body) (messages.Envelope, error) {
	if err := w.n.cutOff(ctx); err != nil {
		return messages.Envelope{}, err
	}
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	if w.n.claims[w.run+"/"+w.name] != w {
		return messages.Envelope{}, messages.Errorf(messages.Fenced, w.name, "%s may write no more", w.owner)
	}
	w.n.seq++
	e := messages.Envelope{Run: w.run, Writer: w.name, Step: step, Time: time.Now(), Body: body}
	e, err := wired(e)
	e.Seq = w.n.seq
	w.n.records = append(w.n.records, e)
	return e, err
}

func (n *member) Read(ctx context.Context, run string) (all []messages.Envelope, err error) {
	if err := n.cutOff(ctx); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.records {
		if e.Run == run {
			seq := e.Seq
			if e, err = wired(e); err != nil {
				return nil, err
			}
			e.Seq = seq
			all = append(all, e)
		}
	}
	return all, nil
}

// wired is a message after a wire.
func wired(e messages.Envelope) (messages.Envelope, error) {
	h, data, err := messages.Encode(e)
	if err != nil {
		return e, err
	}
	return messages.Decode(h, data)
}

// The bus.

func (n *member) Serve(run, to string, handle func(messages.Envelope)) (func(), error) {
	s := &serving{n, handle}
	n.mu.Lock()
	defer n.mu.Unlock()
	at := run + "/" + to
	n.served[at] = append(n.served[at], s)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.served[at] = slices.DeleteFunc(slices.Clone(n.served[at]), func(x *serving) bool { return x == s })
	}, nil
}

func (n *member) Send(ctx context.Context, run, to string, e messages.Envelope) error {
	if err := n.cutOff(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	all := n.served[run+"/"+to]
	n.mu.Unlock()
	heard := false
	for _, s := range all {
		select {
		case <-s.by.dead:
		default:
			e, err := wired(e)
			if err != nil {
				return err
			}
			heard = true
			s.handle(e)
		}
	}
	if !heard {
		return messages.Errorf(messages.Unavailable, to, "nobody serves it")
	}
	return nil
}

func (n *member) Offer(context.Context, string, messages.Envelope) error {
	return messages.Errorf(messages.Unavailable, "", "no programs here")
}

// What tests do.

// run has the node take the run "r" over, or begin it.
func (n *member) run(m actors.Member) *actors.Run { return n.runBy(m, time.Time{}) }

func (n *member) runBy(m actors.Member, deadline time.Time) *actors.Run {
	n.Helper()
	n.mu.Lock()
	n.team = m
	n.mu.Unlock()
	r, err := n.rt.Start(n.ctx, messages.Task{ID: "r", Team: m.MemberName(), Prompt: "?", Deadline: deadline}, m, "")
	if err != nil {
		n.Fatal(err)
	}
	return r
}

func (w *world) answer(r *actors.Run) messages.Answer {
	w.Helper()
	a, err := r.Wait(w.ctx)
	if err != nil {
		w.Fatal(err)
	}
	return a
}

// until waits for an event on the node.
func (n *member) until(kind messages.EventKind, name string) messages.Event {
	n.Helper()
	for {
		select {
		case ev := <-n.sub.C:
			n.heard = append(n.heard, ev)
			if ev.Kind == kind && (name == "" || strings.Contains(ev.Name+" "+ev.Path, name)) {
				return ev
			}
		case <-n.ctx.Done():
			n.Fatalf("%s: no %s %s", n.info.Node, kind, name)
		}
	}
}

func (n *member) all() {
	for len(n.sub.C) > 0 {
		n.heard = append(n.heard, <-n.sub.C)
	}
}

// drain begins the node's drain, and returns once no new step begins there.
func (n *member) drain(ctx context.Context) <-chan error {
	n.Helper()
	n.draining()
	drained := make(chan error, 1)
	go func() { drained <- n.rt.Drain(ctx) }()
	n.eventually("drain", func() bool {
		err := n.rt.Host(n.ctx, messages.Place{Task: messages.Task{ID: "other"}, Member: "x"}, func() (actors.Member, error) {
			return nil, messages.Errorf(messages.Invalid, "", "no such team")
		})
		return messages.ClassOf(err) == messages.Stopping
	})
	return drained
}

func (n *member) words() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.said)
}

// forget stops a guest, and nobody hears of it.
func (n *member) forget(name string) {
	n.Helper()
	ok(n, n.sys.StopActor(n.ctx, n.sys.At(n.info.Node+"/guests/"+name)))
}

// eventually polls a condition.
func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	for !ok() {
		if w.ctx.Err() != nil {
			w.Fatalf("not: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// empty waits until no guest lives on the node.
func (n *member) empty() {
	n.Helper()
	n.eventually("no guest on "+n.info.Node, func() bool { return n.rt.Guests() == 0 })
}

// at is the node of the live tree at a path below the root.
func (n *member) at(path string) messages.TreeNode {
	t, _ := find(n.sys.Tree(n.ctx, supervisor.TreeOptions{}), path)
	return t
}

// kinds are the records of the run in words: kind, writer and step.
func (w *world) kinds() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.records {
		all = append(all, strings.TrimRight(fmt.Sprintf("%s %s %s", messages.KindOf(e.Body), e.Writer, e.Step), " "))
	}
	return all
}

// times counts a record.
func (w *world) times(kind string) (n int) {
	for _, k := range w.kinds() {
		if k == kind {
			n++
		}
	}
	return n
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// on is an agent that lives on a pool's node.
func on(pool, name string, tools ...tool.Tool) actors.Agent {
	a := agent(name, tools...)
	a.Pool = pool
	return a
}

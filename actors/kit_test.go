package actors_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"go.uber.org/goleak"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
	"github.com/covey-run/covey/supervisor"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// limit bounds every wait of a test.
const limit = 20 * time.Second

// kit is a node with scripted models, and an ear for its events.
type kit struct {
	testing.TB
	*cluster.Node
	ctx   context.Context
	dir   string
	cfg   cluster.Config
	model *scripted.Model
	sub   *supervisor.Subscription
	heard []messages.Event
}

// rules are what the model "m" answers by; every test's agents use it.
func newKit(t testing.TB, rules ...scripted.Rule) *kit {
	return newKitOf(t, cluster.Config{}, rules...)
}

func newKitOf(t testing.TB, cfg cluster.Config, rules ...scripted.Rule) *kit {
	t.Helper()
	return startKit(t, t.TempDir(), cfg, scripted.Of(rules...))
}

func startKit(t testing.TB, dir string, cfg cluster.Config, m *scripted.Model) *kit {
	t.Helper()
	cfg.Dir, cfg.Name = dir, "n"
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	if cfg.Models == nil {
		cfg.Models = map[string]provider.Factory{}
	}
	if cfg.Models["m"] == nil {
		cfg.Models["m"] = func(string) (provider.Model, error) { return m, nil }
	}
	if cfg.Providers == nil { // quick, and without chance
		cfg.Providers = map[string]provider.StackConfig{"m": {Retry: provider.RetryConfig{Attempts: 1}}}
	}
	k := &kit{TB: t, dir: dir, cfg: cfg, model: m}
	var cancel context.CancelFunc
	k.ctx, cancel = context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	var err error
	if k.Node, err = cluster.Start(k.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	k.sub = k.Events().Subscribe(100_000, nil)
	t.Cleanup(func() {
		if t.Failed() {
			k.all()
			t.Logf("heard:\n%s", k.told())
		}
		m.Release()
		_ = k.Stop(k.ctx)
		k.sub.Close()
	})
	return k
}

// Name is the test's; both embedded ones have one.
func (k *kit) Name() string { return k.TB.Name() }

// again stops the node and starts another on its directory.
func (k *kit) again(t testing.TB) *kit {
	t.Helper()
	k.stop()
	return startKit(t, k.dir, k.cfg, k.model)
}

func (k *kit) stop() {
	k.Helper()
	if err := k.Stop(k.ctx); err != nil {
		k.Fatal(err)
	}
}

// run submits a task and returns its run.
func (k *kit) run(m actors.Member, prompt string) *cluster.Run {
	k.Helper()
	r, err := k.Submit(k.ctx, m, messages.Task{ID: "r", Prompt: prompt})
	if err != nil {
		k.Fatal(err)
	}
	return r
}

// ask runs a task to its answer.
func (k *kit) ask(m actors.Member, prompt string) messages.Answer {
	k.Helper()
	a, err := k.run(m, prompt).Wait(k.ctx)
	if err != nil {
		k.Fatal(err)
	}
	return a
}

// fails runs a task to its failure, which must be of that class and say words.
func (k *kit) fails(m actors.Member, prompt string, c messages.Class, words ...string) *messages.Error {
	k.Helper()
	_, err := k.run(m, prompt).Wait(k.ctx)
	wantClass(k, err, c, words...)
	return messages.AsError(err, "", "")
}

// resume has the run "r" go on and returns its outcome.
func (k *kit) resume(m actors.Member) (messages.Answer, error) {
	k.Helper()
	r, err := k.Resume(k.ctx, "r", m)
	if err != nil {
		k.Fatal(err)
	}
	return r.Wait(k.ctx)
}

// until waits for an event that ok accepts.
func (k *kit) until(what string, ok func(messages.Event) bool) messages.Event {
	k.Helper()
	for {
		select {
		case ev := <-k.sub.C:
			k.heard = append(k.heard, ev)
			if ok(ev) {
				return ev
			}
		case <-k.ctx.Done():
			k.Fatalf("no %s; heard:\n%s", what, k.told())
		}
	}
}

func (k *kit) untilKind(kind messages.EventKind) messages.Event {
	k.Helper()
	return k.until(string(kind), func(ev messages.Event) bool { return ev.Kind == kind })
}

// advance moves time on until an event comes: its timer may not be set yet.
func (k *kit) advance(clock *clockwork.FakeClock, kind messages.EventKind) {
	k.Helper()
	for k.ctx.Err() == nil {
		select {
		case ev := <-k.sub.C:
			k.heard = append(k.heard, ev)
			if ev.Kind == kind {
				return
			}
		default:
			clock.Advance(100 * time.Millisecond)
			runtime.Gosched()
		}
	}
	k.Fatalf("no %s; heard:\n%s", kind, k.told())
}

// all is every event up to now.
func (k *kit) all() []messages.Event {
	for {
		select {
		case ev := <-k.sub.C:
			k.heard = append(k.heard, ev)
		default:
			return k.heard
		}
	}
}

func (k *kit) told() string {
	var b strings.Builder
	for _, ev := range k.heard {
		fmt.Fprintf(&b, "%s path=%s step=%s name=%s %s %s\n", ev.Kind, ev.Path, ev.Step, ev.Name, ev.Class, ev.Text)
	}
	return b.String()
}

// heardOf counts the events of a kind up to now.
func (k *kit) heardOf(kind messages.EventKind) (n int) {
	for _, ev := range k.all() {
		if ev.Kind == kind {
			n++
		}
	}
	return n
}

// records are the bodies in the journal of the run "r".
func (k *kit) records() (all []messages.Envelope) {
	k.Helper()
	for e, err := range k.Client().Records(k.ctx, "r") {
		if err != nil {
			k.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// kinds are the records of the run "r" in words: kind, writer and step.
func (k *kit) kinds() (all []string) {
	k.Helper()
	for _, e := range k.records() {
		all = append(all, strings.TrimRight(fmt.Sprintf("%s %s %s", messages.KindOf(e.Body), e.Writer, e.Step), " "))
	}
	return all
}

func wantClass(t testing.TB, err error, c messages.Class, words ...string) {
	t.Helper()
	if err == nil || messages.ClassOf(err) != c {
		t.Fatalf("class %q, want %q: %v", messages.ClassOf(err), c, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

func wantText(t testing.TB, a messages.Answer, text string) {
	t.Helper()
	if a.Text != text {
		t.Fatalf("answer %q, want %q", a.Text, text)
	}
}

func wantCount(t testing.TB, m *scripted.Model, n int) {
	t.Helper()
	if got := m.Count(); got != n {
		t.Fatalf("%d calls of the model, want %d", got, n)
	}
}

// agent is one on the kit's model.
func agent(name string, tools ...tool.Tool) actors.Agent {
	return actors.Agent{Name: name, Role: name, Model: "m", Tools: tools}
}

func team(p actors.Plan, ms ...actors.Member) actors.Team {
	return actors.Team{Name: "team", Plan: p, Members: ms}
}

// planOf makes a plan of asks: each is "member prompt"; the last one's answer is
// the plan's.
func planOf(asks ...string) actors.Plan {
	return actors.PlanFunc(func(ctx context.Context, s *actors.Stage) (a messages.Answer, err error) {
		for _, ask := range asks {
			member, prompt, _ := strings.Cut(ask, " ")
			if a, err = s.Ask(ctx, member, prompt); err != nil {
				return a, err
			}
		}
		return a, nil
	})
}

// says is a rule that answers every call in the same way.
func says(text string) scripted.Rule { return scripted.Rule{Reply: scripted.Reply{Text: text}} }

// to is a rule for calls whose last message holds a text.
func to(last string, r scripted.Reply, then ...scripted.Reply) scripted.Rule {
	return scripted.Rule{When: scripted.When{Last: last}, Reply: r, Then: then}
}

func textReply(text string) scripted.Reply { return scripted.Reply{Text: text} }

// calls is a reply that calls tools, one for each name.
func calls(names ...string) scripted.Reply {
	var r scripted.Reply
	for _, n := range names {
		r.ToolCalls = append(r.ToolCalls, scripted.ToolCall{Name: n})
	}
	return r
}

// hang is a rule for calls that hang, and the signal that the first of them came.
func hang(h scripted.Hang) (scripted.Rule, <-chan struct{}) {
	called := make(chan struct{})
	once := sync.OnceFunc(func() { close(called) })
	return scripted.Rule{When: scripted.When{Match: func(*provider.Request) bool { once(); return true }}, Reply: scripted.Reply{Hang: h}}, called
}

// used is a rule pair: the tools are called, and then what came back is told.
func used(names ...string) []scripted.Rule {
	return []scripted.Rule{
		{When: scripted.When{Result: "*"}, Reply: scripted.Reply{Text: "{{range .Messages}}{{if eq .Role \"tool\"}}[{{.Content}}]{{end}}{{end}}"}},
		{Reply: calls(names...)},
	}
}

// fn makes a tool of a function.
func fn(name string, call func(ctx context.Context) (string, error), opts ...tool.Option) tool.Tool {
	return tool.Must(tool.New(name, "for tests", func(ctx context.Context, _ struct{}) (string, error) { return call(ctx) }, opts...))
}

// quick restarts at once.
var quick = supervisor.Policy{Backoff: supervisor.Backoff{Initial: -1}}

// count counts from several goroutines.
type count struct {
	mu sync.Mutex
	n  int
}

func (c *count) add() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

func (c *count) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// wait waits for a signal.
func wait(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(limit):
		t.Fatalf("no %s", what)
	}
}

// find is the node of a tree at a path, names joined by "/".
func find(n messages.TreeNode, path string) (messages.TreeNode, bool) {
	if path == "" {
		return n, true
	}
	name, rest, _ := strings.Cut(path, "/")
	i := slices.IndexFunc(n.Children, func(c messages.TreeNode) bool { return c.Name == name })
	if i < 0 {
		return messages.TreeNode{}, false
	}
	return find(n.Children[i], rest)
}

// fakeClock is for tests that move time.
func fakeClock() *clockwork.FakeClock { return clockwork.NewFakeClockAt(time.Now()) }

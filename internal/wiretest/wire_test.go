package wiretest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// No test of this package knows anything of Covey's code.
func TestImportsNothingOfOurs(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if path, err := strconv.Unquote(i.Path.Value); err != nil || strings.Contains(path, "covey") {
				t.Errorf("%s imports %s", file, i.Path.Value)
			}
		}
	}
}

// patience bounds every wait.
const patience = time.Minute

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a NATS server, a `covey serve` on it, and a connection of nobody's.
type world struct {
	t   *testing.T
	ctx context.Context
	g   guide
	nc  *nats.Conn
	js  jetstream.JetStream
}

func newWorld(t *testing.T) *world {
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, g: readGuide(t)}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	ok(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	w.serve(s.ClientURL())
	w.nc, err = nats.Connect(s.ClientURL())
	ok(t, err)
	t.Cleanup(w.nc.Close)
	w.js, err = jetstream.New(w.nc)
	ok(t, err)
	return w
}

// said is what a process has said, and tells of a text when it comes.
type said struct {
	mu    sync.Mutex
	text  bytes.Buffer
	until string
	seen  chan struct{}
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.text.Write(p)
	if s.until != "" && strings.Contains(s.text.String(), s.until) {
		s.until = ""
		close(s.seen)
	}
	return n, err
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// serve runs `covey serve` as long as the test does.
func (w *world) serve(url string) {
	t := w.t
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "covey")
	if out, err := exec.Command("go", "build", "-o", bin, "../../cmd/covey").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	log := &said{until: "node n1 is ready", seen: make(chan struct{})}
	cmd := exec.Command(bin, "serve", "--nats", url, "--name", "n1")
	cmd.Dir, cmd.Stderr = dir, log
	ok(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			t.Error("covey serve does not end")
		}
		if t.Failed() {
			t.Logf("covey serve:\n%s", log)
		}
	})
	select {
	case <-log.seen:
	case err := <-ended:
		ended <- err
		t.Fatalf("covey serve: %v", err)
	case <-time.After(patience):
		t.Fatal("covey serve is not ready")
	}
}

// body is a message's JSON.
type body map[string]any

// at is a value in it, by its path.
func (b body) at(path string) any {
	var v any = map[string]any(b)
	for key := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func (w *world) read(data []byte) body {
	w.t.Helper()
	var b body
	if err := json.Unmarshal(data, &b); err != nil {
		w.t.Fatalf("%v: %s", err, data)
	}
	return b
}

func (w *world) fits(kind string, data []byte) {
	w.t.Helper()
	if err := wireSchema(w.t).Validate(map[string]any{kind: map[string]any(w.read(data))}); err != nil {
		w.t.Errorf("%s: %v\n%s", kind, err, data)
	}
}

// submits puts in a message of the guide, under another id.
func (w *world) submits(id string) *nats.Msg {
	w.t.Helper()
	m := w.g.message("Putting in a task", 0)
	w.fits("task", m.Data)
	m.Data = bytes.ReplaceAll(m.Data, []byte("hello-1"), []byte(id))
	m.Header["Covey-Run"], m.Header["Nats-Msg-Id"] = []string{id}, []string{id}
	return m
}

func (w *world) publish(m *nats.Msg) *jetstream.PubAck {
	w.t.Helper()
	ack, err := w.js.PublishMsg(w.ctx, m)
	ok(w.t, err)
	return ack
}

// request is what a request is answered.
func (w *world) request(m *nats.Msg) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	r, err := w.nc.RequestMsgWithContext(ctx, m)
	ok(w.t, err)
	return string(r.Data)
}

// record is one of a run's.
type record struct {
	kind, writer string
	body         body
}

// follow reads a run's records up to its end, as the guide's command says.
func (w *world) follow(run string) []record {
	t := w.t
	t.Helper()
	words := w.g.command("Following a run", 0)
	if len(words) != 4 || words[1] != "sub" || words[3] != "--all" {
		t.Fatalf("%q", words)
	}
	c, err := w.js.OrderedConsumer(w.ctx, "COVEY_JOURNAL", jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{strings.Replace(words[2], "hello-1", run, 1)}, DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	ok(t, err)
	it, err := c.Messages()
	ok(t, err)
	defer it.Stop()
	var records []record
	for {
		m, err := it.Next(jetstream.NextMaxWait(patience))
		ok(t, err)
		h := m.Headers()
		r := record{h.Get("Covey-Kind"), h.Get("Covey-Writer"), w.read(m.Data())}
		records = append(records, r)
		w.fits(r.kind, m.Data())
		if want := "covey.runs." + run + "." + r.writer; m.Subject() != want {
			t.Errorf("subject %s, not %s", m.Subject(), want)
		}
		if h.Get("Covey-Version") != "1" || h.Get("Covey-Run") != run || h.Get("Nats-Msg-Id") == "" {
			t.Errorf("%v", h)
		}
		if _, err := time.Parse(time.RFC3339, h.Get("Covey-Time")); err != nil {
			t.Error(err)
		}
		if h.Get("Nats-Expected-Last-Subject-Sequence") == "" || h.Get("Nats-Expected-Last-Subject-Sequence-Subject") != "covey.claims."+run+"."+r.writer {
			t.Errorf("the fence: %v", h)
		}
		if r.kind == "done" || r.kind == "failed" {
			return records
		}
	}
}

// A plain NATS client puts in a task, answers as one of the team's members, hears
// what is said, and follows the run to its end.
func TestAPlainClient(t *testing.T) {
	w := newWorld(t)

	// It listens in.
	words := w.g.command("Listening in", 0)
	var mu sync.Mutex
	heard := map[string]bool{} // subjects and kinds
	_, err := w.nc.Subscribe(words[2], func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		heard[m.Subject+" "+m.Header.Get("Covey-Kind")] = true
	})
	ok(t, err)

	// It serves a member.
	asked := make(chan *nats.Msg, 100)
	_, err = w.nc.QueueSubscribe("covey.members.translator", "translator", func(m *nats.Msg) {
		_ = m.Respond([]byte("+OK"))
		asked <- m
	})
	ok(t, err)
	ok(t, w.nc.Flush())

	// It puts in a task, twice.
	task := w.g.message("Putting in a task", 0)
	if ack := w.publish(task); ack.Stream != "COVEY_TASKS" || ack.Duplicate {
		t.Errorf("%+v", ack)
	}
	if ack := w.publish(task); !ack.Duplicate {
		t.Errorf("it is in twice: %+v", ack)
	}

	// It is asked, and answers.
	var ask *nats.Msg
	select {
	case ask = <-asked:
	case <-time.After(patience):
		t.Fatal("the member is not asked")
	}
	w.fits("ask", ask.Data)
	shown, got := w.read([]byte(w.g.block("Answering as a member", "json", 0))), w.read(ask.Data)
	for _, field := range []string{"step", "from", "to"} {
		if got[field] != shown[field] {
			t.Errorf("the ask's %s is %v, and the guide says %v", field, got[field], shown[field])
		}
	}
	if said, ok := got["discussion"].([]any); !ok || len(said) != 1 || body(said[0].(map[string]any)).at("from") != "writer" {
		t.Errorf("discussion: %v", got["discussion"])
	}
	reply := w.g.message("Answering as a member", 0)
	w.fits("reply", reply.Data)
	if want := "covey.bus." + ask.Header.Get("Covey-Run") + "." + got["from"].(string); reply.Subject != want {
		t.Errorf("the guide replies to %s, not to %s", reply.Subject, want)
	}
	stale := *reply // of an old owner
	stale.Header = maps.Clone(reply.Header)
	stale.Header["Covey-Writer"] = []string{"n0~1"}
	stale.Data = bytes.Replace(reply.Data, []byte("Bonjour"), []byte("Adieu"), 1)
	w.request(&stale)
	reply.Header["Covey-Writer"] = []string{ask.Header.Get("Covey-Writer")}
	if r := w.request(reply); r != "+OK" {
		t.Errorf("the reply is answered %q", r)
	}

	// It follows the run, and finds everything in its place.
	records := w.follow("hello-1")
	last := records[len(records)-1]
	if records[0].kind != "begun" || records[0].body.at("task.prompt") != "Greet the world." {
		t.Errorf("the first record: %+v", records[0])
	}
	if last.kind != "done" || last.writer != "plan" || last.body.at("answer.text") != "Bonjour !" {
		t.Errorf("the last record: %+v", last)
	}
	for _, want := range [][2]string{{"asked", "plan"}, {"answered", "writer"}, {"answered", "french"}} {
		if !slices.ContainsFunc(records, func(r record) bool { return r.kind == want[0] && r.writer == want[1] }) {
			t.Errorf("no record %s by %s", want[0], want[1])
		}
	}

	// The same task, under another message id, does nothing again.
	task.Header["Nats-Msg-Id"] = []string{"hello-1/again"}
	if ack := w.publish(task); ack.Duplicate {
		t.Errorf("%+v", ack)
	}
	w.empty("COVEY_TASKS")
	if again := w.follow("hello-1"); len(again) != len(records) || len(asked) != 0 {
		t.Errorf("%d records, then %d", len(records), len(again))
	}

	ok(t, w.nc.Flush())
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{
		"covey.tasks.defined.normal.- task", "covey.claims.hello-1.plan claim", "covey.runs.hello-1.plan begun", "covey.bus.hello-1.writer ask",
		"covey.members.translator ask", "covey.bus.hello-1.french reply", "covey.runs.hello-1.french answered", "covey.runs.hello-1.plan done",
	} {
		if !heard[want] {
			t.Errorf("it has not heard %s", want)
		}
	}
}

// empty waits until a stream has no message.
func (w *world) empty(stream string) {
	w.t.Helper()
	for late := time.Now().Add(patience); ; {
		s, err := w.js.Stream(w.ctx, stream)
		ok(w.t, err)
		switch left := s.CachedInfo().State.Msgs; {
		case left == 0:
			return
		case time.Now().After(late):
			w.t.Fatalf("%s has %d messages left", stream, left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A plain client cancels a run that waits for a program, while somebody listens
// to everything; and another program fails its ask.
func TestCancelAndFail(t *testing.T) {
	w := newWorld(t)
	asked := make(chan *nats.Msg, 100)
	_, err := w.nc.Subscribe("covey.members.translator", func(m *nats.Msg) {
		_ = m.Respond([]byte("+OK"))
		asked <- m
	})
	ok(t, err)
	ok(t, w.nc.Flush())

	w.publish(w.submits("hello-2"))
	<-asked
	cancel := w.g.message("Canceling", 0)
	w.fits("cancel", cancel.Data)
	if r := w.request(cancel); r != "+OK" {
		t.Errorf("the cancel is answered %q", r)
	}
	records := w.follow("hello-2")
	if last := records[len(records)-1]; last.kind != "failed" || last.body.at("error.class") != "canceled" || last.body.at("error.message") != "canceled: no need" {
		t.Errorf("%+v", last)
	}

	w.publish(w.submits("hello-3"))
	ask := <-asked
	fail := nats.NewMsg("covey.bus.hello-3.french")
	fail.Header["Covey-Version"], fail.Header["Covey-Kind"] = []string{"1"}, []string{"reply"}
	fail.Header["Covey-Run"], fail.Header["Covey-Writer"] = []string{"hello-3"}, ask.Header["Covey-Writer"]
	fail.Data = []byte(`{"step": "2", "from": "french", "error": {"class": "invalid", "message": "no such language"}}`)
	w.fits("reply", fail.Data)
	broken := *fail
	broken.Data = []byte("Bonjour !")
	if e := w.read([]byte(w.request(&broken))); e["class"] != "invalid" || e["message"] == "" {
		t.Errorf("a reply that is no JSON is answered %v", e)
	}
	if r := w.request(fail); r != "+OK" {
		t.Errorf("the failure is answered %q", r)
	}
	records = w.follow("hello-3")
	if last := records[len(records)-1]; last.kind != "failed" || last.body.at("error.class") != "invalid" || !strings.Contains(last.body.at("error.message").(string), "no such language") {
		t.Errorf("%+v", last)
	}
}

// What the tables say of streams, nodes and kinds is so.
func TestTables(t *testing.T) {
	w := newWorld(t)
	for stream, want := range map[string]struct {
		subject   string
		retention jetstream.RetentionPolicy
	}{
		"COVEY_JOURNAL":     {"covey.runs.>", jetstream.LimitsPolicy},
		"COVEY_TASKS":       {"covey.tasks.>", jetstream.WorkQueuePolicy},
		"KV_COVEY_NODES":    {"$KV.COVEY_NODES.>", jetstream.LimitsPolicy},
		"KV_COVEY_SESSIONS": {"$KV.COVEY_SESSIONS.>", jetstream.LimitsPolicy},
	} {
		s, err := w.js.Stream(w.ctx, stream)
		ok(t, err)
		c := s.CachedInfo().Config
		if !slices.Contains(c.Subjects, want.subject) || c.Retention != want.retention || c.MaxAge != 0 {
			t.Errorf("%+v", c)
		}
		if name := strings.TrimPrefix(stream, "KV_"); !strings.Contains(w.g.text, "`"+name+"`") {
			t.Errorf("the guide does not name %s", name)
		}
	}
	for _, to := range []string{"n1", "all"} {
		for _, verb := range []string{"ping", "info", "tree"} {
			r, err := w.nc.Request("covey.nodes."+to+"."+verb, nil, patience)
			ok(t, err)
			switch verb {
			case "ping":
				if !strings.HasPrefix(string(r.Data), "n1~") {
					t.Errorf("%s", r.Data)
				}
			case "info":
				w.fits("node", r.Data)
			default:
				w.fits(verb, r.Data)
			}
		}
	}
	kv, err := w.js.KeyValue(w.ctx, "COVEY_NODES")
	ok(t, err)
	e, err := kv.Get(w.ctx, "n1")
	ok(t, err)
	w.fits("node", e.Value())

	schema := wireSchema(t)
	var kinds []string
	for line := range strings.Lines(w.g.section("Bodies")) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 3 || !strings.HasPrefix(cells[0], "| `") {
			continue
		}
		kind := strings.Trim(cells[0], "| `")
		kinds = append(kinds, kind)
		var example any
		if err := json.Unmarshal([]byte(strings.Trim(cells[2], "| `")), &example); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if err := schema.Validate(map[string]any{kind: example}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	all := schema.Schema().PropertyOrder
	if all == nil {
		for kind := range schema.Schema().Properties {
			all = append(all, kind)
		}
	}
	slices.Sort(all)
	slices.Sort(kinds)
	if !slices.Equal(kinds, all) {
		t.Errorf("the guide has the kinds %q, the schema %q", kinds, all)
	}
}

// wireSchema is what `covey schema --wire` prints, without leave for fields that
// it does not name.
func wireSchema(t testing.TB) *jsonschema.Resolved {
	t.Helper()
	text, err := os.ReadFile("../../messages/schema.json")
	ok(t, err)
	var s jsonschema.Schema
	ok(t, json.Unmarshal(text, &s))
	for _, d := range s.Defs {
		if d.Type == "object" && d.AdditionalProperties == nil {
			d.AdditionalProperties = &jsonschema.Schema{Not: &jsonschema.Schema{}}
		}
	}
	r, err := s.Resolve(nil)
	ok(t, err)
	return r
}

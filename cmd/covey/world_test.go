package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

// world is what is outside of the process that is killed: a model server that
// counts its calls, and the tools, which note each execution in a file. It can
// hold the process at a point until it is told otherwise.
//
// Each start of covey is a life. When it is killed, its machine is taken to have
// died with it: a tool process that had not yet begun refuses to, and one that
// had begun comes to its end before anything else happens.
type world struct {
	t        testing.TB
	where    where
	data     cluster.Config
	team     string // the file
	effects  string
	http     *httptest.Server
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when the fields below change
	life    int
	calls   map[string]int // model calls by the state of their conversation
	order   []string       // the states, as they first came
	first   time.Time      // the first model call
	acting  map[int]int    // tools between begin and done, by life
	pace    time.Duration  // how long the model takes for half a reply
	hold    string         // the point to hold at
	held    bool           // somebody is held there
	gone    []chan struct{}

	kills  int
	frozen map[string]int // calls of what the journal had at the last kill
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{
		t: t, where: where{dir: dir}, data: cluster.Config{Dir: filepath.Join(dir, ".covey"), Logger: silent},
		team: filepath.Join(dir, "team.yaml"), effects: filepath.Join(dir, "effects"),
		changed: make(chan struct{}), calls: map[string]int{}, acting: map[int]int{}, frozen: map[string]int{},
	}
	w.http = httptest.NewServer(http.HandlerFunc(w.serveModel))
	var err error
	w.listener, err = net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	w.wg.Go(w.acceptTools)
	t.Cleanup(func() {
		w.bury()
		w.http.CloseClientConnections()
		w.http.Close()
		_ = w.listener.Close()
		w.wg.Wait()
	})
	self, err := os.Executable()
	ok(t, err)
	tool := func(name, effect, more string) string {
		return fmt.Sprintf("  - {name: %s, effect: %s, command: [%q, %q, %s, %q, %q]%s}\n", name, effect, self, toolArg, name, w.listener.Addr(), w.effects, more)
	}
	verify := fmt.Sprintf(", verify: [%q, %q, verify, charge, %q]", self, toolArg, w.effects)
	text := "name: shop\nmodel: ollama/fake\nplan: pipeline\nproviders:\n  ollama: {url: " + w.http.URL + `}
members:
  - {name: clerk, role: a clerk, tools: [lookup, weigh, reserve]}
  - {name: cashier, role: a cashier, tools: [charge]}
  - {name: writer, role: a writer}
  - {name: patron, role: a patron, tools: [gift]}
tools:
` + tool("lookup", "pure", "") + tool("weigh", "pure", "") + tool("reserve", "idempotent", "") + tool("charge", "unsafe", verify) + tool("gift", "unsafe", "")
	ok(t, os.WriteFile(w.team, []byte(text), 0o600))
	return w
}

const question = "Sell me a press?"

// note tells whoever waits that something has changed; mu is held.
func (w *world) note() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// begin starts a life of covey.
func (w *world) begin(args ...string) *process {
	w.t.Helper()
	w.mu.Lock()
	w.life++
	w.where.env = []string{fmt.Sprintf("%s=%d", lifeVariable, w.life)}
	w.gone = append(w.gone, make(chan struct{}))
	w.mu.Unlock()
	return w.where.start(w.t, args...)
}

// bury ends the present life for its tools.
func (w *world) bury() {
	w.mu.Lock()
	life := w.life
	w.hold, w.held = "", false
	if life > 0 {
		select {
		case <-w.gone[life-1]:
		default:
			close(w.gone[life-1])
		}
	}
	w.note()
	w.mu.Unlock()
	w.await("the tools of a dead life", func() bool { return w.acting[life] == 0 })
}

// await waits until is, which is called with mu held, is true.
func (w *world) await(what string, is func() bool) {
	w.t.Helper()
	late := time.After(limit())
	for {
		w.mu.Lock()
		changed, yes := w.changed, is()
		w.mu.Unlock()
		if yes {
			return
		}
		select {
		case <-changed:
		case <-late:
			w.t.Fatalf("never: %s", what)
		}
	}
}

// holdAt has the next one who comes to a point held there.
func (w *world) holdAt(point string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold, w.held = point, false
}

// holding waits until somebody is held, or a process has ended first.
func (w *world) holding(p *process) (held bool) {
	w.t.Helper()
	late := time.After(limit())
	for {
		w.mu.Lock()
		changed, held, point := w.changed, w.held, w.hold
		w.mu.Unlock()
		if held {
			return true
		}
		select {
		case <-changed:
		case <-p.done:
			return false
		case <-late:
			w.t.Fatalf("never: %s\n%s", point, p)
		}
	}
}

// release lets go whoever is held.
func (w *world) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold, w.held = "", false
	w.note()
}

// at holds the caller if it is to be held at this point: until it is released,
// or gone is closed.
func (w *world) at(point string, gone <-chan struct{}) {
	w.mu.Lock()
	if w.hold != point || w.held {
		w.mu.Unlock()
		return
	}
	w.held = true
	w.note()
	for w.held && w.hold == point {
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-gone:
			return
		}
		w.mu.Lock()
	}
	w.mu.Unlock()
}

// chat is a request of Ollama's protocol, as far as it matters here.
type chat struct {
	Messages []struct {
		Role      string `json:"role"`
		Content   string `json:"content"`
		ToolCalls []any  `json:"tool_calls,omitempty"`
		ToolName  string `json:"tool_name,omitempty"`
	} `json:"messages"`
}

// state names a conversation: equal ones are equal steps.
func (c chat) state() string {
	b, _ := json.Marshal(c.Messages)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

// reply is what the model says to a conversation: the clerk calls two tools at
// once and then one, the cashier one, and each tells the next what it learned.
func (c chat) reply() (text string, tools []string) {
	var results []string
	said := ""
	for _, m := range c.Messages {
		switch m.Role {
		case "tool":
			results = append(results, m.Content)
		case "user":
			said = m.Content
		}
	}
	told := strings.Join(results, " and ")
	has := func(role string) bool { return strings.Contains(c.Messages[0].Content, role) }
	switch {
	case has("clerk") && told == "":
		return "", []string{"lookup", "weigh"}
	case has("clerk") && len(results) == 2:
		return "", []string{"reserve"}
	case has("cashier") && told == "":
		return "", []string{"charge"}
	case has("patron") && told == "" && strings.Contains(said, "gift"):
		return "", []string{"gift"}
	case has("clerk"):
		return "CLERK: " + told + ".", nil
	case has("cashier"):
		return "CASHIER: " + told + ".", nil
	case has("writer"):
		return fmt.Sprintf("WRITER: %t", strings.Contains(said, "CLERK: the price is 42 and it is heavy and it is reserved.") && strings.Contains(said, "CASHIER: charged.")), nil
	}
	return strings.TrimSpace(fmt.Sprintf("SOLD: %t %s", strings.Contains(said, "WRITER: true"), told)), nil
}

const rightAnswer = "SOLD: true"

func (w *world) serveModel(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/api/chat" {
		_, _ = rw.Write([]byte("{}")) // whether the model is there
		return
	}
	var c chat
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil || len(c.Messages) == 0 {
		http.Error(rw, fmt.Sprintf(`{"error": "not a chat: %v"}`, err), http.StatusBadRequest)
		return
	}
	state := c.state()
	w.mu.Lock()
	if w.first.IsZero() {
		w.first = time.Now()
	}
	w.calls[state]++
	if w.calls[state] == 1 {
		w.order = append(w.order, state)
	}
	point := fmt.Sprintf("model %d", slices.Index(w.order, state)+1)
	w.note()
	w.mu.Unlock()

	gone := r.Context().Done()
	w.at(point+" is asked", gone)
	think := func() {
		select {
		case <-time.After(w.pace):
		case <-gone:
		}
	}
	think()
	type line map[string]any
	send := func(l line) {
		l["model"], l["created_at"] = "fake", "2026-01-01T00:00:00Z"
		_ = json.NewEncoder(rw).Encode(l)
		rw.(http.Flusher).Flush()
	}
	text, tools := c.reply()
	half := len(text) / 2
	if text != "" {
		send(line{"message": line{"role": "assistant", "content": text[:half]}})
	}
	w.at(point+" has said half", gone)
	think()
	if text != "" {
		send(line{"message": line{"role": "assistant", "content": text[half:]}})
	}
	if len(tools) > 0 {
		var calls []line
		for i, name := range tools {
			calls = append(calls, line{"id": fmt.Sprintf("call_%s_%d", state, i), "function": line{"name": name, "arguments": line{}}})
		}
		send(line{"message": line{"role": "assistant", "content": "", "tool_calls": calls}})
	}
	send(line{"message": line{"role": "assistant", "content": ""}, "done": true, "done_reason": "stop", "prompt_eval_count": 10, "eval_count": 5})
}

func (w *world) acceptTools() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.wg.Go(func() { w.serveTool(c) })
	}
}

// serveTool speaks with one tool process: "begin NAME LIFE", "done".
func (w *world) serveTool(c net.Conn) {
	defer func() { _ = c.Close() }()
	in := bufio.NewScanner(c)
	if !in.Scan() {
		return
	}
	var name string
	var life int
	if _, err := fmt.Sscanf(in.Text(), "begin %s %d", &name, &life); err != nil || life < 1 {
		return
	}
	w.mu.Lock()
	gone := w.gone[life-1]
	w.mu.Unlock()
	w.at(name+" begins", gone)
	w.mu.Lock()
	select {
	case <-gone: // it dies with its machine
		w.mu.Unlock()
		return
	default:
	}
	w.acting[life]++
	w.mu.Unlock()
	fmt.Fprintln(c, "go")
	in.Scan() // done, or its end
	w.mu.Lock()
	w.acting[life]--
	w.note()
	w.mu.Unlock()
	w.at(name+" is done", gone)
	fmt.Fprintln(c, "go")
}

const (
	toolArg      = "be-a-tool"
	lifeVariable = "COVEY_TEST_LIFE"
)

var toolOutputs = map[string]string{"lookup": "the price is 42", "weigh": "it is heavy", "reserve": "it is reserved", "charge": "charged", "gift": "given"}

// beTool is this test binary as a tool: NAME ADDRESS FILE, or as the verify
// command of one: verify NAME FILE.
func beTool(args []string) int {
	key := os.Getenv("COVEY_TOOL_KEY")
	if args[0] == "verify" {
		for _, e := range readEffects(args[2]) {
			if e == args[1]+" "+key {
				fmt.Println(toolOutputs[args[1]])
				return 0
			}
		}
		return 1
	}
	name, file := args[0], args[2]
	c, err := net.DialTimeout("tcp", args[1], 5*time.Second)
	if err != nil {
		return 3
	}
	in := bufio.NewScanner(c)
	fmt.Fprintf(c, "begin %s %s\n", name, os.Getenv(lifeVariable))
	if !in.Scan() {
		return 4
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s %s\n", name, key)
	}
	if err != nil {
		return 5
	}
	fmt.Fprintln(c, "done")
	in.Scan()
	fmt.Println(toolOutputs[name])
	return 0
}

func readEffects(file string) []string {
	b, _ := os.ReadFile(file)
	return slices.DeleteFunc(strings.Split(string(b), "\n"), func(l string) bool { return l == "" })
}

// client looks at the data while nobody runs on it.
func (w *world) client(do func(context.Context, *cluster.Client)) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit())
	defer cancel()
	c, err := cluster.Open(ctx, w.data)
	ok(w.t, err)
	defer c.Close()
	do(ctx, c)
}

// standing is what the journal says between two lives.
type standing struct {
	run     string
	steps   int
	records []messages.Envelope
	ended   bool
	queued  bool
}

// killed is called after each kill. It notes what the journal has, which must
// never be done again.
func (w *world) killed() (s standing) {
	w.t.Helper()
	w.kills++
	w.bury()
	s = w.look()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range s.records {
		if m, is := e.Body.(*messages.Modeled); is {
			state := w.stateOf(s.records, e.Writer, m)
			w.frozen[state] = w.calls[state]
		}
	}
	return s
}

// look reads the one run that there is.
func (w *world) look() (s standing) {
	w.t.Helper()
	w.client(func(ctx context.Context, c *cluster.Client) {
		infos, err := c.Runs(ctx)
		ok(w.t, err)
		if len(infos) > 1 {
			w.t.Fatalf("%d runs, want 1: %+v", len(infos), infos)
		}
		for _, i := range infos {
			s.run, s.steps, s.ended = i.Run, i.Steps, i.State == messages.RunDone || i.State == messages.RunFailed
			s.records, err = c.Read(ctx, i.Run)
			ok(w.t, err)
		}
		tasks, err := c.Queue(ctx)
		ok(w.t, err)
		s.queued = len(tasks) > 0
	})
	return s
}

// stateOf finds the conversation that a recorded reply was given to: the
// conversations of the fake come in one order, and so do the replies.
func (w *world) stateOf(records []messages.Envelope, writer string, m *messages.Modeled) string {
	n := 0
	for _, e := range records {
		if b, is := e.Body.(*messages.Modeled); is {
			if e.Writer == writer && b == m {
				return w.order[n]
			}
			n++
		}
	}
	return ""
}

// check is what must hold at the end of every run, however often it was killed.
func (w *world) check() {
	w.t.Helper()
	s := w.look()
	t := w.t
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := 0
	for state, n := range w.calls {
		calls += n
		if was, recorded := w.frozen[state]; recorded && n != was {
			t.Errorf("a recorded model call was made again: %d calls, %d when it was recorded", n, was)
		}
	}
	if calls > len(w.calls)+w.kills {
		t.Errorf("%d model calls for %d steps and %d kills", calls, len(w.calls), w.kills)
	}
	byTool := map[string]map[string]int{}
	for _, e := range readEffects(w.effects) {
		name, key, _ := strings.Cut(e, " ")
		if byTool[name] == nil {
			byTool[name] = map[string]int{}
		}
		byTool[name][key]++
	}
	for name, keys := range byTool {
		if len(keys) != 1 {
			t.Errorf("%s was called under %d keys: %v", name, len(keys), slices.Collect(maps.Keys(keys)))
		}
		for key, n := range keys {
			switch {
			case name == "charge" && n != 1, name == "gift" && n != 1:
				t.Errorf("UNSAFE: %s took effect %d times, key %s", name, n, key)
			case n > 1+w.kills:
				t.Errorf("%s took effect %d times in %d kills", name, n, w.kills)
			}
		}
	}
	seen := map[string]int{}
	for _, e := range s.records {
		switch b := e.Body.(type) {
		case *messages.Modeled:
			seen[fmt.Sprintf("reply %s/%s/%d", e.Writer, e.Step, b.N)]++
		case *messages.Intent:
			seen[fmt.Sprintf("intent %s/%s/%d/%d", e.Writer, e.Step, b.N, b.Call)]++
		case *messages.Result:
			seen[fmt.Sprintf("result %s/%s/%d/%d", e.Writer, e.Step, b.N, b.Call)]++
		case *messages.Resolve:
			if b.Retry { // the call never happened
				delete(seen, fmt.Sprintf("intent %s/%s/%d/%d", e.Writer, e.Step, b.N, b.Call))
			}
		case *messages.Asked, *messages.Answered, *messages.Begun, *messages.Done:
			seen[fmt.Sprintf("%s %s/%s", messages.KindOf(b), e.Writer, e.Step)]++
		case *messages.Failed:
			t.Errorf("the run failed: %v", b.Error)
		}
	}
	for what, n := range seen {
		if n != 1 {
			t.Errorf("%d records of %s", n, what)
		}
	}
}

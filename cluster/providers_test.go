package cluster

import (
	"bytes"
	"context"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/messages"
)

// patient is a provider that is up or down, and counts its calls.
type patient struct {
	down  atomic.Bool
	calls atomic.Int32
	hold  chan struct{} // if not nil, a call that succeeds waits for it
}

func (p *patient) Stream(ctx context.Context, _ *provider.Request) iter.Seq2[provider.Chunk, error] {
	return func(yield func(provider.Chunk, error) bool) {
		p.calls.Add(1)
		if p.down.Load() {
			yield(provider.Chunk{}, messages.Errorf(messages.Transient, "patient", "503"))
			return
		}
		if p.hold != nil {
			select {
			case <-p.hold:
			case <-ctx.Done():
				yield(provider.Chunk{}, messages.AsError(ctx.Err(), messages.Canceled, "patient"))
				return
			}
		}
		yield(provider.Chunk{Text: "well", Stop: messages.StopEnd, Model: "patient"}, nil)
	}
}

func (p *patient) factory(string) (provider.Model, error) { return p, nil }

func startNode(t *testing.T, cfg Config) *Node {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.URL == "" {
		cfg.Dir = t.TempDir()
	}
	n := must(Start(testCtx(t), cfg))(t)
	t.Cleanup(func() { ok(t, n.Stop(testCtx(t))) })
	return n
}

func askModel(t *testing.T, n *Node, ref string) (*provider.Reply, error) {
	t.Helper()
	return provider.Call(testCtx(t), n.rt.Model(ref), &provider.Request{Messages: []messages.Message{{Role: messages.User, Content: "?"}}})
}

// A provider dies: what one node learns, the other knows, and one of them tries
// whether it is back.
func TestTwoNodesOneProvider(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	p := &patient{}
	p.down.Store(true)
	const openFor = 700 * time.Millisecond
	cfg := Config{
		URL: url, Models: map[string]provider.Factory{"patient": p.factory},
		Providers: map[string]provider.StackConfig{"patient": {
			Retry: provider.RetryConfig{Attempts: 1}, Breaker: provider.BreakerConfig{Failures: 2, OpenFor: openFor, Successes: 1},
		}},
	}
	a, b := startNode(t, cfg), startNode(t, cfg)
	events := b.Events().Subscribe(100, func(ev messages.Event) bool { return ev.Kind == messages.BreakerOpened })
	defer events.Close()
	if _, err := askModel(t, b, "patient/x"); messages.ClassOf(err) != messages.Transient { // its actor is there
		t.Fatal(err)
	}
	for range 2 {
		_, _ = askModel(t, a, "patient/x")
	}
	opened := time.Now()
	select {
	case <-events.C:
	case <-testCtx(t).Done():
		t.Fatal("the other node does not hear of it")
	}
	if took := time.Since(opened); took > 100*time.Millisecond {
		t.Errorf("the other node heard after %v", took)
	}
	calls := p.calls.Load()
	_, errA := askModel(t, a, "patient/x")
	_, errB := askModel(t, b, "patient/x")
	if messages.ClassOf(errA) != messages.Unavailable || messages.ClassOf(errB) != messages.Unavailable || p.calls.Load() != calls {
		t.Fatalf("not refused: %v, %v", errA, errB)
	}
	untilA, untilB := messages.AsError(errA, "", "").Until, messages.AsError(errB, "", "").Until
	if !untilA.Equal(untilB) {
		t.Errorf("one reopens at %v, the other at %v", untilA, untilB)
	}

	// It is back, and the first call takes its time: the other node waits.
	p.hold = make(chan struct{})
	p.down.Store(false)
	soon(t, func() bool { return !time.Now().Before(untilA) })
	calls = p.calls.Load()
	replies := make(chan error, 1)
	go func() {
		_, err := askModel(t, a, "patient/x")
		replies <- err
	}()
	soon(t, func() bool { return p.calls.Load() == calls+1 })
	for range 5 {
		if _, err := askModel(t, b, "patient/x"); messages.ClassOf(err) != messages.Unavailable {
			t.Fatalf("two nodes probe: %v", err)
		}
	}
	if got := p.calls.Load(); got != calls+1 {
		t.Errorf("%d probes", got-calls)
	}
	close(p.hold)
	ok(t, <-replies)
	soon(t, func() bool { // both closed
		_, err := askModel(t, b, "patient/x")
		return err == nil
	})
}

// A node that starts while a provider is down knows it.
func TestALateNodeHearsOfTheOpening(t *testing.T) {
	url, _ := listen(t, t.TempDir(), freePort(t))
	p := &patient{}
	p.down.Store(true)
	cfg := Config{URL: url, Models: map[string]provider.Factory{"patient": p.factory},
		Providers: map[string]provider.StackConfig{"patient": {Retry: provider.RetryConfig{Attempts: 1}, Breaker: provider.BreakerConfig{Failures: 1}}}}
	a := startNode(t, cfg)
	_, _ = askModel(t, a, "patient/x")
	soon(t, func() bool { _, err := a.gate.kv.Get(testCtx(t), openKey+keyOf("patient/x")); return err == nil })
	calls := p.calls.Load()
	if _, err := askModel(t, startNode(t, cfg), "patient/x"); messages.ClassOf(err) != messages.Unavailable || p.calls.Load() != calls {
		t.Errorf("not refused: %v", err)
	}
}

// B5, C3, D4, E8, B6: a run falls to a lower rung; the answer, the log and the
// metrics say so.
func TestARunFallsBack(t *testing.T) {
	down, up := &patient{}, &patient{}
	down.down.Store(true)
	log := &safeBuffer{}
	n := startNode(t, Config{
		Models:    map[string]provider.Factory{"down": down.factory, "up": up.factory},
		Providers: map[string]provider.StackConfig{"down": {Retry: provider.RetryConfig{Attempts: 2, Initial: time.Millisecond}}},
		Metrics:   "127.0.0.1:0",
		Logger:    slog.New(slog.NewTextHandler(log, nil)),
	})
	ans, err := n.Ask(testCtx(t), actors.Agent{Name: "clerk", Model: "down/big", Fallback: []string{"up/small"}, Kind: "chat"}, "How are you?")
	ok(t, err)
	if o := ans.Origin; ans.Text != "well" || o == nil || !o.Fallback || o.Rung != 1 || o.Name != "up/small" || len(o.Before) != 1 || o.Before[0].Class != messages.Transient {
		t.Fatalf("%+v, origin %+v", ans, ans.Origin)
	}
	var text string
	soon(t, func() bool {
		text = fetch(t, "http://"+n.MetricsAddr()+"/metrics")
		return strings.Contains(text, "covey_ladder_fallbacks_total{")
	})
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	ok(t, err)
	for _, name := range []string{"covey_model_calls_total", "covey_model_retries_total", "covey_model_attempts_total", "covey_queue_waiting", "covey_breaker_state", "covey_ladder_rungs_failed_total"} {
		if families[name] == nil {
			t.Errorf("no %s in\n%s", name, text)
		}
	}
	for _, line := range []string{
		`covey_model_calls_total{call="chat",class="transient",model="down/big",node="` + n.Name() + `",outcome="failed"} 1`,
		`covey_model_calls_total{call="chat",class="",model="up/small",node="` + n.Name() + `",outcome="first_try"} 1`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
	if health := fetch(t, "http://"+n.MetricsAddr()+"/health"); !strings.Contains(health, `"model":"down/big","health":"degraded"`) {
		t.Error(health)
	}
	soon(t, func() bool { return strings.Contains(log.String(), "ladder.fallback") })
	for _, words := range []string{"provider.retry", "session=" + ans.Run, "attempt=1", "wait=", "class=transient", "503", "call=chat"} {
		if !strings.Contains(log.String(), words) {
			t.Errorf("the log does not say %s:\n%s", words, log)
		}
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	ok(t, err)
	defer func() { _ = resp.Body.Close() }()
	b := must(io.ReadAll(resp.Body))(t)
	return string(b)
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// D4: the last rung is a person.
func TestAPersonAnswersARun(t *testing.T) {
	down := &patient{}
	down.down.Store(true)
	n := startNode(t, Config{Models: map[string]provider.Factory{"down": down.factory},
		Providers: map[string]provider.StackConfig{"down": {Retry: provider.RetryConfig{Attempts: 1}}}})
	events := n.Events().Subscribe(10, func(ev messages.Event) bool { return ev.Kind == messages.CallParked })
	defer events.Close()
	run := must(n.Submit(testCtx(t), actors.Agent{Name: "clerk", Model: "down/big", Fallback: []string{"parked"}}, messages.Task{Prompt: "How are you?"}))(t)
	select {
	case ev := <-events.C:
		if ev.Run != run.ID {
			t.Errorf("%+v", ev)
		}
		ok(t, n.Client().AnswerParked(testCtx(t), ev.Text, "Fine."))
	case <-testCtx(t).Done():
		t.Fatal("nothing was parked")
	}
	ans := must(run.Wait(testCtx(t)))(t)
	if ans.Text != "Fine." || ans.Origin == nil || ans.Origin.Name != "parked" || !ans.Origin.Fallback {
		t.Errorf("%+v %+v", ans, ans.Origin)
	}
}

// D4: a rule of the program's, and texts written beforehand.
func TestRulesAndCannedTexts(t *testing.T) {
	down := &patient{}
	down.down.Store(true)
	cfg := Config{
		Models: map[string]provider.Factory{"down": down.factory},
		Rules: map[string]provider.Rule{"hello": func(_ context.Context, req *provider.Request) (string, bool) {
			return "Hello!", strings.Contains(req.Messages[0].Content, "hello")
		}},
	}
	cfg.Settings.Code.Providers = map[string]provider.Settings{"down": {
		Retry:    &provider.RetrySettings{On: new(false)},
		Breaker:  &provider.BreakerSettings{On: new(false)},
		Fallback: &provider.FallbackSettings{Rungs: []string{"rule:hello", "canned"}, Canned: map[string]string{"default": "Later.", "greeting": "Good day."}},
	}}
	n := startNode(t, cfg)
	for prompt, want := range map[string]string{"hello": "Hello!", "what?": "Later."} {
		ans := must(n.Ask(testCtx(t), actors.Agent{Name: "clerk", Model: "down/big"}, prompt))(t)
		if ans.Text != want || !ans.Origin.Fallback {
			t.Errorf("%s: %q by %+v", prompt, ans.Text, ans.Origin)
		}
	}
	ans := must(n.Ask(testCtx(t), actors.Agent{Name: "clerk", Model: "down/big", Kind: "greeting"}, "what?"))(t)
	if ans.Text != "Good day." {
		t.Errorf("%q", ans.Text)
	}
}

// What must be shown: bad configuration is refused at start with field, value
// and range.
func TestBadSettingsAreRefusedAtStart(t *testing.T) {
	settings := func(s provider.Settings) Config {
		return Config{Settings: provider.Levels{Code: provider.Level{Providers: map[string]provider.Settings{"ollama": s}}, Environ: []string{}}}
	}
	for _, c := range []struct {
		name  string
		cfg   Config
		words []string
	}{
		{"negative retries", settings(provider.Settings{Retry: &provider.RetrySettings{Attempts: new(-1)}}), []string{"providers.ollama", "retry.attempts", "-1", "from 1 to 100"}},
		{"negative retries in a config", Config{Providers: map[string]provider.StackConfig{"ollama": {Retry: provider.RetryConfig{Attempts: -1}}}}, []string{"ollama", "attempts", "-1"}},
		{"zero cap", settings(provider.Settings{Retry: &provider.RetrySettings{Max: new(provider.Duration(0))}}), []string{"retry.max", "0s", "from 1ns to 24h"}},
		{"11 rungs", settings(provider.Settings{Fallback: &provider.FallbackSettings{Rungs: strings.Fields("a b c d e f g h i j")}}), []string{"rungs", "11", "at most 10"}},
		{"unknown model", settings(provider.Settings{Fallback: &provider.FallbackSettings{Rungs: []string{"olama/x"}}}), []string{"olama", "known are"}},
		{"unknown rule", settings(provider.Settings{Fallback: &provider.FallbackSettings{Rungs: []string{"rule:none"}}}), []string{"rule:none"}},
		{"bad variable", Config{Settings: provider.Levels{Environ: []string{"COVEY_OLLAMA_QUEUE_CONCURRENCY=0"}}}, []string{"COVEY_OLLAMA_QUEUE_CONCURRENCY", "0", "from 1 to"}},
		{"metrics for all", Config{Metrics: "0.0.0.0:0"}, []string{"0.0.0.0", "token"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Dir = t.TempDir()
			n, err := Start(testCtx(t), c.cfg)
			if err == nil {
				ok(t, n.Stop(testCtx(t)))
			}
			wantClass(t, err, messages.Invalid, c.words...)
		})
	}
	n := startNode(t, Config{})
	err := n.Serve(testCtx(t), actors.Agent{Name: "clerk", Model: "scripted", Fallback: []string{"olama/x"}})
	wantClass(t, err, messages.Invalid, "clerk", "olama", "known are")
}

// A restarted provider does not forget that its breaker is open.
func TestARestartedProviderRemembers(t *testing.T) {
	var made atomic.Int32
	n := startNode(t, Config{
		Models: map[string]provider.Factory{"bad": func(string) (provider.Model, error) {
			made.Add(1)
			return provider.Func(func(context.Context, *provider.Request) iter.Seq2[provider.Chunk, error] {
				panic("a bug in the client")
			}), nil
		}},
		Providers: map[string]provider.StackConfig{"bad": {Retry: provider.RetryConfig{Attempts: 1}, Breaker: provider.BreakerConfig{Failures: 1, OpenFor: time.Hour}}},
	})
	if _, err := askModel(t, n, "bad/x"); messages.ClassOf(err) != messages.Unavailable {
		t.Fatal(err)
	}
	before := made.Load()
	soon(t, func() bool { // its actor was restarted
		_, err := askModel(t, n, "bad/x")
		if messages.ClassOf(err) != messages.Unavailable {
			t.Fatalf("it was called again: %v", err)
		}
		return made.Load() > before
	})
	_, err := askModel(t, n, "bad/x")
	wantClass(t, err, messages.Unavailable, "breaker is open")
}

// D5 in a run: a router is a model, its choice goes through that model's actor,
// and what it learned is there after a restart.
func TestRoutersInARun(t *testing.T) {
	small, big := &patient{}, &patient{}
	dir := t.TempDir()
	cfg := Config{
		Dir:    dir,
		Models: map[string]provider.Factory{"small": small.factory, "big": big.factory},
		Routers: map[string]route.Settings{
			"length":  {By: "complexity", Simple: "small/x", Complex: "big/x"},
			"price":   {By: "cost", Choices: []string{"big/x", "small/x"}, Budget: 1e-6},
			"learned": {By: "learned", Choices: []string{"small/x", "big/x"}},
		},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	cfg.Settings.Code.Providers = map[string]provider.Settings{
		"big":   {Prices: map[string]provider.Price{"x": {Input: 15, Output: 75}}},
		"small": {Prices: map[string]provider.Price{"x": {}}},
	}
	n := must(Start(testCtx(t), cfg))(t)
	for _, model := range []string{"router/length", "router/price"} {
		ans, err := n.Ask(testCtx(t), actors.Agent{Name: "clerk", Model: model}, "Hi")
		ok(t, err)
		if ans.Origin == nil || ans.Origin.Name != "small/x" {
			t.Errorf("%s: %+v", model, ans.Origin)
		}
	}
	if got := small.calls.Load(); got != 2 || big.calls.Load() != 0 {
		t.Errorf("%d calls of the small one, %d of the big one", got, big.calls.Load())
	}
	_, err := n.Ask(testCtx(t), actors.Agent{Name: "clerk", Model: "router/learned"}, "Hi")
	ok(t, err)
	wantClass(t, n.Serve(testCtx(t), actors.Agent{Name: "clerk", Model: "router/none"}), messages.Invalid, "router", "none", "length")
	ok(t, n.Stop(testCtx(t)))

	n = must(Start(testCtx(t), cfg))(t)
	data, err := learned{nc: n.nc}.Load(testCtx(t), "learned")
	if err != nil || !strings.Contains(string(data), "small/x") {
		t.Errorf("kept: %s, %v", data, err)
	}
	ok(t, n.Stop(testCtx(t)))

	delete(cfg.Settings.Code.Providers, "big")
	_, err = Start(testCtx(t), cfg)
	wantClass(t, err, messages.Invalid, "routers.price", "big/x", "price")
}

// B1, B2 and B11 in a run: an answer that cannot be used is shown to the model,
// then asked for more simply, and then the next rung takes over.
func TestOutputInARun(t *testing.T) {
	talker := &counting{text: "I would rather talk."}
	clerk := &counting{text: `Here it is: {"price": 5}`}
	cfg := Config{
		Models: map[string]provider.Factory{
			"talker": func(string) (provider.Model, error) { return talker, nil },
			"clerk":  func(string) (provider.Model, error) { return clerk, nil },
		},
	}
	cfg.Settings.Code.Calls = map[string]provider.Settings{"price": {Output: &provider.OutputSettings{Attempts: new(3)}}}
	n := startNode(t, cfg)
	run := must(n.Submit(testCtx(t), actors.Agent{Name: "a", Model: "talker/x", Fallback: []string{"clerk/x"}, Kind: "price"},
		messages.Task{Prompt: "What is the price?"}))(t)
	_, err := run.Wait(testCtx(t))
	ok(t, err) // free text: anything that is not empty will do
	if got := talker.calls.Load(); got != 1 {
		t.Errorf("%d calls", got)
	}
	reply := must(provider.Call(testCtx(t), n.rt.ModelWith("talker/x", &provider.Settings{Fallback: &provider.FallbackSettings{Rungs: []string{"clerk/x"}}}),
		&provider.Request{Kind: "price", Messages: []messages.Message{{Role: messages.User, Content: "?"}},
			Format: []byte(`{"type":"object","required":["price"],"properties":{"price":{"type":"number"}}}`)}))(t)
	if got := talker.calls.Load(); got != 4 {
		t.Errorf("%d calls, want 1 and 3", got)
	}
	if o := reply.Origin; reply.Message.Content != `{"price": 5}` || o == nil || o.Name != "clerk/x" || o.Strategy == "" || o.Before[0].Class != messages.Malformed {
		t.Errorf("%q %+v", reply.Message.Content, reply.Origin)
	}
}

// counting always says the same.
type counting struct {
	text  string
	calls atomic.Int32
}

func (c *counting) Stream(ctx context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
	c.calls.Add(1)
	return provider.Answer(func(context.Context, *provider.Request) (*provider.Reply, error) {
		return &provider.Reply{Message: messages.Message{Role: messages.Assistant, Content: c.text}, Model: "counting"}, nil
	}).Stream(ctx, req)
}

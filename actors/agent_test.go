package actors_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/cluster"
	"github.com/covey-run/covey/messages"
)

func TestTextAnswer(t *testing.T) {
	k := newKit(t, says("Hello."))
	a := k.ask(agent("a"), "Hi?")
	if a.Text != "Hello." || a.By != "a" || a.Run != "r" || a.Steps != 1 || a.Journal != 0 || a.Usage.Calls != 1 || a.Stop != messages.StopEnd {
		t.Errorf("%+v", a)
	}
	call := k.model.Calls()[0].Request
	if call.Messages[0].Content != "You are a." || call.Messages[1].Content != "Hi?" || call.Key != "r/a/1/0" {
		t.Errorf("%+v", call)
	}
}

func TestToolLoop(t *testing.T) {
	double := tool.Must(tool.New("double", "doubles", func(_ context.Context, in struct{ N int }) (int, error) { return 2 * in.N, nil }, tool.Pure))
	ask := func(n int) scripted.Reply {
		return scripted.Reply{ToolCalls: []scripted.ToolCall{{Name: "double", Arguments: map[string]any{"N": n}}}}
	}
	k := newKit(t,
		scripted.Rule{When: scripted.When{Result: "double"}, Reply: ask(4), Then: []scripted.Reply{{Text: "It is {{.Last}}."}}},
		scripted.Rule{Reply: ask(2)},
	)
	a := k.ask(agent("a", double), "What is 4 times 2?")
	if a.Text != "It is 8." || a.Steps != 5 || a.Usage.Calls != 3 {
		t.Errorf("%+v", a)
	}
	want := []string{"begun plan", "asked plan 1", "model a 1", "intent a 1", "result a 1", "model a 1", "intent a 1", "result a 1", "model a 1", "answered a 1", "done plan"}
	if got := k.kinds(); !slices.Equal(got, want) {
		t.Errorf("records %q", got)
	}
}

// side measures how many calls of its tools run at once. With wanted set, each
// call waits until so many do.
type side struct {
	mu           sync.Mutex
	now, most    int
	wanted       int
	there        chan struct{}
	alreadyThere bool
}

func (s *side) call(ctx context.Context) (string, error) {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	if s.now == s.wanted && !s.alreadyThere {
		s.alreadyThere = true
		close(s.there)
	}
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.now--; s.mu.Unlock() }()
	if s.wanted > 1 {
		select {
		case <-s.there:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return "ok", nil
}

func TestToolsSideBySide(t *testing.T) {
	s := &side{wanted: 3, there: make(chan struct{})}
	pure, same := fn("pure", s.call, tool.Pure), fn("same", s.call, tool.Idempotent)
	k := newKit(t, used("pure", "same", "pure")...)
	wantText(t, k.ask(agent("a", pure, same), "?"), "[ok][ok][ok]")
	if s.most != 3 {
		t.Errorf("%d at once", s.most)
	}
}

func TestUnsafeToolMakesItSequential(t *testing.T) {
	s := &side{}
	k := newKit(t, used("pure", "unsafe", "pure")...)
	wantText(t, k.ask(agent("a", fn("pure", s.call, tool.Pure), fn("unsafe", s.call)), "?"), "[ok][ok][ok]")
	if s.most != 1 {
		t.Errorf("%d at once", s.most)
	}
}

func TestToolRefusals(t *testing.T) {
	var n count
	add := tool.Must(tool.New("add", "adds", func(_ context.Context, in struct{ A int }) (int, error) { n.add(); return in.A, nil }))
	for _, tt := range []struct {
		name  string
		call  scripted.ToolCall
		words []string
	}{
		{"unknown", scripted.ToolCall{Name: "sub"}, []string{"error: ", `no tool "sub"`, `"add"`}},
		{"bad arguments", scripted.ToolCall{Name: "add", Arguments: map[string]any{"A": "x"}}, []string{"error: ", "A", "whole number"}},
		{"missing argument", scripted.ToolCall{Name: "add"}, []string{"error: ", "A"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKit(t,
				scripted.Rule{When: scripted.When{Result: "*"}, Reply: textReply("{{.Last}}")},
				scripted.Rule{Reply: scripted.Reply{ToolCalls: []scripted.ToolCall{tt.call}}})
			a := k.ask(agent("a", add), "?")
			for _, w := range tt.words {
				if !strings.Contains(a.Text, w) {
					t.Errorf("the model was not shown %q: %q", w, a.Text)
				}
			}
			if n.get() != 0 {
				t.Error("the tool was called")
			}
			if slices.ContainsFunc(k.kinds(), func(s string) bool { return strings.HasPrefix(s, "intent") }) {
				t.Error("an intent was recorded")
			}
		})
	}
}

func TestToolError(t *testing.T) {
	k := newKit(t, used("bad")...)
	a := k.ask(agent("a", fn("bad", func(context.Context) (string, error) { return "", errors.New("no such city") })), "?")
	if !strings.Contains(a.Text, "error: ") || !strings.Contains(a.Text, "no such city") {
		t.Error(a.Text)
	}
}

func TestToolPanic(t *testing.T) {
	t.Parallel()
	var n count
	shaky := fn("shaky", func(context.Context) (string, error) {
		if n.add() == 1 {
			panic("boom")
		}
		return "fine", nil
	})
	k := newKit(t,
		scripted.Rule{When: scripted.When{Last: "boom"}, Reply: calls("shaky")},
		scripted.Rule{When: scripted.When{Last: "fine"}, Reply: textReply("{{range .Messages}}{{.Content}};{{end}}")},
		scripted.Rule{Reply: calls("shaky")})
	a := k.ask(agent("a", shaky), "?")
	if !strings.Contains(a.Text, "panicked: boom") || !strings.HasSuffix(a.Text, "fine;") {
		t.Error(a.Text)
	}
	k.until("backoff of the tool", func(ev messages.Event) bool {
		return ev.Kind == messages.ActorBackingOff && strings.HasSuffix(ev.Path, "/tools/a.shaky") && ev.Class == messages.Crashed &&
			!ev.Until.IsZero() && strings.Contains(ev.Error.Stack, "agent_test.go")
	})
}

func TestToolOverrun(t *testing.T) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) }) // after the subtests
	for _, tt := range []struct {
		name string
		call func(ctx context.Context) (string, error)
		want string
	}{
		{"honours its context", func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }, "longer than its timeout of 20ms"},
		{"ignores its context", func(context.Context) (string, error) { <-release; return "", nil }, "did not end within 1s after its timeout of 20ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, used("slow")...)
			a := k.ask(agent("a", fn("slow", tt.call, tool.Timeout(20*time.Millisecond))), "?")
			if !strings.Contains(a.Text, tt.want) {
				t.Error(a.Text)
			}
			failed := func(ev messages.Event) bool {
				return ev.Kind == messages.ActorFailed && strings.HasSuffix(ev.Path, "/tools/a.slow")
			}
			if tt.name == "ignores its context" {
				k.until("failure of the tool", failed)
			} else if k.stop(); slices.ContainsFunc(k.all(), failed) {
				t.Error("the tool was restarted")
			}
		})
	}
}

func TestToolBeyondItsIntensity(t *testing.T) {
	t.Parallel()
	// Each panic is followed by a backoff, which a fed clock passes.
	clock := fakeClock()
	var n count
	k := newKitOf(t, cluster.Config{Clock: clock},
		scripted.Rule{When: scripted.When{Last: "was not called"}, Reply: textReply("{{.Last}}")},
		scripted.Rule{Reply: calls("bomb")})
	a := agent("a", fn("bomb", func(context.Context) (string, error) { n.add(); panic("boom") }))
	a.MaxSteps = 20
	r := k.run(a, "?")
	for range 5 {
		k.untilKind(messages.ActorBackingOff)
		k.advance(clock, messages.ActorRestarted)
	}
	k.until("quarantine", func(ev messages.Event) bool {
		return ev.Kind == messages.ActorQuarantined && strings.HasSuffix(ev.Path, "/tools/a.bomb")
	})
	ans, err := r.Wait(k.ctx)
	if err != nil || !strings.Contains(ans.Text, "gave up after 5 restarts") {
		t.Errorf("%q, %v", ans.Text, err)
	}
	if n.get() != 6 {
		t.Errorf("%d calls", n.get())
	}
}

func TestMaxSteps(t *testing.T) {
	k := newKit(t, scripted.Rule{Reply: calls("t")})
	a := agent("a", fn("t", func(context.Context) (string, error) { return "", nil }, tool.Pure))
	a.MaxSteps = 3
	k.fails(a, "?", messages.Budget, "ran out of steps", "3 model calls")
	wantCount(t, k.model, 3)
}

func TestTimeout(t *testing.T) {
	for _, hang := range []scripted.Hang{scripted.HangUntilCanceled, scripted.HangForever} {
		t.Run(string(hang), func(t *testing.T) {
			t.Parallel()
			k := newKit(t, scripted.Rule{Reply: scripted.Reply{Hang: hang}})
			a := agent("a")
			a.Timeout = 30 * time.Millisecond
			k.fails(a, "?", messages.Budget, "longer than its timeout of 30ms")
			// A failed run's answer was recorded, and once.
			if got := k.kinds(); !slices.Equal(got, []string{"begun plan", "asked plan 1", "answered a 1", "failed plan"}) {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	short := func(_ context.Context, s string) error {
		if len(s) > 5 {
			return errors.New("more than 5 letters")
		}
		return nil
	}
	a := agent("a")
	a.Validate = short
	t.Run("repaired", func(t *testing.T) {
		k := newKit(t, to("?", textReply("much too long"), textReply("")), to("more than 5 letters", textReply(""), textReply("")), to("it is empty", textReply("ok")))
		wantText(t, k.ask(a, "?"), "ok")
		wantCount(t, k.model, 3)
		if last := k.model.Calls()[1].Request.Messages; len(last) != 4 || last[2].Content != "much too long" {
			t.Errorf("the repair prompt came after %+v", last)
		}
	})
	t.Run("malformed", func(t *testing.T) {
		k := newKit(t, says("much too long"))
		k.fails(a, "?", messages.Malformed, "after 2 repairs", "more than 5 letters")
		wantCount(t, k.model, 3)
	})
	t.Run("empty", func(t *testing.T) {
		k := newKit(t, says("  "))
		k.fails(agent("a"), "?", messages.Malformed, "it is empty")
		wantCount(t, k.model, 3)
	})
}

func TestFormat(t *testing.T) {
	schema := json.RawMessage(`{"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}`)
	submit := func(k *kit, f json.RawMessage) (messages.Answer, error) {
		r, err := k.Submit(k.ctx, agent("a"), messages.Task{ID: "r", Prompt: "?", Format: f})
		if err != nil {
			t.Fatal(err)
		}
		return r.Wait(k.ctx)
	}
	for _, tt := range []struct {
		name    string
		replies []string
		class   messages.Class
		words   string
	}{
		{"satisfied", []string{`{"n":1}`}, "", ""},
		{"repaired", []string{`one`, `{"n":"one"}`, `{"n":1}`}, "", ""},
		{"malformed", []string{`{}`}, messages.Malformed, "does not fit the format"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rule := says(tt.replies[0])
			for _, s := range tt.replies[1:] {
				rule.Then = append(rule.Then, textReply(s))
			}
			k := newKit(t, rule)
			a, err := submit(k, schema)
			if tt.class != "" {
				wantClass(t, err, tt.class, tt.words)
				return
			}
			if err != nil || a.Text != `{"n":1}` {
				t.Errorf("%q, %v", a.Text, err)
			}
			wantCount(t, k.model, len(tt.replies))
		})
	}
	t.Run("no schema", func(t *testing.T) {
		k := newKit(t, says("x"))
		_, err := submit(k, json.RawMessage(`{"type":7}`))
		wantClass(t, err, messages.Invalid, "format: not a JSON schema")
		wantCount(t, k.model, 0)
	})
}

func TestContextLength(t *testing.T) {
	long := scripted.Reply{Fail: &scripted.Failure{Class: messages.ContextLength, Message: "too long"}}
	t.Run("trims once", func(t *testing.T) {
		k := newKit(t, scripted.Rule{Reply: long, Then: []scripted.Reply{{Text: "ok"}}})
		wantText(t, k.ask(agent("a"), strings.Repeat("x", 100)+strings.Repeat("y", 100)), "ok")
		second := k.model.Calls()[1].Request.Messages
		if len(second) != 2 || second[1].Content != "[…] "+strings.Repeat("y", 100) {
			t.Errorf("%+v", second)
		}
	})
	t.Run("not twice", func(t *testing.T) {
		k := newKit(t, scripted.Rule{Reply: long})
		k.fails(agent("a"), strings.Repeat("x", 200), messages.ContextLength, "too long")
		wantCount(t, k.model, 2)
	})
	t.Run("keeps calls and results together", func(t *testing.T) {
		k := newKit(t,
			scripted.Rule{When: scripted.When{Call: 3}, Reply: long},
			scripted.Rule{When: scripted.When{Call: 4}, Reply: textReply("ok")},
			scripted.Rule{Reply: calls("t", "t")})
		wantText(t, k.ask(agent("a", fn("t", func(context.Context) (string, error) { return "r", nil }, tool.Pure)), "?"), "ok")
		for i, m := range k.model.Calls()[3].Request.Messages {
			if m.Role == messages.ToolRole && i < 2 {
				t.Errorf("a result without its call: %+v", k.model.Calls()[3].Request.Messages)
			}
		}
	})
}

func TestCancelAHangingModel(t *testing.T) {
	for _, h := range []scripted.Hang{scripted.HangUntilCanceled, scripted.HangForever} {
		t.Run(string(h), func(t *testing.T) {
			rule, called := hang(h)
			k := newKit(t, rule)
			r := k.run(agent("a"), "?")
			wait(t, "call", called)
			began := time.Now()
			if err := r.Cancel(k.ctx, "no longer needed"); err != nil {
				t.Fatal(err)
			}
			_, err := r.Wait(k.ctx)
			wantClass(t, err, messages.Canceled, "no longer needed")
			if d := time.Since(began); d > time.Second {
				t.Errorf("took %s", d)
			}
			if !r.Ended() {
				t.Error("the run has no last record")
			}
			k.until("end of the actor", func(ev messages.Event) bool {
				return ev.Kind == messages.ActorStopped && strings.HasSuffix(ev.Path, "runs/r")
			})
			if d := time.Since(began); d > time.Second {
				t.Errorf("the actors took %s to stop", d)
			}
		})
	}
}

func TestStatusWhileAModelCallRuns(t *testing.T) {
	rule, called := hang(scripted.HangForever)
	k := newKit(t, rule)
	k.run(agent("a"), "?")
	wait(t, "call", called)
	n, ok := find(k.Tree(k.ctx), "runs/r/a")
	if !ok || n.State != messages.Running || n.Step != "step 1: model call 1" || n.Detail["model"] != "m" {
		t.Errorf("%+v", n)
	}
}

func TestAgentCheck(t *testing.T) {
	for _, tt := range []struct {
		name  string
		m     actors.Member
		words string
	}{
		{"name", actors.Agent{Name: "a b", Model: "m"}, "not a name"},
		{"reserved", actors.Agent{Name: "plan", Model: "m"}, "taken"},
		{"model", actors.Agent{Name: "a"}, "model"},
		{"steps", actors.Agent{Name: "a", Model: "m", MaxSteps: -1}, "max_steps"},
		{"timeout", actors.Agent{Name: "a", Model: "m", Timeout: -1}, "timeout"},
		{"restart", actors.Agent{Name: "a", Model: "m", Restart: "x"}, "restart"},
		{"tool twice", agent("a", fn("t", nil2), fn("t", nil2)), "each tool once"},
		{"no members", team(planOf()), "members"},
		{"nil member", team(planOf(), nil), "not nil"},
		{"nil pointer", team(planOf(), (*actors.Agent)(nil)), "cannot be run"},
		{"same name", team(planOf(), agent("a"), agent("a")), "there twice"},
		{"no plan", team(nil, agent("a")), "plan"},
		{"member's own", team(planOf(), agent("")), "not a name"},
	} {
		t.Run(tt.name, func(t *testing.T) { wantClass(t, tt.m.Check(), messages.Invalid, tt.words) })
	}
	// A pointer is what it points to.
	k := newKit(t, says("ok"))
	a := agent("a")
	tm := team(planOf("a ?"), &a)
	if got, err := k.Ask(k.ctx, &tm, "?"); err != nil || got.Text != "ok" {
		t.Errorf("%+v, %v", got, err)
	}
}

func nil2(context.Context) (string, error) { return "", nil }

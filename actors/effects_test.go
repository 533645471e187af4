package actors_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/actors"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/actors/tool"
	"github.com/covey-run/covey/messages"
)

// cut is a tool whose first call is cut off by the node's stop, and what it saw.
type cut struct {
	called chan struct{}
	keys   chan string
	n      count
}

func newCut() *cut { return &cut{called: make(chan struct{}), keys: make(chan string, 100)} }

func (c *cut) tool(opts ...tool.Option) tool.Tool {
	return fn("pay", func(ctx context.Context) (string, error) {
		c.keys <- tool.Key(ctx)
		if c.n.add() == 1 {
			close(c.called)
			<-ctx.Done()
			return "", ctx.Err()
		}
		return "paid", nil
	}, opts...)
}

// cutOff runs the agent into its tool, and stops the node there. It returns the
// next node, on the same journal.
func (c *cut) cutOff(t *testing.T, a actors.Agent) *kit {
	t.Helper()
	k := newKit(t, used("pay")...)
	r := k.run(a, "?")
	wait(t, "call", c.called)
	short, cancel := context.WithTimeout(k.ctx, 50*time.Millisecond)
	defer cancel()
	wantClass(t, k.Stop(short), messages.Timeout, "r (a: step 1: tool pay)")
	_, err := r.Wait(k.ctx)
	wantClass(t, err, messages.Stopping)
	return startKit(t, k.dir, k.cfg, k.model)
}

func TestCutOffCallOfAHarmlessTool(t *testing.T) {
	t.Parallel()
	for _, o := range []tool.Option{tool.Pure, tool.Idempotent} {
		c := newCut()
		a := agent("a", c.tool(o))
		k := c.cutOff(t, a)
		wantText(t, k.ask(a, "?"), "[paid]")
		first, second := <-c.keys, <-c.keys
		if first != second || first == "" || c.n.get() != 2 {
			t.Errorf("keys %q, %q; %d calls", first, second, c.n.get())
		}
		wantCount(t, k.model, 2)
	}
}

func TestCutOffCallWithVerify(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		done   bool
		err    error
		panics bool
		calls  int
		answer string // "": waits for a person
	}{
		{name: "done", done: true, calls: 1, answer: "[verified]"},
		{name: "not done", calls: 2, answer: "[paid]"},
		{name: "failing", err: errors.New("bank closed"), calls: 1},
		{name: "panicking", panics: true, calls: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCut()
			var asked string
			tl := c.tool()
			tl.Verify = func(_ context.Context, _ json.RawMessage, key string) (string, bool, error) {
				asked = key
				if tt.panics {
					panic("bank closed")
				}
				return "verified", tt.done, tt.err
			}
			a := agent("a", tl)
			k := c.cutOff(t, a)
			r := k.run(a, "?")
			if tt.answer == "" {
				ev := k.untilKind(messages.RunWaits)
				wantClass(t, ev.Error, messages.Waiting, "bank closed", "a person must say")
				n, _ := find(k.Tree(k.ctx), "runs/r/a")
				if n.State != messages.Parked || !strings.Contains(n.Step, "waits for a person to settle pay") {
					t.Errorf("%+v", n)
				}
				return
			}
			ans, err := r.Wait(k.ctx)
			if err != nil || ans.Text != tt.answer || c.n.get() != tt.calls || asked != <-c.keys {
				t.Errorf("%+v, %v, %d calls, asked for %q", ans, err, c.n.get(), asked)
			}
		})
	}
}

func TestCutOffCallSettledByAPerson(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		resolve messages.Resolve
		answer  string
		calls   int
	}{
		{"it happened", messages.Resolve{Output: "paid, says the bank"}, "[paid, says the bank]", 1},
		{"it failed", messages.Resolve{Error: "no funds"}, "[error: pay: no funds (tool)]", 1},
		{"it never happened", messages.Resolve{Retry: true}, "[paid]", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCut()
			a := agent("a", c.tool())
			k := c.cutOff(t, a)
			r := k.run(a, "?")
			k.untilKind(messages.RunWaits)
			info, err := k.Client().Run(k.ctx, "r")
			if err != nil || info.State != messages.RunWaiting || len(info.Unsettled) != 1 {
				t.Fatalf("%+v, %v", info, err)
			}
			u := info.Unsettled[0]
			w := tt.resolve
			w.Run, w.Writer, w.Step, w.N, w.Call = "r", u.Writer, u.Step, u.Intent.N, u.Intent.Call
			if err := k.Client().Resolve(k.ctx, w); err != nil {
				t.Fatal(err)
			}
			ans, err := r.Wait(k.ctx)
			if err != nil || ans.Text != tt.answer || c.n.get() != tt.calls {
				t.Errorf("%+v, %v, %d calls", ans, err, c.n.get())
			}
			settled := slices.ContainsFunc(k.records(), func(e messages.Envelope) bool {
				res, ok := e.Body.(*messages.Result)
				return ok && (res.By == "person") == !tt.resolve.Retry
			})
			if !settled {
				t.Error("the record does not say who settled it")
			}
		})
	}
}

// A run that waits for a person does not keep its node from stopping, and waits
// on after.
func TestWaitingForAPersonOverARestart(t *testing.T) {
	c := newCut()
	a := agent("a", c.tool())
	k := c.cutOff(t, a)
	for range 2 {
		k.run(a, "?")
		k.untilKind(messages.RunWaits)
		began := time.Now()
		k = k.again(t)
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("the stop took %s", d)
		}
	}
	// A tool that is no longer there cannot be asked: a person can.
	k.run(agent("a"), "?")
	k.untilKind(messages.RunWaits)
	if c.n.get() != 1 {
		t.Errorf("%d calls", c.n.get())
	}
}

// The last record before a crash: a result that was journalled is not asked for
// again, whatever the tool.
func TestSettledCallIsNotMadeAgain(t *testing.T) {
	var n count
	rule, called := hang(scripted.HangUntilCanceled)
	rule.When.Result, rule.Times = "pay", 1
	k := newKit(t, append([]scripted.Rule{rule}, used("pay")...)...)
	a := agent("a", fn("pay", func(context.Context) (string, error) { n.add(); return "paid", nil }))
	k.run(a, "?")
	wait(t, "second model call", called)
	short, cancel := context.WithTimeout(k.ctx, 20*time.Millisecond)
	defer cancel()
	wantClass(t, k.Stop(short), messages.Timeout, "r (a: step 1: model call 2)")
	k = startKit(t, k.dir, k.cfg, k.model)
	wantText(t, k.ask(a, "?"), "[paid]")
	if n.get() != 1 {
		t.Errorf("%d calls", n.get())
	}
	wantCount(t, k.model, 3) // the call that was cut off is repeated, and no other
}

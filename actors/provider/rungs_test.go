package provider_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// parker plays a person.
type parker struct {
	got   provider.ParkedCall
	reply *provider.Reply
	err   error
}

func (p *parker) Park(_ context.Context, c provider.ParkedCall) (*provider.Reply, error) {
	p.got = c
	return p.reply, p.err
}

func ladderOf(t *testing.T, rs ...provider.Rung) *provider.Ladder {
	t.Helper()
	bad, _ := play(broken(messages.Quota))
	l := must(provider.NewLadder(provider.LadderConfig{Rungs: append([]provider.Rung{provider.RungOf("model", bad)}, rs...)}))
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// D4: retry, smaller model, rule-based function, canned text, a queue for
// people; the flag says which.
func TestRungs(t *testing.T) {
	person := &parker{reply: &provider.Reply{Message: messages.Message{Role: messages.Assistant, Content: "by hand"}, Model: "a person"}}
	rule := provider.RungRule("sums", func(ctx context.Context, req *provider.Request) (string, bool) {
		if f := provider.Failures(ctx); len(f) != 1 || f[0].Class != messages.Quota {
			t.Errorf("failures before: %v", f)
		}
		return "4", strings.Contains(req.Messages[0].Content, "2+2")
	})
	l := ladderOf(t, rule,
		provider.RungCanned(provider.Canned{"greeting": "Hello.", "list": `["a"]`}),
		provider.RungParked("l", person))
	strings := json.RawMessage(`{"type":"array","items":{"type":"string"}}`)
	numbers := json.RawMessage(`{"type":"array","items":{"type":"number"}}`)
	for _, tt := range []struct {
		name                     string
		ask, kind                string
		format                   json.RawMessage
		wantText, wantName, stop string
		rung                     int
	}{
		{"a rule", "what is 2+2?", "", nil, "4", "sums", "sums", 1},
		{"a canned text", "hi", "greeting", nil, "Hello.", "canned", "canned", 2},
		{"a canned list", "a list", "list", strings, `["a"]`, "canned", "canned", 2},
		{"a canned list that does not fit", "a list", "list", numbers, "by hand", "parked", "a person", 3},
		{"nothing but a person", "why?", "", nil, "by hand", "parked", "a person", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := &provider.Request{Messages: []messages.Message{{Role: messages.User, Content: tt.ask}}, Kind: tt.kind, Format: tt.format, Key: "k"}
			r, err := provider.Call(t.Context(), l, req)
			if err != nil {
				t.Fatal(err)
			}
			o := r.Origin
			if r.Message.Content != tt.wantText || o.Name != tt.wantName || o.Rung != tt.rung || !o.Fallback || len(o.Before) != tt.rung || r.Model != tt.stop || r.Stop != messages.StopEnd {
				t.Errorf("reply %+v, origin %+v", r, o)
			}
		})
	}
	if g := person.got; g.Ladder != "l" || g.Request.Key != "k" || len(g.Before) != 3 || g.Before[0].Class != messages.Quota {
		t.Errorf("parked %+v", g)
	}
	b, err := json.Marshal(person.got)
	var back provider.ParkedCall
	if err != nil || json.Unmarshal(b, &back) != nil || back.Request.Messages[0].Content != "why?" {
		t.Errorf("a parked call does not cross a wire: %s, %v", b, err)
	}
}

// A call that is left with people is no failure of the first choice.
func TestRungParkedWaits(t *testing.T) {
	p := &parker{err: messages.Errorf(messages.Waiting, "parked", "no one has answered yet; it waits as p-1")}
	good, calls := play(fine)
	l := ladderOf(t, provider.RungParked("l", p), provider.RungOf("never", good))
	e := classIs(t, call(t, l), messages.Waiting)
	if len(e.Others) != 1 || e.Others[0].Class != messages.Quota || !strings.Contains(e.Message, "p-1") || calls() != 0 {
		t.Errorf("error %+v, %d calls below", e, calls())
	}
	p.err, p.reply = nil, nil // a broken parking place
	if err := call(t, ladderOf(t, provider.RungParked("l", p))); !errors.Is(err, messages.Quota) {
		t.Errorf("error %v", err)
	}
}

// What a rung lacks is said, and the primary error stays the error.
func TestRungsWithout(t *testing.T) {
	for _, tt := range []struct {
		rung provider.Rung
		want string
	}{
		{provider.RungRule("r", nil), "use a function"},
		{provider.RungRule("r", func(context.Context, *provider.Request) (string, bool) { return "", false }), "no rule"},
		{provider.RungCanned(nil), "use at least one"},
		{provider.RungCanned(provider.Canned{"": ""}), "use a text"},
		{provider.RungCanned(provider.Canned{"other": "x"}), `there are some for ["other"]`},
		{provider.RungParked("l", nil), "no parking place"},
	} {
		e := classIs(t, call(t, ladderOf(t, tt.rung)), messages.Quota)
		if len(e.Others) != 1 || !strings.Contains(e.Others[0].Error(), tt.want) {
			t.Errorf("others %v, want %q", e.Others, tt.want)
		}
	}
	r, err := provider.Call(t.Context(), ladderOf(t, provider.RungCanned(provider.Canned{"": "any"})), &provider.Request{Kind: "odd"})
	if err != nil || r.Message.Content != "any" {
		t.Errorf("reply %+v, error %v", r, err)
	}
	var reg provider.Registry
	_ = reg.Register("p", func(string) (provider.Model, error) { m, _ := play(text("registered")); return m, nil })
	r, err = provider.Call(t.Context(), ladderOf(t, reg.Rung("nobody/x"), reg.Rung("p/x")), request)
	if err != nil || r.Message.Content != "registered" || r.Origin.Name != "p/x" {
		t.Errorf("reply %+v, error %v", r, err)
	}
}

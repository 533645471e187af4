package provider_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/messages"
)

// talk reads "s:x u:y a:z c:w t:v" as a conversation; c is an assistant's tool
// call, t its result.
func talk(s string) []messages.Message {
	var ms []messages.Message
	for _, f := range strings.Fields(s) {
		who, what, _ := strings.Cut(f, ":")
		m := messages.Message{Content: what}
		switch who {
		case "s":
			m.Role = messages.System
		case "u":
			m.Role = messages.User
		case "a":
			m.Role = messages.Assistant
		case "c":
			m.Role, m.Content, m.ToolCalls = messages.Assistant, "", []messages.ToolCall{{ID: what}}
		case "t":
			m.Role, m.ToolCallID = messages.ToolRole, what[:1]
		}
		ms = append(ms, m)
	}
	return ms
}

func TestHalfHistory(t *testing.T) {
	for _, tt := range []struct{ talk, want string }{
		{"s:1 u:1 a:1 u:2 a:2 u:3", "s:1 u:2 a:2 u:3"},
		{"u:1 a:1 u:2 a:2 u:3 a:3 u:4", "u:3 a:3 u:4"},
		{"u:1 a:1 u:2", "u:2"},
		{"s:1 u:1 c:1 t:1 c:2 t:2", "s:1 u:1 c:2 t:2"},
		{"u:1 c:1 t:1 t:1 t:1 a:x", "u:1 a:x"},
		{"u:0 a:0 u:1 c:1 t:1 t:2", "u:1 c:1 t:1 t:2"},
		{"a:1 c:1 t:1 t:2 t:3", "c:1 t:1 t:2 t:3"},
		// No message can go: the longest loses the first half of its text.
		{"s:1 u:abcdefghijklmnopqrstuvwxyz", "s:1 u:[…]_nopqrstuvwxyz"},
		{"u:1 c:1 t:1bcdefghijklmnopqrstuvwxyz", "u:1 c:1 t:[…]_nopqrstuvwxyz"},
		{"s:abcdefghijklmnopqrstuvwxyz u:x", ""},
		{"s:1", ""},
		{"", ""},
	} {
		before := fmt.Sprint(talk(tt.talk))
		in := talk(tt.talk)
		got := provider.HalfHistory(in)
		var spelt []string
		for _, m := range got {
			who := map[messages.Role]string{messages.System: "s", messages.User: "u", messages.Assistant: "a", messages.ToolRole: "t"}[m.Role]
			what := m.Content
			if len(m.ToolCalls) > 0 {
				who, what = "c", m.ToolCalls[0].ID
			}
			spelt = append(spelt, who+":"+strings.ReplaceAll(what, " ", "_"))
		}
		if s := strings.Join(spelt, " "); s != tt.want {
			t.Errorf("%s became %s, want %s", tt.talk, s, tt.want)
		}
		if fmt.Sprint(in) != before {
			t.Errorf("%s was changed", tt.talk)
		}
	}
}

// B10: context length: half of the history.
func TestHalving(t *testing.T) {
	var events sink
	var asked []*provider.Request
	small := provider.Func(func(_ context.Context, req *provider.Request) iter.Seq2[provider.Chunk, error] {
		return func(yield func(provider.Chunk, error) bool) {
			asked = append(asked, req)
			if n := len(req.Messages); n > 3 {
				yield(provider.Chunk{}, messages.Errorf(messages.ContextLength, "m", "%d messages are too many", n))
				return
			}
			yield(provider.Chunk{Text: "ok", Stop: messages.StopEnd}, nil)
		}
	})
	req := &provider.Request{Messages: talk("u:1 a:1 u:2 a:2 u:3"), Key: "k", Session: "s"}
	m := must(provider.NewHalving(provider.HalvingConfig{Name: "m", Observe: events.observe})).Wrap(small)
	r, err := provider.Call(t.Context(), m, req)
	if err != nil || r.Message.Content != "ok" || r.Attempts != 2 || asked[1].Key != "k#half" || len(req.Messages) != 5 {
		t.Errorf("reply %+v, error %v", r, err)
	}
	if es := events.events(); len(es) != 1 || es[0].Kind != messages.HistoryHalved || es[0].Count != 3 || es[0].Session != "s" || es[0].Error == nil {
		t.Errorf("events %+v", es)
	}
	// Not more often than it may, and not when nothing can go.
	long := &provider.Request{Messages: talk("u:1 a:1 u:2 a:2 u:3 a:3 u:4 a:4 u:5 a:5 u:6 a:6 u:7 a:7 u:8")}
	if _, err := provider.Call(t.Context(), m, long); !errors.Is(err, messages.ContextLength) {
		t.Errorf("error %v", err)
	}
	thrice := must(provider.NewHalving(provider.HalvingConfig{Times: 3})).Wrap(small)
	if _, err := provider.Call(t.Context(), thrice, long); err != nil {
		t.Error(err)
	}
	never, calls := play(broken(messages.ContextLength))
	if err := call(t, thrice); err != nil {
		t.Error(err)
	}
	if err := call(t, must(provider.NewHalving(provider.HalvingConfig{Times: 8})).Wrap(never)); !errors.Is(err, messages.ContextLength) || calls() != 1 {
		t.Errorf("error %v after %d calls", err, calls())
	}
	other, calls := play(broken(messages.Transient))
	if err := call(t, must(provider.NewHalving(provider.HalvingConfig{})).Wrap(other)); !errors.Is(err, messages.Transient) || calls() != 1 {
		t.Errorf("error %v after %d calls", err, calls())
	}
	if _, err := provider.NewHalving(provider.HalvingConfig{Times: 9}); !errors.Is(err, messages.Invalid) {
		t.Error(err)
	}
}

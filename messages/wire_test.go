package messages_test

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/messages"
)

var moment = time.Date(2026, 3, 4, 5, 6, 7, 89, time.UTC)

// bodies has one filled body of each kind.
func bodies() map[string]messages.Body {
	failure := &messages.Error{
		Class: messages.Throttled, Source: "ollama", Message: "slow down", Status: 429, RetryAfter: time.Second,
		Until: moment, Stack: "main.go:1", Attempts: 3, Others: []*messages.Error{{Class: messages.Transient, Message: "reset"}},
	}
	usage := messages.Usage{Calls: 1, InputTokens: 2, OutputTokens: 3, CachedTokens: 4, Duration: 5}
	task := messages.Task{
		ID: "r", Team: "t", Prompt: "why?", Format: json.RawMessage(`{"type":"object"}`), Definition: json.RawMessage(`{"name":"t"}`),
		Session: "s", Discussion: []messages.Said{{From: "user", Text: "hm"}}, Priority: messages.High, Queue: "q",
		Deadline: moment, Submitted: moment,
	}
	ask := messages.Ask{Step: "1.2", From: "plan", To: "a", Prompt: "why?", Discussion: []messages.Said{{From: "b", Text: "hm"}}, Format: json.RawMessage(`{}`)}
	origin := &messages.Origin{
		Rung: 1, Name: "m2", Fallback: true, Before: []*messages.Error{failure}, Cached: true, Strategy: "json", Confidence: 0.9, Note: "n",
	}
	answer := messages.Answer{Run: "r", By: "a", Text: "so", Usage: usage, Model: "m", Stop: messages.StopLength, Origin: origin, Steps: 3, Journal: 2, Restarts: 1}
	call := messages.ToolCall{ID: "c1", Name: "add", Arguments: json.RawMessage(`{"a":1}`)}
	return map[string]messages.Body{
		"task":  &task,
		"ask":   &ask,
		"reply": &messages.Reply{Step: "1", From: "a", Error: failure},
		"cancel": &messages.Cancel{
			Run: "r", Reason: "enough",
		},
		"event": &messages.Event{
			Kind: messages.ProviderRetry, Time: moment, Node: "n", Path: "n/a", Run: "r", Step: "1", Name: "m", Text: "x",
			Session: "s", Call: "c",
			Class: messages.Throttled, Error: failure, Attempt: 2, Wait: time.Second, Until: moment, Count: 4, Usage: &usage,
		},
		"tree": &messages.TreeNode{
			Name: "n", Kind: "node", State: messages.BackingOff, Since: moment, Restarts: 1, Total: 2, LastFailure: failure, FailedAt: moment,
			Until: moment, Mailbox: 3, Step: "s", Detail: map[string]string{"k": "v"}, Children: []messages.TreeNode{{Name: "c"}},
		},
		"claim":    &messages.Claim{Node: "n", Epoch: 7, Ack: "$JS.ACK.x"},
		"begun":    &messages.Begun{Task: task},
		"asked":    &messages.Asked{Ask: ask},
		"model":    &messages.Modeled{N: 1, Model: "m", Message: messages.Message{Role: messages.Assistant, Content: "c", Thinking: "t", ToolCalls: []messages.ToolCall{call}}, Usage: usage, Stop: messages.StopTools, Origin: origin},
		"intent":   &messages.Intent{N: 1, Call: 2, Tool: call, Effect: messages.Idempotent, Key: "k"},
		"result":   &messages.Result{N: 1, Call: 2, Output: "3", Error: failure, By: "tool"},
		"answered": &messages.Answered{Reply: messages.Reply{Step: "1", From: "a", Answer: &answer}},
		"said":     &messages.Spoken{Said: messages.Said{From: "a", Text: "x"}},
		"decided":  &messages.Decided{Name: "now", Value: json.RawMessage(`7`)},
		"timer":    &messages.Timer{Until: moment},
		"done":     &messages.Done{Answer: answer},
		"failed":   &messages.Failed{Error: failure},
		"reopened": &messages.Reopened{By: "n"},
		"node": &messages.NodeInfo{
			Node: "n", Epoch: 7, Version: "v1", Wire: 1, Started: moment, Host: "h", PID: 1, Pools: []string{"gpu"}, Tools: []string{"t"},
			Queues: []string{"q"}, Runs: 1, MaxRuns: 2, Guests: 3, MaxGuests: 4, Draining: true, At: moment,
		},
		"place":   &messages.Place{Owner: "n~7", Task: task, Member: "a", Incarnation: 2, Known: true, Finish: true, Leave: true},
		"gone":    &messages.Gone{Member: "a", Incarnation: 2, Step: "1", Error: failure},
		"resolve": &messages.Resolve{Run: "r", Writer: "a", Step: "1", N: 1, Call: 2, Output: "o", Error: "e", Retry: true},
	}
}

func TestEveryKindSurvivesTheWire(t *testing.T) {
	all := bodies()
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, messages.Kinds()) {
		t.Fatalf("tested are %v, there are %v", got, messages.Kinds())
	}
	for kind, body := range all {
		t.Run(kind, func(t *testing.T) {
			if got := messages.KindOf(body); got != kind {
				t.Fatalf("kind %q", got)
			}
			filled(t, reflect.ValueOf(body).Elem(), kind)
			e := messages.Envelope{ID: "id", Run: "r", Writer: "press/a", Step: "1.2", Time: moment, Trace: "00-1-2-01", Body: body}
			h, data, err := messages.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			got, err := messages.Decode(h, data)
			if err != nil || !reflect.DeepEqual(got, e) {
				t.Errorf("%v\n got %+v\nwant %+v", err, got, e)
			}
			// And the zero value.
			e.Body = reflect.New(reflect.TypeOf(body).Elem()).Interface()
			if h, data, err = messages.Encode(e); err != nil {
				t.Fatal(err)
			}
			if got, err = messages.Decode(h, data); err != nil || messages.KindOf(got.Body) != kind {
				t.Errorf("%v, %+v", err, got)
			}
		})
	}
}

// filled fails for an exported field that the test leaves empty: a field that
// does not survive would not be noticed.
func filled(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch {
		case !f.IsExported():
		case f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[time.Time]() && !v.Field(i).IsZero():
			if _, ok := v.Field(i).Interface().(messages.Message); !ok && f.Type != reflect.TypeFor[messages.Reply]() {
				filled(t, v.Field(i), path+"."+f.Name)
			}
		case v.Field(i).IsZero() && path != "reply":
			t.Errorf("%s.%s is empty", path, f.Name)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		e    messages.Envelope
		want error
	}{
		{"no body", messages.Envelope{}, messages.ErrKind},
		{"not a pointer", messages.Envelope{Body: messages.Ask{}}, messages.ErrKind},
		{"unknown type", messages.Envelope{Body: &struct{}{}}, messages.ErrKind},
		{"line break", messages.Envelope{Run: "a\nb", Body: &messages.Ask{}}, messages.ErrWire},
		{"space at an end", messages.Envelope{Step: " 1", Body: &messages.Ask{}}, messages.ErrWire},
		{"bad JSON", messages.Envelope{Body: &messages.Decided{Value: json.RawMessage("{")}}, messages.ErrWire},
		{"far time", messages.Envelope{Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), Body: &messages.Ask{}}, messages.ErrWire},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := messages.Encode(tt.e); !errors.Is(err, tt.want) {
				t.Error(err)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	head := func(version, kind string) map[string][]string {
		return map[string][]string{messages.HeaderVersion: {version}, messages.HeaderKind: {kind}}
	}
	late := head("1", "ask")
	late[messages.HeaderTime] = []string{"yesterday"}
	for _, tt := range []struct {
		name string
		h    map[string][]string
		data string
		want error
		word string
	}{
		{"nothing", nil, "", messages.ErrWire, `""`},
		{"no version", head("x", "ask"), "{}", messages.ErrWire, `"x"`},
		{"version 0", head("0", "ask"), "{}", messages.ErrWire, `"0"`},
		{"newer", head("2", "ask"), "{}", messages.ErrVersion, "2, this program knows up to 1"},
		{"kind", head("1", "poem"), "{}", messages.ErrKind, `"poem"`},
		{"body", head("1", "ask"), "{", messages.ErrWire, "ask"},
		{"no object", head("1", "ask"), "null", messages.ErrWire, "null"},
		{"time", late, "{}", messages.ErrWire, messages.HeaderTime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := messages.Decode(tt.h, []byte(tt.data))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.word) {
				t.Error(err)
			}
		})
	}
	if e, err := messages.Decode(head("1", "ask"), []byte(`{"step":"1","novelty":1}`)); err != nil || e.Body.(*messages.Ask).Step != "1" {
		t.Errorf("a field of a newer program: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for kind, body := range bodies() {
		_, data, err := messages.Encode(messages.Envelope{Body: body})
		if err != nil {
			f.Fatal(err)
		}
		f.Add("1", kind, "r", "2026-03-04T05:06:07Z", data)
	}
	f.Add("99", "ask", "", "", []byte("null"))
	f.Fuzz(func(t *testing.T, version, kind, run, at string, data []byte) {
		h := map[string][]string{messages.HeaderVersion: {version}, messages.HeaderKind: {kind}, messages.HeaderRun: {run}, messages.HeaderTime: {at}}
		e, err := messages.Decode(h, data)
		if err != nil {
			if !errors.Is(err, messages.ErrWire) && !errors.Is(err, messages.ErrKind) && !errors.Is(err, messages.ErrVersion) {
				t.Fatalf("unclassed: %v", err)
			}
			return
		}
		// What was read can be written, and reads as the same.
		h2, data2, err := messages.Encode(e)
		if err != nil {
			if errors.Is(err, messages.ErrWire) {
				return // a header that no wire could have carried
			}
			t.Fatal(err)
		}
		e2, err := messages.Decode(h2, data2)
		if err != nil {
			t.Fatalf("%v\n%s", err, data2)
		}
		if _, data3, err := messages.Encode(e2); err != nil || string(data3) != string(data2) {
			t.Fatalf("%v\n%s\n%s", err, data2, data3)
		}
	})
}

package scripted_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/scripted"
	"github.com/covey-run/covey/internal/modeltest"
	"github.com/covey-run/covey/messages"
)

type (
	rule  = scripted.Rule
	when  = scripted.When
	reply = scripted.Reply
)

func TestConformance(t *testing.T) {
	modeltest.Run(t, func(*testing.T) provider.Model {
		return scripted.Of(
			rule{When: when{Format: "*"}, Reply: reply{Text: `{"kind":"news","score":3}`}},
			rule{When: when{Last: modeltest.Endless}, Reply: reply{Text: strings.Repeat("tick tock ", 100_000), Pace: time.Millisecond}},
			rule{When: when{Result: modeltest.ToolName}, Reply: reply{Text: modeltest.Observed}},
			rule{When: when{Tool: modeltest.ToolName}, Reply: reply{ToolCalls: []scripted.ToolCall{{Name: modeltest.ToolName, Arguments: map[string]any{"city": "Paris"}}}}},
			rule{Reply: reply{Text: modeltest.Answer}},
		)
	})
}

func user(text string) *provider.Request {
	return &provider.Request{Messages: []messages.Message{{Role: messages.User, Content: text}}}
}

func said(t *testing.T, m provider.Model, req *provider.Request) string {
	t.Helper()
	r, err := provider.Call(t.Context(), m, req)
	if err != nil {
		return "error: " + string(messages.ClassOf(err))
	}
	return r.Message.Content
}

func TestWhen(t *testing.T) {
	req := &provider.Request{
		Messages: []messages.Message{
			{Role: messages.System, Content: "You are a Historian."},
			{Role: messages.User, Content: "Who printed it?"},
			{Role: messages.ToolRole, ToolName: "look", Content: "Gutenberg"},
		},
		Tools: []messages.ToolSpec{{Name: "look"}},
	}
	for _, tt := range []struct {
		when when
		want bool
	}{
		{when{}, true},
		{when{System: "historian"}, true},
		{when{System: "printed"}, false},
		{when{Last: "gutenberg"}, true},
		{when{Last: "who"}, false},
		{when{Any: "WHO PRINTED"}, true},
		{when{Any: "nobody"}, false},
		{when{Tool: "look"}, true},
		{when{Tool: "*"}, true},
		{when{Tool: "!"}, false},
		{when{Tool: "other"}, false},
		{when{Result: "look"}, true},
		{when{Result: "other"}, false},
		{when{Result: "!"}, false},
		{when{Format: "!"}, true},
		{when{Format: "*"}, false},
		{when{Call: 1}, true},
		{when{Call: 2}, false},
		{when{Match: func(r *provider.Request) bool { return len(r.Messages) == 3 }}, true},
		{when{System: "historian", Last: "who"}, false},
	} {
		m := scripted.Of(rule{When: tt.when, Reply: reply{Text: "yes"}}, rule{Reply: reply{Text: "no"}})
		if got := said(t, m, req) == "yes"; got != tt.want {
			t.Errorf("%+v: %t", tt.when, got)
		}
	}
}

func TestSequences(t *testing.T) {
	m := scripted.Of(
		rule{Name: "once", Times: 1, Reply: reply{Text: "first"}},
		rule{Name: "then", When: when{Last: "go"}, Reply: reply{Fail: &scripted.Failure{Class: messages.Throttled}},
			Then: []reply{{Text: "call {{.Call}}, {{.RuleCall}} of the rule, to {{.User}}"}, {Text: "for ever"}}},
	)
	var got []string
	for range 5 {
		got = append(got, said(t, m, user("go")))
	}
	want := []string{"first", "error: throttled", "call 3, 2 of the rule, to go", "for ever", "for ever"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	_, err := provider.Call(t.Context(), m, user("stop"))
	if messages.ClassOf(err) != messages.Invalid || !strings.Contains(err.Error(), `call 6, "stop"`) || !strings.Contains(err.Error(), "once (used up), then") {
		t.Errorf("error %v", err)
	}
	calls := m.Calls()
	if len(calls) != 6 || m.Count() != 6 || calls[0].Rule != "once" || calls[1].Rule != "then" || calls[5].Rule != "" || calls[5].Request.Messages[0].Content != "stop" {
		t.Errorf("calls %+v", calls)
	}
}

func TestReplies(t *testing.T) {
	yes := true
	thinking := user("x")
	thinking.Options.Think = &yes
	for _, tt := range []struct {
		name  string
		reply reply
		req   *provider.Request
		want  string // chunks, then the stop reason or the class
	}{
		{"words", reply{Text: "one two  three"}, user("x"), "one| two|  three|end"},
		{"runes", reply{Text: "añbcd", Chunk: 2}, user("x"), "añ|bc|d|end"},
		{"nothing", reply{}, user("x"), "end"},
		{"thinking unasked", reply{Text: "a", Thinking: "hm"}, user("x"), "a|end"},
		{"thinking asked", reply{Text: "a", Thinking: "hm"}, thinking, "<hm>|a|end"},
		{"stop", reply{Text: "a", Stop: messages.StopLength}, user("x"), "a|length"},
		{"tools", reply{Text: "a", ToolCalls: []scripted.ToolCall{{Name: "f"}, {Name: "g", Arguments: map[string]any{"x": 1}}}}, user("x"),
			`a|call_1_1 f{} call_1_2 g{"x":1} |tools`},
		{"cut", reply{Text: "one two three", CutAfter: 2}, user("x"), "one| two|transient"},
		{"fail", reply{Text: "a", Fail: &scripted.Failure{}}, user("x"), "transient"},
		{"a template that fails", reply{Text: "{{index .Messages 9}}"}, user("x"), "invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for c, err := range scripted.Of(rule{Reply: tt.reply}).Stream(t.Context(), tt.req) {
				s := c.Text
				if c.Thinking != "" {
					s = "<" + c.Thinking + ">"
				}
				for _, call := range c.ToolCalls {
					s += fmt.Sprintf("%s %s%s ", call.ID, call.Name, call.Arguments)
				}
				s += string(c.Stop) + string(messages.ClassOf(err))
				got = append(got, s)
			}
			if s := strings.Join(got, "|"); s != tt.want {
				t.Errorf("%q, want %q", s, tt.want)
			}
		})
	}
	t.Run("a failure in full", func(t *testing.T) {
		f := scripted.Failure{Class: messages.Throttled, Message: "slow down", Status: 429, RetryAfter: time.Second}
		_, err := provider.Call(t.Context(), scripted.Of(rule{Reply: reply{Fail: &f}}), user("x"))
		var e *messages.Error
		if !errors.As(err, &e) || e.Class != f.Class || e.Message != f.Message || e.Status != 429 || e.RetryAfter != time.Second {
			t.Errorf("error %+v", e)
		}
	})
	t.Run("panic", func(t *testing.T) {
		defer func() {
			if r := recover(); r != "a bug" {
				t.Errorf("recovered %v", r)
			}
		}()
		said(t, scripted.Of(rule{Reply: reply{Panic: "a bug"}}), user("x"))
	})
}

func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		m := scripted.Of(rule{Reply: reply{Text: "a b c", Delay: time.Second, Pace: time.Minute}})
		r, err := provider.Call(t.Context(), m, user("x"))
		if want := time.Second + 2*time.Minute; err != nil || time.Since(start) != want || r.Usage.Duration != want {
			t.Errorf("%v, %+v, %v", time.Since(start), r, err)
		}
		for _, p := range []reply{{Delay: time.Hour}, {Text: "a b", Pace: time.Hour}, {Hang: scripted.HangUntilCanceled}} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := provider.Call(ctx, scripted.Of(rule{Reply: p}), user("x"))
			if messages.ClassOf(err) != messages.Timeout {
				t.Errorf("%+v: %v", p, err)
			}
			cancel()
		}

		m = scripted.Of(rule{Reply: reply{Hang: scripted.HangForever, Text: "at last"}})
		ctx, cancel := context.WithCancel(t.Context())
		cancelled := make(chan error, 1)
		go func() {
			for _, err := range m.Stream(ctx, user("x")) {
				cancelled <- err
				return
			}
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case err := <-cancelled:
			t.Errorf("it heeded the context: %v", err)
		default:
		}
		m.Release()
		m.Release()
		<-cancelled
		if got := said(t, m, user("x")); got != "at last" {
			t.Errorf("after the release: %q", got)
		}
	})
}

const rulesYAML = `
- name: throttled once
  when: {system: historian, last: art, tool: "!", result: "!", format: "!", call: 1}
  times: 2
  reply:
    fail: {class: throttled, message: slow down, status: 429, retry_after: 2s}
  then:
    - {text: "Hello {{.User}}", chunk: 3, thinking: hm, delay: 250ms, pace: 1s, stop: length}
    - tool_calls: [{name: f, arguments: {city: Paris, days: 3}}]
      usage: {input_tokens: 5, output_tokens: 6}
- reply: {text: a, cut_after: 1, panic: b, hang: forever}
`

func TestParse(t *testing.T) {
	fromYAML, err := scripted.Parse([]byte(rulesYAML))
	if err != nil {
		t.Fatal(err)
	}
	r := fromYAML[0]
	if r.Name != "throttled once" || r.Times != 2 || r.When.System != "historian" || r.When.Call != 1 ||
		r.Reply.Fail.RetryAfter != 2*time.Second || r.Then[0].Delay != 250*time.Millisecond || r.Then[0].Pace != time.Second ||
		fmt.Sprint(r.Then[1].ToolCalls[0].Arguments["city"]) != "Paris" || r.Then[1].Usage.InputTokens != 5 || fromYAML[1].Reply.Hang != scripted.HangForever {
		t.Errorf("%+v", fromYAML)
	}
	var fromJSON []rule
	text := `[{"name":"j","reply":{"text":"x","delay":"250ms","pace":1000,"fail":{"class":"timeout","retry_after":"2s"}}}]`
	if err := json.Unmarshal([]byte(text), &fromJSON); err != nil {
		t.Fatal(err)
	}
	viaParse, err := scripted.Parse([]byte(strings.Replace(text, "1000", `"1us"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(fromJSON, viaParse) || fromJSON[0].Reply.Delay != 250*time.Millisecond || fromJSON[0].Reply.Fail.RetryAfter != 2*time.Second {
		t.Errorf("%+v\n%+v", fromJSON, viaParse)
	}

	for in, want := range map[string]string{
		"- repply: {text: x}":                      "repply",
		"- reply: {txt: x}":                        "txt",
		"- reply: {text: '{{.'}":                   "rule 1: text",
		"- {name: n, times: -1, reply: {}}":        "n: times: -1",
		"- {when: {call: -1}, reply: {}}":          "when.call: -1",
		"- {when: {format: yes}, reply: {}}":       `when.format: "yes"`,
		"- reply: {fail: {class: odd}}":            `fail.class: "odd"`,
		"- reply: {fail: {retry_after: -1s}}":      "retry_after: -1s",
		"- reply: {hang: long}":                    `hang: "long"`,
		"- reply: {chunk: -1}":                     "chunk: -1",
		"- reply: {cut_after: -1}":                 "cut_after: -1",
		"- reply: {delay: -1s}":                    "delay",
		"- reply: {tool_calls: [{arguments: {}}]}": "without a name",
		"- {reply: {}, then: [{}, {hang: x}]}":     "reply 3: hang",
		"hello":                                    "rules:",
		"- " + strings.Repeat("x", 1<<20):          "too many",
	} {
		if _, err := scripted.Parse([]byte(in)); messages.ClassOf(err) != messages.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: error %v, want class invalid and %q", in, err, want)
		}
	}
	if rules, err := scripted.Parse(nil); err != nil || len(rules) != 0 {
		t.Errorf("nothing: %v, %v", rules, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(rulesYAML))
	f.Add([]byte("- reply: {text: '{{.Last}}'}"))
	f.Add([]byte(`[{"reply":{"delay":"1s"}}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, err := scripted.Parse(data)
		if err != nil {
			if messages.ClassOf(err) != messages.Invalid {
				t.Errorf("error %v", err)
			}
			return
		}
		if _, err := scripted.New(scripted.Config{Rules: rules}); err != nil {
			t.Errorf("rules that Parse took: %v", err)
		}
	})
}

func TestDefault(t *testing.T) {
	m := scripted.Default()
	ask := func(system string, ms ...messages.Message) *provider.Request {
		req := &provider.Request{Tools: []messages.ToolSpec{modeltest.Tool}}
		if system != "" {
			req.Messages = append(req.Messages, messages.Message{Role: messages.System, Content: system})
		}
		req.Messages = append(req.Messages, ms...)
		return req
	}
	u := func(s string) messages.Message { return messages.Message{Role: messages.User, Content: s} }
	question := "How did printing change Renaissance art?"
	for _, tt := range []struct {
		req  *provider.Request
		want []string
	}{
		{ask("You are an expert in printing technology. Be brief.", u(question)), []string{"As an expert in printing technology: ", question}},
		{ask("", u(question)), []string{"without a role", question}},
		{ask("You are a chair.", u("Write the synthesis.\n"+question+"\nhistorian: (scripted) As x.\ntechnologist: (scripted) As y.")),
			[]string{"As a chair: ", question, "2 contributions"}},
		{ask("You are a geographer.", u("And?"), messages.Message{Role: messages.ToolRole, ToolName: "get_weather", Content: "sunny\nand warm"}),
			[]string{"the tool get_weather said: sunny and warm"}},
		{ask("You are a mute.", u("")), []string{"asked nothing"}},
	} {
		r, err := provider.Call(t.Context(), m, tt.req)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Message.ToolCalls) != 0 || r.Stop != messages.StopEnd || said(t, m, tt.req) != r.Message.Content {
			t.Errorf("reply %+v", r)
		}
		for _, want := range append(tt.want, "(scripted) ") {
			if !strings.Contains(r.Message.Content, want) {
				t.Errorf("%q does not say %q", r.Message.Content, want)
			}
		}
	}
}

func TestDefaultFormat(t *testing.T) {
	for _, schema := range []string{
		string(modeltest.Schema),
		`{"type":"string"}`, `{"type":"string","maxLength":4}`, `{"type":"string","minLength":300}`, `{"type":"string","format":"date"}`,
		`{"type":"integer","minimum":5,"multipleOf":3}`, `{"type":"number","exclusiveMinimum":0,"maximum":0.5}`, `{"type":"integer","maximum":-3}`, `{"type":"number","exclusiveMaximum":1}`,
		`{"type":"boolean"}`, `{"type":"null"}`, `{"const":7}`, `{}`, `{"enum":[null,1]}`, `{"type":["string","null"]}`,
		`{"type":"array","items":{"type":"integer"},"minItems":3}`, `{"type":"array","maxItems":0,"items":{"type":"integer"}}`,
		`{"type":"object","additionalProperties":false,"required":["a"],"properties":{"a":{"type":"object","required":["b"],"properties":{"b":{"anyOf":[{"type":"integer"},{"type":"string"}]}}},"c":{"type":"string"}}}`,
		`{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}}}}}`,
	} {
		req := user("x")
		req.Format = json.RawMessage(schema)
		r, err := provider.Call(t.Context(), scripted.Default(), req)
		if err != nil {
			t.Errorf("%s: %v", schema, err)
			continue
		}
		var s jsonschema.Schema
		var v any
		if err := errors.Join(json.Unmarshal([]byte(schema), &s), json.Unmarshal([]byte(r.Message.Content), &v)); err != nil {
			t.Fatal(err)
		}
		resolved, err := s.Resolve(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := resolved.Validate(v); err != nil {
			t.Errorf("%s: %s: %v", schema, r.Message.Content, err)
		}
	}
	for _, schema := range []string{`{"type":"string","pattern":"^[0-9]+$"}`, `[]`, `{"type":"object","required":["a"],"properties":{"a":{"$ref":"#"}}}`, `{"type":7}`} {
		req := user("x")
		req.Format = json.RawMessage(schema)
		if _, err := provider.Call(t.Context(), scripted.Default(), req); messages.ClassOf(err) != messages.Invalid {
			t.Errorf("%s: error %v, want class invalid", schema, err)
		}
	}
}

func ExampleOf() {
	m := scripted.Of(
		scripted.Rule{When: scripted.When{Last: "capital of France"}, Reply: scripted.Reply{Text: "Paris."}},
		scripted.Rule{
			Reply: scripted.Reply{Fail: &scripted.Failure{Class: messages.Throttled}},
			Then:  []scripted.Reply{{Text: "You said: {{.Last}}"}},
		},
	)
	for _, text := range []string{"What is the capital of France?", "Hello", "Hello"} {
		r, err := provider.Call(context.Background(), m, &provider.Request{
			Messages: []messages.Message{{Role: messages.User, Content: text}},
		})
		if err != nil {
			fmt.Fprintln(os.Stdout, "error:", err)
			continue
		}
		fmt.Println(r.Message.Content)
	}
	// Output:
	// Paris.
	// error: scripted: scripted failure (throttled)
	// You said: Hello
}

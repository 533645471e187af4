package anthropic_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/anthropic"
	"github.com/covey-run/covey/internal/modeltest"
	"github.com/covey-run/covey/messages"
)

// These tests run a hand-written server, for what the real one will not do on
// demand.

const secret = "sk-ant-a-secret-of-tests"

func serve(t *testing.T, h http.HandlerFunc) *anthropic.Model {
	t.Helper()
	return serveWith(t, anthropic.Config{}, h)
}

func serveWith(t *testing.T, cfg anthropic.Config, h http.HandlerFunc) *anthropic.Model {
	t.Helper()
	t.Setenv("P2_KEY", secret)
	s := httptest.NewServer(h) // on loopback
	t.Cleanup(s.Close)
	cfg.BaseURL, cfg.Model, cfg.KeyEnv = s.URL, "m", "P2_KEY"
	m, err := anthropic.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if status == 200 {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// events writes server-sent events, each named as its type.
func events(data ...string) http.HandlerFunc {
	var b strings.Builder
	for _, d := range data {
		var e struct{ Type string }
		_ = json.Unmarshal([]byte(d), &e)
		fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", e.Type, d)
	}
	return answer(200, b.String())
}

const (
	begin = `{"type":"message_start","message":{"model":"claude-x","usage":{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":300,"output_tokens":1}}}`
	stop  = `{"type":"message_stop"}`
)

func start(n int, block string) string {
	return fmt.Sprintf(`{"type":"content_block_start","index":%d,"content_block":%s}`, n, block)
}

func delta(n int, d string) string {
	return fmt.Sprintf(`{"type":"content_block_delta","index":%d,"delta":%s}`, n, d)
}

func text(s string) string { return delta(0, fmt.Sprintf(`{"type":"text_delta","text":%q}`, s)) }

func end(reason string) string {
	return fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":%q},"usage":{"output_tokens":9}}`, reason)
}

func TestRecordedErrors(t *testing.T) {
	for _, tt := range modeltest.ReadRecorded(t, "testdata/errors.txt") {
		t.Run(tt.Name, func(t *testing.T) {
			h, status := answer(tt.Status, tt.Body), tt.Status
			if status == 200 {
				h, status = events(begin, text("x"), tt.Body), 0
			}
			e := modeltest.Fails(t, serve(t, h), modeltest.Ask("hi"))
			if e.Class != tt.Class || e.Status != status || e.Source != "anthropic/m" {
				t.Errorf("error %v (class %s, status %d), want class %s, status %d", e, e.Class, e.Status, tt.Class, status)
			}
		})
	}
}

func TestReplies(t *testing.T) {
	for _, tt := range []struct {
		name  string
		body  []string
		check func(*provider.Reply) bool
	}{
		{"usage with cached tokens", []string{begin, `{"type": "ping"}`, text("a"), text("b"), end("end_turn"), stop}, func(r *provider.Reply) bool {
			u := r.Usage
			return r.Message.Content == "ab" && r.Stop == messages.StopEnd && r.Model == "claude-x" && u.InputTokens == 330 && u.CachedTokens == 300 && u.OutputTokens == 9 && u.Calls == 1
		}},
		{"cut after all was said", []string{begin, text("a"), end("end_turn")}, func(r *provider.Reply) bool { return r.Message.Content == "a" }},
		{"length", []string{begin, text("a"), end("max_tokens"), stop}, func(r *provider.Reply) bool { return r.Stop == messages.StopLength }},
		{"context", []string{begin, text("a"), end("model_context_window_exceeded"), stop}, func(r *provider.Reply) bool { return r.Stop == messages.StopLength }},
		{"a stop text", []string{begin, text("a"), end("stop_sequence"), stop}, func(r *provider.Reply) bool { return r.Stop == messages.StopEnd }},
		{"refused", []string{begin, end("refusal"), stop}, func(r *provider.Reply) bool { return r.Stop == messages.StopFiltered }},
		{"paused", []string{begin, end("pause_turn"), stop}, func(r *provider.Reply) bool { return r.Stop == messages.StopOther }},
		{"events that are not known", []string{begin, `{"type":"news","x":[1]}`, text("a"), end("end_turn"), stop}, func(r *provider.Reply) bool { return r.Message.Content == "a" }},
		{"tool calls", []string{
			begin, start(0, `{"type":"text","text":""}`), text("a"),
			start(1, `{"type":"tool_use","id":"t1","name":"f","input":{}}`), delta(1, `{"type":"input_json_delta","partial_json":"{\"x\""}`), delta(1, `{"type":"input_json_delta","partial_json":":1}"}`),
			start(2, `{"type":"tool_use","id":"t2","name":"g","input":{}}`),
			start(3, `{"type":"tool_use","name":"h","input":{"y":2}}`), end("tool_use"), stop,
		}, func(r *provider.Reply) bool {
			c := r.Message.ToolCalls
			return r.Stop == messages.StopTools && len(c) == 3 && c[0].ID == "t1" && string(c[0].Arguments) == `{"x":1}` &&
				c[1].Name == "g" && string(c[1].Arguments) == "{}" && c[2].ID != "" && string(c[2].Arguments) == `{"y":2}`
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := provider.Call(t.Context(), serve(t, events(tt.body...)), modeltest.Ask("hi"))
			if err != nil || !tt.check(r) {
				t.Errorf("reply %+v, error %v", r, err)
			}
		})
	}
	bad := events(begin, start(0, `{"type":"tool_use","id":"t","name":"f","input":{}}`), delta(0, `{"type":"input_json_delta","partial_json":"{\"x"}`), end("max_tokens"), stop)
	if e := modeltest.Fails(t, serve(t, bad), modeltest.Ask("hi")); e.Class != messages.Malformed || !strings.Contains(e.Error(), "max_tokens") {
		t.Errorf("a tool call that was cut off: %v", e)
	}
	if e := modeltest.Fails(t, serve(t, events(begin, text("a"), stop)), modeltest.Ask("hi")); e.Class != messages.Transient {
		t.Errorf("no stop reason: %v", e)
	}
}

// What a model thought goes back as it was signed, with the tool's result.
func TestThinking(t *testing.T) {
	var got []byte
	m := serveWith(t, anthropic.Config{ThinkingTokens: 2048, MaxTokens: 100}, func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		events(begin, start(0, `{"type":"thinking","thinking":"","signature":""}`), delta(0, `{"type":"thinking_delta","thinking":"Let me "}`),
			delta(0, `{"type":"thinking_delta","thinking":"see."}`), delta(0, `{"type":"signature_delta","signature":"c2ln"}`),
			start(1, `{"type":"redacted_thinking","data":"aGlkZGVu"}`), start(2, `{"type":"tool_use","id":"t1","name":"f","input":{}}`),
			end("tool_use"), stop)(w, r)
	})
	yes := true
	req := modeltest.Ask("hi")
	req.Options.Think = &yes
	r, err := provider.Call(t.Context(), m, req)
	if err != nil || r.Message.Thinking != "Let me see." {
		t.Fatalf("reply %+v, error %v", r, err)
	}
	if !strings.Contains(string(got), `"thinking":{"budget_tokens":2048,"type":"enabled"}`) || !strings.Contains(string(got), `"max_tokens":2148`) {
		t.Errorf("sent %s", got)
	}
	// The journal keeps messages as JSON.
	kept, err := json.Marshal(r.Message)
	if err != nil {
		t.Fatal(err)
	}
	var back messages.Message
	if err := json.Unmarshal(kept, &back); err != nil {
		t.Fatal(err)
	}
	req.Messages = append(req.Messages, back, messages.Message{Role: messages.ToolRole, ToolCallID: "t1", Content: "x"})
	if _, err := provider.Call(t.Context(), m, req); err != nil {
		t.Fatal(err)
	}
	want := `{"content":[{"signature":"c2ln","thinking":"Let me see.","type":"thinking"},{"data":"aGlkZGVu","type":"redacted_thinking"},{"id":"t1","input":{},"name":"f","type":"tool_use"}],"role":"assistant"}`
	var sent struct{ Messages []json.RawMessage }
	if err := json.Unmarshal(got, &sent); err != nil || len(sent.Messages) != 3 {
		t.Fatalf("sent %s, %v", got, err)
	}
	same(t, sent.Messages[1], want)

	back.ThinkingRaw = json.RawMessage(`{"of":"another client"}`)
	req.Messages[2] = back
	if _, err := provider.Call(t.Context(), m, req); err != nil || strings.Contains(string(got), "another client") {
		t.Errorf("sent %s, error %v", got, err)
	}
}

func TestRequest(t *testing.T) {
	var got []byte
	var header http.Header
	m := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		header = r.Header.Clone()
		events(begin, end("end_turn"), stop)(w, r)
	})
	half, seed, no := 0.5, 3, false
	req := &provider.Request{
		Messages: []messages.Message{
			{Role: messages.System, Content: "be brief"},
			{Role: messages.User, Content: "what is it?", Images: []messages.Image{{MIME: "image/png", Data: []byte("png")}}},
			{Role: messages.Assistant, Thinking: "hm", ToolCalls: []messages.ToolCall{{ID: "c1", Name: "f", Arguments: []byte(`{"b":1,"a":2}`)}, {ID: "c2", Name: "g"}}},
			{Role: messages.ToolRole, Content: "x", ToolCallID: "c1", ToolName: "f"},
			{Role: messages.ToolRole, Content: "", ToolCallID: "c2", ToolName: "g"},
			{Role: messages.User, Content: "and?"},
		},
		Tools:   []messages.ToolSpec{{Name: "f", Description: "d", Parameters: []byte(`{"type":"object","properties":{"b":{"type":"integer"},"a":{"type":"integer"}}}`)}, {Name: "g"}},
		Format:  []byte(`{"type":"object","properties":{"z":{"type":"integer","minimum":3}},"required":["z"]}`),
		Options: provider.Options{Temperature: &half, TopP: &half, Seed: &seed, MaxTokens: 5, ContextTokens: 6, Stop: []string{"!"}, Think: &no},
	}
	if _, err := provider.Call(t.Context(), m, req); err != nil {
		t.Fatal(err)
	}
	want := `{"model":"m","max_tokens":5,"stream":true,"temperature":0.5,"top_p":0.5,"stop_sequences":["!"],"system":[{"text":"be brief","type":"text"}],
		"messages":[
		{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"cG5n"}},{"type":"text","text":"what is it?"}]},
		{"role":"assistant","content":[{"type":"tool_use","id":"c1","name":"f","input":{"b":1,"a":2}},{"type":"tool_use","id":"c2","name":"g","input":{}}]},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":[{"type":"text","text":"x"}]},{"type":"tool_result","tool_use_id":"c2"},{"type":"text","text":"and?"}]}],
		"output_config":{"format":{"type":"json_schema","schema":{"type":"object","properties":{"z":{"type":"integer","description":"{minimum: 3}"}},"required":["z"],"additionalProperties":false}}},
		"tools":[{"name":"f","description":"d","input_schema":{"type":"object","properties":{"b":{"type":"integer"},"a":{"type":"integer"}}}},
		{"name":"g","input_schema":{"type":"object","properties":{}}}]}`
	same(t, got, want)
	if !strings.Contains(string(got), `"properties":{"b":{"type":"integer"},"a"`) {
		t.Errorf("the order of properties is lost: %s", got)
	}
	if header.Get("X-Api-Key") != secret || header.Get("Anthropic-Version") == "" || header.Get("Authorization") != "" {
		t.Errorf("header %v", header)
	}
	if _, err := provider.Call(t.Context(), m, modeltest.Ask("hi")); err != nil || !strings.Contains(string(got), `"max_tokens":8192`) || strings.Contains(string(got), "thinking") {
		t.Errorf("sent %s, error %v", got, err)
	}
	for name, bad := range map[string]*provider.Request{
		"format: it is not":    {Messages: req.Messages, Format: []byte("{")},
		"tool call f":          {Messages: []messages.Message{{Role: messages.Assistant, ToolCalls: []messages.ToolCall{{Name: "f", Arguments: []byte(`[1]`)}}}}},
		"parameters of tool f": {Messages: req.Messages, Tools: []messages.ToolSpec{{Name: "f", Parameters: []byte(`3`)}}},
		"messages: none":       {Messages: []messages.Message{{Role: messages.System, Content: "x"}}},
		`role "narrator"`:      {Messages: []messages.Message{{Role: "narrator"}}},
		"images in a message":  {Messages: []messages.Message{{Role: messages.Assistant, Images: []messages.Image{{}}}}},
	} {
		if e := modeltest.Fails(t, m, bad); e.Class != messages.Invalid || !strings.Contains(e.Error(), name) {
			t.Errorf("error %v, want class invalid and %q", e, name)
		}
	}
}

func same(t *testing.T, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("sent\n%s, want\n%s", got, want)
	}
}

// A server that sends the key back does not get it into an error, and a redirect
// does not get it to another server.
func TestKeyStaysSecret(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"in an error":   answer(401, `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key `+secret+`"}}`),
		"in a page":     answer(500, "<html>"+secret),
		"in the stream": events(`{"type":"error","error":{"message":"` + secret + `"}}`),
		"in garbage":    answer(200, "event: x\ndata: {\""+secret+"\n\n"),
		"in a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:9/"+secret, http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := modeltest.Fails(t, serve(t, h), modeltest.Ask("hi"))
			j, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{e.Error(), string(j), fmt.Sprintf("%+v %#v", e, e), fmt.Sprintf("%v", e.Unwrap())} {
				if strings.Contains(text, secret) {
					t.Errorf("the key is in %s", text)
				}
			}
		})
	}
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	t.Cleanup(other.Close)
	m := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	if e := modeltest.Fails(t, m, modeltest.Ask("hi")); e.Class != messages.Invalid || reached {
		t.Errorf("error %v, the other server was reached: %t", e, reached)
	}
}

func TestConfig(t *testing.T) {
	t.Setenv("ANTHROPIC_API_KEY", "")
	t.Setenv("ANTHROPIC_BASE_URL", "")
	t.Setenv("P2_KEY", secret)
	open := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(open, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cfg   anthropic.Config
		class messages.Class
		text  string
	}{
		{anthropic.Config{Model: "m", KeyEnv: "P2_KEY"}, "", ""},
		{anthropic.Config{Model: "m", BaseURL: "http://127.0.0.1:1"}, "", ""},
		{anthropic.Config{Model: "m"}, messages.Unauthorized, "ANTHROPIC_API_KEY"},
		{anthropic.Config{Model: "m", KeyFile: open}, messages.Invalid, "mode 0644"},
		{anthropic.Config{}, messages.Invalid, "model:"},
		{anthropic.Config{Model: "m", BaseURL: "localhost:8000"}, messages.Invalid, "base_url:"},
		{anthropic.Config{Model: "m", MaxTokens: -1}, messages.Invalid, "max_tokens:"},
		{anthropic.Config{Model: "m", ThinkingTokens: 5}, messages.Invalid, "thinking_tokens:"},
		{anthropic.Config{Model: "m", MaxBytes: -1}, messages.Invalid, "max_bytes:"},
	} {
		_, err := anthropic.New(tt.cfg)
		if messages.ClassOf(err) != tt.class || err != nil && (!strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), secret)) {
			t.Errorf("%+v: error %v, want class %q, %q", tt.cfg, err, tt.class, tt.text)
		}
	}
}

func TestPing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		h     http.HandlerFunc
		class messages.Class
	}{
		{"there", answer(201, `{"id":"m"}`), ""},
		{"not there", answer(404, `{"type":"error","error":{"type":"not_found_error","message":"model: m"}}`), messages.Invalid},
		{"wrong key", answer(401, `{}`), messages.Unauthorized},
	} {
		if err := serve(t, tt.h).Ping(t.Context()); messages.ClassOf(err) != tt.class {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	m, err := anthropic.New(anthropic.Config{BaseURL: "http://127.0.0.1:1", Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Ping(t.Context()); messages.ClassOf(err) != messages.Unavailable {
		t.Errorf("nobody there: %v", err)
	}
}

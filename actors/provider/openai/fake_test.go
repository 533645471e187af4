package openai_test

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
	"github.com/covey-run/covey/actors/provider/openai"
	"github.com/covey-run/covey/internal/modeltest"
	"github.com/covey-run/covey/messages"
)

// These tests run a hand-written server, for what the real one will not do on
// demand.

const secret = "sk-a-secret-of-tests"

func serve(t *testing.T, h http.HandlerFunc) *openai.Model {
	t.Helper()
	t.Setenv("P2_KEY", secret)
	s := httptest.NewServer(h) // on loopback
	t.Cleanup(s.Close)
	m, err := openai.New(openai.Config{BaseURL: s.URL + "/v1", Model: "m", KeyEnv: "P2_KEY"})
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

// events writes server-sent events.
func events(data ...string) http.HandlerFunc {
	return answer(200, "data: "+strings.Join(data, "\n\ndata: ")+"\n\n")
}

func TestRecordedErrors(t *testing.T) {
	for _, tt := range modeltest.ReadRecorded(t, "testdata/errors.txt") {
		t.Run(tt.Name, func(t *testing.T) {
			h, status := answer(tt.Status, tt.Body), tt.Status
			if status == 200 {
				h, status = events(`{"choices":[{"index":0,"delta":{"content":"x"}}]}`, tt.Body), 0
			}
			e := modeltest.Fails(t, serve(t, h), modeltest.Ask("hi"))
			if e.Class != tt.Class || e.Status != status || e.Source != "openai/m" {
				t.Errorf("error %v (class %s, status %d), want class %s, status %d", e, e.Class, e.Status, tt.Class, status)
			}
		})
	}
}

const finish = `{"model":"gpt-x","choices":[{"index":0,"delta":{},"finish_reason":%q}]}`
const used = `{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":16}}}`

func TestReplies(t *testing.T) {
	call := func(s string) string { return `{"choices":[{"index":0,"delta":{"tool_calls":[` + s + `]}}]}` }
	text := func(s string) string { return fmt.Sprintf(`{"choices":[{"index":0,"delta":{"content":%q}}]}`, s) }
	end := func(reason string) string { return fmt.Sprintf(finish, reason) }
	for _, tt := range []struct {
		name  string
		body  []string
		check func(*provider.Reply) bool
	}{
		{"usage with cached tokens", []string{text("a"), text("b"), end("stop"), used, "[DONE]"}, func(r *provider.Reply) bool {
			u := r.Usage
			return r.Message.Content == "ab" && r.Stop == messages.StopEnd && r.Model == "gpt-x" && u.InputTokens == 20 && u.OutputTokens == 5 && u.CachedTokens == 16 && u.Calls == 1
		}},
		{"no usage, no [DONE]", []string{text("a"), end("stop")}, func(r *provider.Reply) bool { return r.Message.Content == "a" && r.Usage.InputTokens == 0 }},
		{"length", []string{text("a"), end("length"), "[DONE]"}, func(r *provider.Reply) bool { return r.Stop == messages.StopLength }},
		{"filtered", []string{end("content_filter"), "[DONE]"}, func(r *provider.Reply) bool { return r.Stop == messages.StopFiltered }},
		{"refused", []string{`{"choices":[{"index":0,"delta":{"refusal":"I will not."}}]}`, end("stop")}, func(r *provider.Reply) bool {
			return r.Stop == messages.StopFiltered && r.Message.Content == "I will not."
		}},
		{"another reason", []string{text("a"), end("eos"), "[DONE]"}, func(r *provider.Reply) bool { return r.Stop == messages.StopOther }},
		{"no reason at all", []string{text("a"), "[DONE]"}, func(r *provider.Reply) bool { return r.Stop == messages.StopOther }},
		{"null fields", []string{`{"error":null,"choices":[{"index":0,"delta":{"content":null,"tool_calls":null},"finish_reason":null}],"usage":null}`, text("a"), end("stop")}, func(r *provider.Reply) bool { return r.Message.Content == "a" }},
		{"reasoning of vLLM", []string{`{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}`, text("a"), end("stop")}, func(r *provider.Reply) bool { return r.Message.Thinking == "hm" }},
		{"reasoning of Groq", []string{`{"choices":[{"index":0,"delta":{"reasoning":"hm"}}]}`, text("a"), end("stop")}, func(r *provider.Reply) bool { return r.Message.Thinking == "hm" }},
		{"tool calls side by side", []string{
			call(`{"index":0,"id":"c1","function":{"name":"a","arguments":""}}`), call(`{"index":1,"id":"c2","function":{"name":"b","arguments":"{\"x\""}}`),
			call(`{"index":0,"function":{"arguments":"{\"y\":2}"}}`), call(`{"index":1,"function":{"arguments":":1}"}}`), end("tool_calls"), "[DONE]",
		}, func(r *provider.Reply) bool {
			c := r.Message.ToolCalls
			return r.Stop == messages.StopTools && len(c) == 2 && c[0].ID == "c1" && string(c[0].Arguments) == `{"y":2}` && c[1].Name == "b" && string(c[1].Arguments) == `{"x":1}`
		}},
		{"tool calls that are all number 0", []string{
			call(`{"id":"c1","function":{"name":"a","arguments":"{}"}},{"id":"c2","function":{"name":"b","arguments":"{}"}}`), end("stop"),
		}, func(r *provider.Reply) bool {
			c := r.Message.ToolCalls
			return r.Stop == messages.StopTools && len(c) == 2 && c[0].Name == "a" && c[1].Name == "b"
		}},
		{"a tool call without id and arguments", []string{call(`{"index":0,"function":{"name":"a"}}`), end("tool_calls")}, func(r *provider.Reply) bool {
			c := r.Message.ToolCalls
			return len(c) == 1 && c[0].ID != "" && string(c[0].Arguments) == "{}"
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := provider.Call(t.Context(), serve(t, events(tt.body...)), modeltest.Ask("hi"))
			if err != nil || !tt.check(r) {
				t.Errorf("reply %+v, error %v", r, err)
			}
		})
	}
	for _, args := range []string{`{"x":`, `[1]`, `null x`} {
		e := modeltest.Fails(t, serve(t, events(call(fmt.Sprintf(`{"index":0,"id":"c","function":{"name":"a","arguments":%q}}`, args)), end("tool_calls"))), modeltest.Ask("hi"))
		if e.Class != messages.Malformed {
			t.Errorf("arguments %s: %v", args, e)
		}
	}
}

func TestRequest(t *testing.T) {
	var got []byte
	var header http.Header
	h := func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		header = r.Header.Clone()
		events(fmt.Sprintf(finish, "stop"))(w, r)
	}
	m := serve(t, h)
	half, seed, yes := 0.5, 3, true
	req := &provider.Request{
		Messages: []messages.Message{
			{Role: messages.System, Content: "be brief"},
			{Role: messages.User, Content: "what is it?", Images: []messages.Image{{MIME: "image/png", Data: []byte("png")}}},
			{Role: messages.Assistant, Thinking: "hm", ToolCalls: []messages.ToolCall{{ID: "c1", Name: "f", Arguments: []byte(`{"b":1,"a":2}`)}}},
			{Role: messages.ToolRole, Content: "x", ToolCallID: "c1", ToolName: "f"},
		},
		Tools:   []messages.ToolSpec{{Name: "f", Description: "d", Parameters: []byte(`{"type":"object","properties":{"b":{"type":"integer"},"a":{"type":"integer"}}}`)}, {Name: "g"}},
		Format:  []byte(`{"type":"object","properties":{"z":{"type":"string"}},"required":["z"],"additionalProperties":false}`),
		Options: provider.Options{Temperature: &half, TopP: &half, Seed: &seed, MaxTokens: 5, ContextTokens: 6, Stop: []string{"!"}, Think: &yes},
	}
	if _, err := provider.Call(t.Context(), m, req); err != nil {
		t.Fatal(err)
	}
	want := `{"messages":[{"content":"be brief","role":"system"},
		{"content":[{"text":"what is it?","type":"text"},{"image_url":{"url":"data:image/png;base64,cG5n"},"type":"image_url"}],"role":"user"},
		{"role":"assistant","tool_calls":[{"id":"c1","function":{"arguments":"{\"b\":1,\"a\":2}","name":"f"},"type":"function"}]},
		{"content":"x","tool_call_id":"c1","role":"tool"}],
		"model":"m","max_tokens":5,"seed":3,"temperature":0.5,"top_p":0.5,"stop":["!"],"reasoning_effort":"medium","stream":true,"stream_options":{"include_usage":true},
		"response_format":{"json_schema":{"name":"reply","strict":true,"schema":{"type":"object","properties":{"z":{"type":"string"}},"required":["z"],"additionalProperties":false}},"type":"json_schema"},
		"tools":[{"function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"b":{"type":"integer"},"a":{"type":"integer"}}}},"type":"function"},
		{"function":{"name":"g","parameters":{"type":"object","properties":{}}},"type":"function"}]}`
	same(t, got, want)
	if !strings.Contains(string(got), `"properties":{"b":{"type":"integer"},"a"`) {
		t.Errorf("the order of properties is lost: %s", got)
	}
	if header.Get("Authorization") != "Bearer "+secret {
		t.Errorf("authorization %q", header.Get("Authorization"))
	}

	req.Format = modeltest.Schema
	if _, err := provider.Call(t.Context(), m, req); err != nil || !strings.Contains(string(got), `"strict":false`) {
		t.Errorf("an open schema is sent as strict: %s, %v", got, err)
	}
	for name, bad := range map[string]*provider.Request{
		"format: it is not JSON": {Messages: req.Messages, Format: []byte("{")},
		"tool call f":            {Messages: []messages.Message{{Role: messages.Assistant, ToolCalls: []messages.ToolCall{{Name: "f", Arguments: []byte(`[1]`)}}}}},
		"parameters of tool f":   {Messages: req.Messages, Tools: []messages.ToolSpec{{Name: "f", Parameters: []byte(`3`)}}},
		"messages: none":         {},
		`role "narrator"`:        {Messages: []messages.Message{{Role: "narrator"}}},
		"images in a message":    {Messages: []messages.Message{{Role: messages.System, Images: []messages.Image{{}}}}},
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

// A server that sends the key back does not get it into an error.
func TestKeyStaysSecret(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"in an error":   answer(401, `{"error":{"message":"Incorrect API key provided: `+secret+`","code":"invalid_api_key"}}`),
		"in a page":     answer(500, "<html>"+secret),
		"in the stream": events(`{"error":{"message":"` + secret + `"}}`),
		"in garbage":    events(`{"` + secret),
		"in JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"x":"`+secret+`"}`)
		},
		"in a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:9/"+secret, http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := serve(t, h)
			e := modeltest.Fails(t, m, modeltest.Ask("hi"))
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
}

func TestConfig(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "")
	t.Setenv("OPENAI_BASE_URL", "")
	t.Setenv("P2_KEY", secret)
	open := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(open, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cfg   openai.Config
		class messages.Class
		text  string
	}{
		{openai.Config{Model: "m", KeyEnv: "P2_KEY"}, "", ""},
		{openai.Config{Model: "m", BaseURL: "http://127.0.0.1:1/v1"}, "", ""},
		{openai.Config{Model: "m"}, messages.Unauthorized, "OPENAI_API_KEY"},
		{openai.Config{Model: "m", Name: "groq", BaseURL: "https://api.groq.com/openai/v1", KeyEnv: "P2_NONE"}, messages.Unauthorized, "P2_NONE"},
		{openai.Config{Model: "m", KeyFile: open}, messages.Invalid, "mode 0644"},
		{openai.Config{}, messages.Invalid, "model:"},
		{openai.Config{Model: "m", BaseURL: "localhost:8000"}, messages.Invalid, "base_url:"},
		{openai.Config{Model: "m", BaseURL: "ftp://x"}, messages.Invalid, "base_url:"},
		{openai.Config{Model: "m", MaxTokensKey: "n"}, messages.Invalid, "max_tokens_key:"},
		{openai.Config{Model: "m", MaxBytes: -1}, messages.Invalid, "max_bytes:"},
	} {
		_, err := openai.New(tt.cfg)
		if messages.ClassOf(err) != tt.class || err != nil && (!strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), secret)) {
			t.Errorf("%+v: error %v, want class %q, %q", tt.cfg, err, tt.class, tt.text)
		}
	}
}

// The key in the environment goes to OpenAI, or to where the environment says,
// and not to a server that a file names.
func TestKeyGoesWhereItWasMeantFor(t *testing.T) {
	var sent string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = r.Header.Get("Authorization")
		events(fmt.Sprintf(finish, "stop"))(w, r)
	}))
	t.Cleanup(s.Close)
	t.Setenv("OPENAI_API_KEY", secret)
	t.Setenv("OPENAI_BASE_URL", s.URL)
	for _, tt := range []struct{ base, want string }{{"", "Bearer " + secret}, {s.URL, ""}} {
		m, err := openai.Factory(openai.Config{BaseURL: tt.base})("m")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := provider.Call(t.Context(), m, modeltest.Ask("hi")); err != nil || sent != tt.want {
			t.Errorf("base %q: sent %q, want %q, error %v", tt.base, sent, tt.want, err)
		}
	}
}

func TestPing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		h     http.HandlerFunc
		class messages.Class
	}{
		{"there", answer(201, `{"data":[{"id":"x"},{"id":"m"}]}`), ""},
		{"there, as Ollama names it", answer(201, `{"data":[{"id":"m:latest"}]}`), ""},
		{"another", answer(201, `{"data":[{"id":"x"}]}`), messages.Invalid},
		{"no list", answer(404, `{}`), ""},
		{"wrong key", answer(401, `{}`), messages.Unauthorized},
	} {
		if err := serve(t, tt.h).Ping(t.Context()); messages.ClassOf(err) != tt.class {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	m, err := openai.New(openai.Config{BaseURL: "http://127.0.0.1:1/v1", Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Ping(t.Context()); messages.ClassOf(err) != messages.Unavailable {
		t.Errorf("nobody there: %v", err)
	}
}

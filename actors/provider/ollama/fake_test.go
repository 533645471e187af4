package ollama_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/ollama"
	"github.com/covey-run/covey/internal/modeltest"
	"github.com/covey-run/covey/messages"
)

// These tests run a hand-written server, for what the real one will not do on
// demand.

const (
	line1 = `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"The capital"},"done":false}` + "\n"
	line2 = `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":" is Paris."},"done":false}` + "\n"
	done  = `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":7,"eval_count":3}` + "\n"
)

// serve runs a server for one test and returns a model on it.
func serve(t *testing.T, h http.HandlerFunc) *ollama.Model {
	t.Helper()
	s := httptest.NewServer(h) // on loopback
	t.Cleanup(s.Close)
	m, err := ollama.New(ollama.Config{BaseURL: s.URL, Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// cut sends a body and breaks the connection off.
func cut(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, body)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// The bodies are recorded from Ollama 0.17.4 where it sends them, else from its
// source.
func TestFailures(t *testing.T) {
	date := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for _, tt := range []struct {
		name   string
		serve  http.HandlerFunc
		class  messages.Class
		status int
		text   string
	}{
		{"400 of a request", answer(400, `{"error":"top_logprobs must be between 0 and 20"}`), messages.Invalid, 400, "top_logprobs"},
		{"400 too long", answer(400, `{"error":"the input length exceeds the context length"}`), messages.ContextLength, 400, "context length"},
		{"500 too long, old servers", answer(500, `{"error":"the input length exceeds the context length"}`), messages.ContextLength, 500, "context length"},
		{"400 capability", answer(400, `{"error":"registry.ollama.ai/library/plain:latest does not support tools"}`), messages.Invalid, 400, "does not support tools"},
		{"401", answer(401, `{"error":"unauthorized","signin_url":"https://ollama.com/connect"}`), messages.Unauthorized, 401, "https://ollama.com/connect"},
		{"403", answer(403, `{"error":"ollama cloud is disabled: remote inference is unavailable"}`), messages.Unauthorized, 403, "disabled"},
		{"402", answer(402, `{"error":"upgrade for higher limits"}`), messages.Quota, 402, "upgrade"},
		{"404", answer(404, `{"error":"model 'm' not found"}`), messages.Invalid, 404, "ollama pull m"},
		{"404 of something else", answer(404, "404 page not found"), messages.Invalid, 404, "page not found"},
		{"408", answer(408, `{"error":"slow"}`), messages.Timeout, 408, "slow"},
		{"429", answer(429, `{"error":"too many requests"}`, "Retry-After", "3"), messages.Throttled, 429, "too many"},
		{"429 until a date", answer(429, `{"error":"too many requests"}`, "Retry-After", date), messages.Throttled, 429, "too many"},
		{"499", answer(499, `{"error":"request canceled"}`), messages.Transient, 499, "canceled"},
		{"500", answer(500, `{"error":"model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check ollama server logs for details"}`), messages.Transient, 500, "unexpectedly stopped"},
		{"500 format", answer(500, `{"error":"invalid format: \"\\\"yaml\\\"\"; expected \"json\" or a valid JSON Schema object"}`), messages.Invalid, 500, "invalid format"},
		{"501", answer(501, `no`), messages.Invalid, 501, "no"},
		{"502 of a proxy", answer(502, "<html>Bad Gateway</html>"), messages.Transient, 502, "Bad Gateway"},
		{"503", answer(503, `{"error":"server busy, please try again.  maximum pending requests exceeded"}`, "Retry-After", "3"), messages.Transient, 503, "server busy"},
		{"529", answer(529, `{"error":"overloaded"}`), messages.Throttled, 529, "overloaded"},
		{"an error in the stream", answer(200, line1+`{"error":"an error was encountered while running the model: unexpected EOF"}`+"\n"), messages.Transient, 0, "unexpected EOF"},
		{"a tool call that does not parse", answer(200, line1+`{"error":"error parsing tool call: raw='{', err=unexpected end of JSON input"}`+"\n"), messages.Malformed, 0, "error parsing tool call"},
		{"malformed JSON", answer(200, line1+"{\"model\":\n"), messages.Transient, 0, "after 1 chunks"},
		{"JSON of another shape", answer(200, `{"message":[1]}`+"\n"), messages.Transient, 0, "after 0 chunks"},
		{"a page", answer(200, "<html>"+strings.Repeat("x", 10_000)), messages.Transient, 0, "xxx…"},
		{"cut in mid-stream", cut(line1 + line2), messages.Transient, 0, "broke off after 2 chunks"},
		{"cut before the first chunk", cut(""), messages.Transient, 0, "broke off after 0 chunks"},
		{"no body", answer(200, ""), messages.Transient, 0, "before its first chunk"},
		{"no last line", answer(200, line1+line2), messages.Malformed, 0, "without a last one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := serve(t, tt.serve)
			_, err := provider.Call(t.Context(), m, modeltest.Ask("hi"))
			e := messages.AsError(err, "", "")
			if e == nil {
				t.Fatal("no error")
			}
			if e.Class != tt.class || e.Status != tt.status || !strings.Contains(e.Error(), tt.text) || e.Source != "ollama/m" {
				t.Errorf("error %v (class %s, status %d), want class %s, status %d, %q", err, e.Class, e.Status, tt.class, tt.status, tt.text)
			}
			switch {
			case strings.HasSuffix(tt.name, "date"):
				if e.RetryAfter < 58*time.Minute || e.RetryAfter > time.Hour {
					t.Errorf("Retry-After %v", e.RetryAfter)
				}
			case tt.status == 429 || tt.status == 503:
				if e.RetryAfter != 3*time.Second {
					t.Errorf("Retry-After %v", e.RetryAfter)
				}
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := "http://" + l.Addr().String()
	l.Close()
	m, err := ollama.New(ollama.Config{BaseURL: addr, Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = provider.Call(t.Context(), m, modeltest.Ask("hi"))
	if messages.ClassOf(err) != messages.Transient {
		t.Errorf("call: %v", err)
	}
	ping := m.Ping(t.Context())
	if messages.ClassOf(ping) != messages.Unavailable {
		t.Errorf("ping: %v", ping)
	}
	for _, err := range []error{err, ping} {
		for _, want := range []string{addr, "connection refused", "ollama serve"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
	}
	m, err = ollama.New(ollama.Config{BaseURL: "http://no-such-host.invalid:1", Model: "m"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = provider.Call(t.Context(), m, modeltest.Ask("hi")); messages.ClassOf(err) != messages.Transient {
		t.Errorf("no such host: %v", err)
	}
}

// A throttled server that says when to come back, and a stream cut in its
// middle, are both saved by a retry.
func TestRetried(t *testing.T) {
	n := 0
	m := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch n++; n {
		case 1:
			answer(429, `{"error":"too many requests"}`, "Retry-After", "0.01")(w, r)
		case 2:
			cut(line1)(w, r)
		default:
			answer(200, line1+line2+done)(w, r)
		}
	})
	retry, err := provider.NewRetry(provider.RetryConfig{Initial: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r, err := provider.Call(t.Context(), retry.Wrap(m), modeltest.Ask("hi"))
	if err != nil || r.Message.Content != "The capital is Paris." || r.Attempts != 3 || r.Usage.InputTokens != 7 || r.Usage.OutputTokens != 3 {
		t.Errorf("reply %+v, error %v", r, err)
	}
}

func TestSlowFirstByte(t *testing.T) {
	for _, headers := range []bool{false, true} {
		t.Run(fmt.Sprintf("headers sent %t", headers), func(t *testing.T) {
			m := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then is the caller's leaving noticed
				if headers {
					w.WriteHeader(200)
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := provider.Call(ctx, m, modeltest.Ask("hi"))
			if messages.ClassOf(err) != messages.Timeout || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestReplies(t *testing.T) {
	call := `{"model":"m","message":{"role":"assistant","content":"","tool_calls":[%s]},"done":false}` + "\n"
	for _, tt := range []struct {
		name, body string
		check      func(*provider.Reply) bool
	}{
		{"counts left out", line1 + `{"model":"m","message":{"role":"assistant","content":""},"done":true}` + "\n", func(r *provider.Reply) bool {
			return r.Stop == messages.StopEnd && r.Usage.InputTokens == 0 && r.Usage.OutputTokens == 0 && r.Usage.Calls == 1
		}},
		{"length", strings.Replace(done, `"stop"`, `"length"`, 1), func(r *provider.Reply) bool { return r.Stop == messages.StopLength }},
		{"load", strings.Replace(done, `"stop"`, `"load"`, 1), func(r *provider.Reply) bool { return r.Stop == messages.StopOther }},
		{"text in the last line", strings.Replace(done, `"content":""`, `"content":"all at once"`, 1), func(r *provider.Reply) bool {
			return r.Message.Content == "all at once"
		}},
		{"tool calls without ids", fmt.Sprintf(call, `{"function":{"name":"a","arguments":{"x":1}}},{"function":{"name":"b","arguments":{}}}`) + done, func(r *provider.Reply) bool {
			c := r.Message.ToolCalls
			return r.Stop == messages.StopTools && len(c) == 2 && c[0].ID != "" && c[1].ID != "" && c[0].ID != c[1].ID && string(c[0].Arguments) == `{"x":1}` && string(c[1].Arguments) == `{}`
		}},
		{"a tool call with an id, in the last line", strings.Replace(done, `"content":""`, `"content":"","tool_calls":[{"id":"call_7","function":{"name":"a","arguments":{}}}]`, 1), func(r *provider.Reply) bool {
			return r.Stop == messages.StopTools && len(r.Message.ToolCalls) == 1 && r.Message.ToolCalls[0].ID == "call_7"
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := provider.Call(t.Context(), serve(t, answer(200, tt.body)), modeltest.Ask("hi"))
			if err != nil || !tt.check(r) {
				t.Errorf("reply %+v, error %v", r, err)
			}
		})
	}
}

func TestRequest(t *testing.T) {
	var got []byte
	m := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		answer(200, done)(w, r)
	})
	half, seed := 0.5, 3
	req := &provider.Request{
		Messages: []messages.Message{
			{Role: messages.User, Content: "hi", Images: []messages.Image{{MIME: "image/png", Data: []byte("png")}}},
			{Role: messages.Assistant, ToolCalls: []messages.ToolCall{{ID: "c1", Name: "f", Arguments: []byte(`{"b":1,"a":2}`)}}},
			{Role: messages.ToolRole, Content: "x", ToolCallID: "c1", ToolName: "f"},
		},
		Tools:   []messages.ToolSpec{{Name: "f", Description: "d", Parameters: []byte(`{"type":"object","properties":{"b":{"type":"integer"}}}`)}, {Name: "g"}},
		Options: provider.Options{Temperature: &half, TopP: &half, Seed: &seed, MaxTokens: 5, ContextTokens: 6, Stop: []string{"!"}},
	}
	if _, err := provider.Call(t.Context(), m, req); err != nil {
		t.Fatal(err)
	}
	want := `{"model":"m","messages":[{"role":"user","content":"hi","images":["cG5n"]},` +
		`{"role":"assistant","content":"","tool_calls":[{"id":"c1","function":{"index":0,"name":"f","arguments":{"b":1,"a":2}}}]},` +
		`{"role":"tool","content":"x","tool_name":"f","tool_call_id":"c1"}],` +
		`"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"b":{"type":"integer"}}}}},` +
		`{"type":"function","function":{"name":"g","parameters":{"type":"object","properties":{}}}}],` +
		`"options":{"num_ctx":6,"num_predict":5,"seed":3,"stop":["!"],"temperature":0.5,"top_p":0.5},"think":false,"truncate":false,"shift":false}`
	if string(got) != want {
		t.Errorf("sent\n%s, want\n%s", got, want)
	}

	for name, bad := range map[string]*provider.Request{
		"format: it is not JSON": {Messages: req.Messages, Format: []byte("{")},
		"tool call f":            {Messages: []messages.Message{{Role: messages.Assistant, ToolCalls: []messages.ToolCall{{Name: "f", Arguments: []byte(`[1]`)}}}}},
		"parameters of tool f":   {Messages: req.Messages, Tools: []messages.ToolSpec{{Name: "f", Parameters: []byte(`3`)}}},
		"messages: none":         {},
	} {
		if _, err := provider.Call(t.Context(), m, bad); messages.ClassOf(err) != messages.Invalid || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want class invalid and %q", err, name)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Setenv("OLLAMA_HOST", "127.0.0.1:1")
	for _, tt := range []struct {
		cfg ollama.Config
		bad string
	}{
		{ollama.Config{Model: "m"}, ""},
		{ollama.Config{Model: "m", BaseURL: "https://example.org/ollama"}, ""},
		{ollama.Config{}, "model:"},
		{ollama.Config{Model: "m", BaseURL: "localhost:11434"}, "base_url:"},
		{ollama.Config{Model: "m", BaseURL: "ftp://x"}, "base_url:"},
		{ollama.Config{Model: "m", BaseURL: "http://%"}, "base_url:"},
	} {
		_, err := ollama.New(tt.cfg)
		if tt.bad == "" && err != nil || tt.bad != "" && (messages.ClassOf(err) != messages.Invalid || !strings.Contains(err.Error(), tt.bad)) {
			t.Errorf("%+v: error %v, want %q", tt.cfg, err, tt.bad)
		}
	}
	m, err := ollama.Factory(ollama.Config{})("m")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Call(t.Context(), m, modeltest.Ask("hi")); err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:1:") {
		t.Errorf("OLLAMA_HOST was not used: %v", err)
	}
}

func FuzzStream(f *testing.F) {
	modeltest.FuzzStream(f, []string{"", line1, line1 + done, done + line1, done + done, `{"error":"x"}`, "{}\n", "[]\n", "null\n", "\n\n", `{"done":true}`, `{"message":{"tool_calls":[{}]}}`, `{"message":{"tool_calls":[{"function":{"arguments":null}}]},"done":true}`}, func(hc *http.Client) (provider.Model, error) {
		return ollama.New(ollama.Config{BaseURL: "http://127.0.0.1:1", Model: "m", HTTP: hc})
	})
}

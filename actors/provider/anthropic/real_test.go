//go:build unix

package anthropic_test

import (
	"strings"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/anthropic"
	"github.com/covey-run/covey/internal/modeltest"
	"github.com/covey-run/covey/internal/ollamatest"
	"github.com/covey-run/covey/internal/tinygguf"
	"github.com/covey-run/covey/messages"
)

// The suite but for Format: Ollama 0.17.4 leaves output_config out of account.
// Package faultserver's tests have it.
func TestConformance(t *testing.T) {
	s := ollamatest.Start(t)
	for _, arch := range []string{"llama", "qwen3"} {
		s.Create(t, arch, tinygguf.Config{Arch: arch, Seed: 1, Scripts: ollamatest.Scripts}, ollamatest.PlainTemplate, nil)
		t.Run(arch, func(t *testing.T) {
			modeltest.Run(t, func(t *testing.T) provider.Model { return model(t, s.URL, arch) }, "Format")
		})
	}
}

func model(t *testing.T, url, name string) *anthropic.Model {
	t.Helper()
	m, err := anthropic.New(anthropic.Config{BaseURL: url + "", Model: name})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What a real server answers to what is wrong, through this protocol.
func TestRealErrors(t *testing.T) {
	s := ollamatest.Start(t)
	s.Create(t, "plain", tinygguf.Config{Seed: 1}, "{{ .Prompt }}", nil)
	tools := modeltest.Ask("hi")
	tools.Tools = []messages.ToolSpec{modeltest.Tool}
	for _, tt := range []struct {
		name, model string
		req         *provider.Request
		class       messages.Class
		status      int
		text        string
	}{
		{"unknown model", "nobody", modeltest.Ask("hi"), messages.Invalid, 404, "nobody"},
		{"no tools in the template", "plain", tools, messages.Invalid, 400, "does not support tools"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := modeltest.Fails(t, model(t, s.URL, tt.model), tt.req)
			if e.Class != tt.class || e.Status != tt.status || !strings.Contains(e.Error(), tt.text) {
				t.Errorf("error %v (class %s, status %d), want class %s, status %d, %q", e, e.Class, e.Status, tt.class, tt.status, tt.text)
			}
			t.Log(e)
		})
	}
	if err := model(t, s.URL, "plain").Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := model(t, s.URL, "nobody").Ping(t.Context()); messages.ClassOf(err) != messages.Invalid {
		t.Errorf("ping: %v", err)
	}
}

func TestRealThinking(t *testing.T) {
	s := ollamatest.Start(t)
	s.CreateScripted(t, "talker")
	yes := true
	req := modeltest.Ask(modeltest.Question)
	req.Options.Think = &yes
	r, err := provider.Call(t.Context(), model(t, s.URL, "talker"), req)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(r.Message.Thinking) != "Let me think about it." || strings.TrimSpace(r.Message.Content) != "The answer is forty-two." {
		t.Errorf("message %+v", r.Message)
	}
	req = modeltest.Ask(modeltest.Endless)
	req.Options.MaxTokens = 10
	if r, err = provider.Call(t.Context(), model(t, s.URL, "talker"), req); err != nil || r.Stop != messages.StopLength || r.Usage.OutputTokens != 10 {
		t.Errorf("reply %+v, error %v", r, err)
	}
}

//go:build unix

package ollama_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/ollama"
	"github.com/covey-run/covey/internal/modeltest"
	"github.com/covey-run/covey/internal/ollamatest"
	"github.com/covey-run/covey/internal/tinygguf"
	"github.com/covey-run/covey/messages"
)

// These tests run a real Ollama server.

func model(t *testing.T, url, name string) *ollama.Model {
	t.Helper()
	m, err := ollama.New(ollama.Config{BaseURL: url, Model: name})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestConformance(t *testing.T) {
	s := ollamatest.Start(t)
	for _, arch := range []string{"llama", "qwen3"} {
		s.Create(t, arch, tinygguf.Config{Arch: arch, Seed: 1, Scripts: ollamatest.Scripts}, ollamatest.Template, nil)
		t.Run(arch, func(t *testing.T) {
			modeltest.Run(t, func(t *testing.T) provider.Model { return model(t, s.URL, arch) })
		})
	}
}

func TestReal(t *testing.T) {
	s := ollamatest.Start(t)
	s.CreateScripted(t, "talker")
	s.Create(t, "plain", tinygguf.Config{Seed: 1}, "{{ .Prompt }}", nil)
	m := model(t, s.URL, "talker")

	t.Run("chunks as the server sends them", func(t *testing.T) {
		var parts []string
		r, err := provider.Collect(m.Stream(t.Context(), modeltest.Ask(modeltest.Question)), func(c provider.Chunk) { parts = append(parts, c.Text) })
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(parts, "|"); got != "The capital| of France| is Paris.|" {
			t.Errorf("chunks %q", got)
		}
		if r.Usage.OutputTokens != 4 || r.Usage.InputTokens == 0 || r.Usage.Duration <= 0 || r.Model != "talker" {
			t.Errorf("reply %+v", r)
		}
	})
	t.Run("thinking when asked", func(t *testing.T) {
		yes := true
		req := modeltest.Ask(modeltest.Question)
		req.Options.Think = &yes
		r, err := provider.Call(t.Context(), m, req)
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(r.Message.Thinking) != "Let me think about it." || strings.TrimSpace(r.Message.Content) != "The answer is forty-two." {
			t.Errorf("message %+v", r.Message)
		}
	})
	t.Run("a limit of tokens", func(t *testing.T) {
		req := modeltest.Ask(modeltest.Endless)
		req.Options.MaxTokens = 10
		r, err := provider.Call(t.Context(), m, req)
		if err != nil || r.Stop != messages.StopLength || r.Usage.OutputTokens != 10 {
			t.Errorf("reply %+v, error %v", r, err)
		}
	})
	t.Run("an endless model runs into the context", func(t *testing.T) {
		req := modeltest.Ask(modeltest.Endless)
		req.Options.ContextTokens = 256
		r, err := provider.Call(t.Context(), m, req)
		if err != nil || r.Stop != messages.StopLength {
			t.Errorf("reply %+v, error %v", r, err)
		}
	})

	long := modeltest.Ask(strings.Repeat("the world is long. ", 400))
	long.Options.ContextTokens = 256
	badFormat := modeltest.Ask(modeltest.Structured)
	badFormat.Format = json.RawMessage(`{"type":"string","minLength":3000}`)
	wrongFormat := modeltest.Ask(modeltest.Question)
	wrongFormat.Format = json.RawMessage(`"yaml"`)
	tools := modeltest.Ask(modeltest.Question)
	tools.Tools = []messages.ToolSpec{modeltest.Tool}
	yes := true
	think := modeltest.Ask(modeltest.Question)
	think.Options.Think = &yes
	for _, tt := range []struct {
		name, model string
		req         *provider.Request
		class       messages.Class
		status      int
		text        string
	}{
		{"unknown model", "nobody", modeltest.Ask("hi"), messages.Invalid, 404, "ollama pull nobody"},
		{"prompt longer than the context", "talker", long, messages.ContextLength, 400, "context length"},
		{"no tools in the template", "plain", tools, messages.Invalid, 400, "does not support tools"},
		{"no thinking in the template", "plain", think, messages.Invalid, 400, "does not support thinking"},
		{"format that is no schema", "talker", wrongFormat, messages.Invalid, 500, "format"},
		// The runner dies of it, and nothing in the answer says of what.
		{"format beyond the grammar", "talker", badFormat, messages.Transient, 500, "runner has unexpectedly stopped"},
		{"one piece for ever", "talker", modeltest.Ask("stuck"), messages.Malformed, 0, "repeats itself"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := provider.Call(t.Context(), model(t, s.URL, tt.model), tt.req)
			e := messages.AsError(err, "", "")
			if e == nil || e.Class != tt.class || e.Status != tt.status || !strings.Contains(e.Error(), tt.text) {
				t.Errorf("error %v (class %s, status %d), want class %s, status %d, %q", err, e.Class, e.Status, tt.class, tt.status, tt.text)
			}
			t.Log(err)
		})
	}
	t.Run("ping", func(t *testing.T) {
		if err := m.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		err := model(t, s.URL, "nobody").Ping(t.Context())
		if messages.ClassOf(err) != messages.Invalid || !strings.Contains(err.Error(), "talker:latest") || !strings.Contains(err.Error(), "ollama pull nobody") {
			t.Errorf("error %v", err)
		}
	})
}

// A server with one place for models and one for waiting calls answers 503 to
// the third model.
func TestRealBusy(t *testing.T) {
	s := ollamatest.Start(t, "OLLAMA_NUM_PARALLEL=1", "OLLAMA_MAX_QUEUE=1", "OLLAMA_MAX_LOADED_MODELS=1")
	for seed, name := range []string{"one", "two"} { // the server takes models of the same file for one
		s.Create(t, name, tinygguf.Config{Seed: uint64(seed), Scripts: ollamatest.Scripts}, ollamatest.Template, nil)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for c, err := range model(t, s.URL, "one").Stream(ctx, modeltest.Ask(modeltest.Endless)) {
		if err != nil {
			t.Fatalf("%+v %v", c, err)
		}
		// The first model talks. Of calls to another one, one waits for its place
		// in memory, one in the queue, and the others are turned away.
		const calls = 6
		errs := make(chan error, calls)
		others, stop := context.WithCancel(ctx)
		for range calls {
			go func() {
				_, err := provider.Call(others, model(t, s.URL, "two"), modeltest.Ask(modeltest.Question))
				errs <- err
			}()
		}
		e := messages.AsError(<-errs, "", "")
		stop()
		if e == nil || e.Class != messages.Transient || e.Status != 503 {
			t.Errorf("error %v", e)
		}
		t.Log(e)
		for range calls - 1 {
			<-errs
		}
		break
	}
}

// The process that runs the model is killed in mid-stream. The server says so
// in a line of the stream; the retry's second attempt gets a new process.
func TestRealRunnerKilled(t *testing.T) {
	s := ollamatest.Start(t)
	s.CreateScripted(t, "talker")
	retry, err := provider.NewRetry(provider.RetryConfig{Name: "ollama/talker", Initial: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	m := retry.Wrap(model(t, s.URL, "talker"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	killed, first, second := 0, 0, 0
	var broken error
	for c, err := range m.Stream(ctx, modeltest.Ask(modeltest.Endless)) {
		if err != nil {
			t.Fatal(err)
		}
		switch c.Attempt {
		case 1:
			if first++; first == 3 {
				killed = s.KillRunners(t)
			}
		default:
			if second++; second == 1 {
				broken = c.Broken
			}
		}
		if second == 3 {
			break
		}
	}
	if killed == 0 {
		t.Fatal("no runner was found to kill")
	}
	if messages.ClassOf(broken) != messages.Transient {
		t.Errorf("the new attempt says %v", broken)
	}
	t.Log(broken)
	r, err := provider.Call(ctx, m, modeltest.Ask(modeltest.Question))
	if err != nil || strings.TrimSpace(r.Message.Content) != modeltest.Answer {
		t.Errorf("reply %+v, error %v", r, err)
	}
}

// A trained language model says something. What it says is printed only.
func TestRealTrainedModel(t *testing.T) {
	path := ollamatest.TrainedModel(t)
	s := ollamatest.Start(t)
	// It was trained to go on with a text, not to chat.
	const template = "{{ range .Messages }}{{ if eq .Role \"user\" }}Question: {{ .Content }}\nAnswer:{{ end }}{{ end }}"
	s.CreateFromFile(t, "gemma3-270m", path, template, map[string]any{"stop": []string{"\n"}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	seed, zero := 1, 0.0
	req := modeltest.Ask("How did printing change Renaissance art? Answer in one sentence.")
	req.Options = provider.Options{Seed: &seed, Temperature: &zero, MaxTokens: 60, ContextTokens: 1024}
	r, err := provider.Call(ctx, model(t, s.URL, "gemma3-270m"), req)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d tokens in, %d out, in %v: %s", r.Usage.InputTokens, r.Usage.OutputTokens, r.Usage.Duration.Round(time.Millisecond), r.Message.Content)
}

//go:build unix

package provider_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/ollama"
	"github.com/covey-run/covey/actors/provider/route"
	"github.com/covey-run/covey/internal/ollamatest"
	"github.com/covey-run/covey/internal/tinygguf"
	"github.com/covey-run/covey/messages"
)

// A ladder, an output and a router around a real Ollama server: nothing answers
// at the first rung's address; the second's model gives prose, and JSON in prose
// when it is shown what is wrong.
func TestRealLadderOutputRouter(t *testing.T) {
	s := ollamatest.Start(t)
	s.Create(t, "clumsy", tinygguf.Config{Seed: 1, Scripts: []tinygguf.Script{
		{Start: "<|first|>", Pieces: []string{"It is", " Ada."}},
		{Start: "<|mended|>", Pieces: []string{"Sure: ", `{"name":"Ada",`, `"age":36}`, " I hope it helps."}},
	}}, `{{- range .Messages }}{{ .Role }}: {{ .Content }}
{{ end }}{{ if gt (len .Messages) 1 }}<|mended|>{{ else }}<|first|>{{ end }}`, nil)

	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	client := func(url string) provider.Rung {
		return provider.Rung{Name: "ollama/clumsy", Make: func() (provider.Model, error) {
			m, err := ollama.New(ollama.Config{BaseURL: url, Model: "clumsy"})
			if err != nil {
				return nil, err
			}
			o, err := provider.NewOutput(provider.OutputConfig{Format: person})
			if err != nil {
				return nil, err
			}
			return o.Wrap(m), nil
		}}
	}
	var events sink
	l := must(provider.NewLadder(provider.LadderConfig{Name: "l", Rungs: []provider.Rung{client(gone.URL), client(s.URL)}, Observe: events.observe}))
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := must(route.NewComplexity(route.ComplexityConfig{
		Simple:  route.Choice{Name: "easy", Model: l},
		Complex: route.Choice{Name: "hard", Model: provider.Answer(nil)}, // never asked
	}))
	reply, err := provider.Call(t.Context(), r, &provider.Request{Messages: []messages.Message{{Role: messages.User, Content: "Who was first?"}}})
	if err != nil {
		t.Fatal(err)
	}
	o := reply.Origin
	if reply.Message.Content != good || o.Strategy != "embedded" || o.Rung != 1 || !o.Fallback || o.Name != "ollama/clumsy" || len(o.Before) != 1 {
		t.Errorf("reply %+v, origin %+v", reply, o)
	}
	if c := o.Before[0].Class; c != messages.Unavailable && c != messages.Transient {
		t.Errorf("before: %v", o.Before)
	}
	if reply.Usage.InputTokens == 0 || reply.Attempts < 3 { // the dead rung, the prose, the repair
		t.Errorf("usage %+v", reply.Usage)
	}
}

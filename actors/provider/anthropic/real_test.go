//go:build unix

package anthropic_test

import (
	"testing"

	"github.com/covey-run/covey/actors/provider"
	"github.com/covey-run/covey/actors/provider/anthropic"
	"github.com/covey-run/covey/internal/modeltest"
	"github.com/covey-run/covey/internal/ollamatest"
	"github.com/covey-run/covey/internal/tinygguf"
)

func TestConformance(t *testing.T) {
	// A caller that leaves can cost the server a place: when its write fails before
	// it notices, its runner's goroutine blocks for ever. There are enough places.
	s := ollamatest.Start(t, "OLLAMA_NUM_PARALLEL=8")
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

//go:build unix

package ollamatest

import (
	"strings"
	"testing"

	"github.com/covey-run/covey/internal/tinygguf"
)

// An embedding model of tinygguf puts texts that share words near each other.
func TestEmbed(t *testing.T) {
	s := Start(t)
	s.Create(t, "embed", tinygguf.Config{Arch: "bert", Seed: 1}, "", nil)
	var res struct{ Embeddings [][]float64 }
	s.post(t, "/api/embed", strings.NewReader(`{"model":"embed","input":["hello world","hello people","the weather"]}`), &res)
	dot := func(a, b []float64) (sum float64) {
		for i := range a {
			sum += a[i] * b[i]
		}
		return sum
	}
	e := res.Embeddings
	if len(e) != 3 || dot(e[0], e[1]) <= dot(e[0], e[2]) {
		t.Errorf("%d embeddings; texts that share a word should be nearer", len(e))
	}
	if n := s.KillRunners(t); n != 1 {
		t.Errorf("%d runners, want 1", n)
	}
}

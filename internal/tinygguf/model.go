package tinygguf

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// ChatML is what goes into tokenizer.chat_template; Ollama recognises it and
// applies its own built-in "chatml" template when the model has no TEMPLATE.
const ChatML = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

// Script makes the model a lookup table: right after the control token Start,
// which the model's TEMPLATE puts at the end of the prompt, it emits Pieces,
// one token each, and then ends the turn.
type Script struct {
	// Start is a control token, as "<|reply|>".
	Start string
	// Pieces become one vocabulary entry each; no piece may be in two scripts.
	Pieces []string
	// Loop goes round for ever instead of ending the turn. Ollama cuts a reply
	// that says the same piece 30 times in a row: use at least two.
	Loop bool
}

// Config says what to build. The zero value is a llama with random weights.
type Config struct {
	// Arch is "llama" (zero; Ollama's llama.cpp runner), "qwen3" (its Go engine)
	// or "bert" (an embedding model; Scripts do not apply).
	Arch string
	// Name is general.name. "": "tiny-<arch>".
	Name string
	// Seed decides the weights: the same seed, the same file.
	Seed uint64
	// The dimensions. Zero: 128 wide, 2 layers, 4 heads, 2 key-value heads, a
	// feed-forward layer of twice the width, a context of 4096 tokens.
	Dim, Layers, Heads, KVHeads, FF, Context int
	// Scripts are what the model says. None: random words.
	Scripts []Script
}

func (c *Config) defaults() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.Dim, 128)
	def(&c.Layers, 2)
	def(&c.Heads, 4)
	def(&c.KVHeads, 2)
	def(&c.FF, 2*c.Dim)
	def(&c.Context, 4096)
	if c.Arch == "" {
		c.Arch = "llama"
	}
	if c.Name == "" {
		c.Name = "tiny-" + c.Arch
	}
}

// Build makes a model. It fails for an architecture that it does not know and
// for a script piece that is already a token.
func Build(c Config) (*File, error) {
	c.defaults()
	switch c.Arch {
	case "llama", "qwen3":
		return buildDecoder(c)
	case "bert":
		return buildBert(c), nil
	}
	return nil, fmt.Errorf("tinygguf: unknown architecture %q: use llama, qwen3 or bert", c.Arch)
}

// gen makes seeded weights.
type gen struct{ *rand.Rand }

func newGen(seed uint64) gen { return gen{rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))} }

func (g gen) normal(n int, std float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(g.NormFloat64() * std)
	}
	return out
}

func fill(n int, v float32) []float32 { return slices.Repeat([]float32{v}, n) }

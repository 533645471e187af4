package tinygguf

import (
	"fmt"
	"math"
	"strings"
)

// buildBert makes an embedding model in which texts that share words are near.
func buildBert(c Config) *File {
	g := newGen(c.Seed)
	v := &vocab{ids: map[string]int{}}
	for _, s := range []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} {
		v.add(s, typeControl, 0)
	}
	for ch := rune(0x21); ch < 0x7f; ch++ {
		v.add("▁"+string(ch), typeNormal, 0) // word start
		v.add(string(ch), typeNormal, 0)     // continuation
	}
	for _, w := range words {
		v.add("▁"+strings.ToLower(w), typeNormal, 0)
	}
	D, V, F := c.Dim, len(v.tokens), c.FF
	f := &File{}
	f.Set("general.architecture", "bert")
	f.Set("general.name", c.Name)
	f.Set("general.file_type", uint32(1))
	f.Set("bert.context_length", uint32(min(c.Context, 512)))
	f.Set("bert.embedding_length", uint32(D))
	f.Set("bert.block_count", uint32(c.Layers))
	f.Set("bert.feed_forward_length", uint32(F))
	f.Set("bert.attention.head_count", uint32(c.Heads))
	f.Set("bert.attention.layer_norm_epsilon", float32(1e-12))
	f.Set("bert.attention.causal", false)
	f.Set("bert.pooling_type", uint32(1)) // mean; this key makes it an embedding model
	f.Set("tokenizer.ggml.model", "bert")
	f.Set("tokenizer.ggml.pre", "jina-v2-en")
	f.Set("tokenizer.ggml.token_type_count", uint32(2))
	f.Set("tokenizer.ggml.tokens", v.tokens)
	f.Set("tokenizer.ggml.scores", fill(V, 0))
	f.Set("tokenizer.ggml.token_type", v.types)
	f.Set("tokenizer.ggml.padding_token_id", uint32(0))
	f.Set("tokenizer.ggml.unknown_token_id", uint32(1))
	f.Set("tokenizer.ggml.cls_token_id", uint32(2))
	f.Set("tokenizer.ggml.seperator_token_id", uint32(3)) // sic
	f.Set("tokenizer.ggml.mask_token_id", uint32(4))
	f.Set("tokenizer.ggml.bos_token_id", uint32(2))
	f.Set("tokenizer.ggml.eos_token_id", uint32(3))

	norm := func(name string, n int) {
		f.Add(name+".weight", fill(n, 1), uint64(n))
		f.Add(name+".bias", fill(n, 0), uint64(n))
	}
	lin := func(name string, in, out int, std float64) {
		f.Add(name+".weight", g.normal(in*out, std/math.Sqrt(float64(in))), uint64(in), uint64(out))
		f.Add(name+".bias", fill(out, 0), uint64(out))
	}
	f.Add("token_embd.weight", g.normal(V*D, 1), uint64(D), uint64(V))
	f.Add("token_types.weight", g.normal(2*D, 0.02), uint64(D), 2)
	f.Tensors[len(f.Tensors)-1].F32 = true // added as it is: ggml refuses F32 + F16 here, the runner aborts
	P := min(c.Context, 512)
	f.Add("position_embd.weight", g.normal(P*D, 0.02), uint64(D), uint64(P))
	norm("token_embd_norm", D)
	for l := 0; l < c.Layers; l++ {
		p := fmt.Sprintf("blk.%d.", l)
		lin(p+"attn_q", D, D, 0.5)
		lin(p+"attn_k", D, D, 0.5)
		lin(p+"attn_v", D, D, 0.3)
		lin(p+"attn_output", D, D, 0.3)
		norm(p+"attn_output_norm", D)
		lin(p+"ffn_up", D, F, 0.3)
		lin(p+"ffn_down", F, D, 0.3)
		norm(p+"layer_output_norm", D)
	}
	return f
}

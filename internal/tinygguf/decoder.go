package tinygguf

import (
	"fmt"
	"math"
)

// buildDecoder makes a decoder-only model whose output layer plays the scripts.
func buildDecoder(c Config) (*File, error) {
	v, err := bpeVocab(c.Scripts)
	if err != nil {
		return nil, err
	}
	g := newGen(c.Seed)
	D, V, F := c.Dim, len(v.tokens), c.FF
	hd := D / c.Heads
	kv := hd * c.KVHeads

	f := &File{}
	a := c.Arch
	f.Set("general.architecture", a)
	f.Set("general.name", c.Name)
	f.Set("general.file_type", uint32(1)) // mostly F16 (0, F32, is shown by Ollama as "unknown")
	f.Set(a+".context_length", uint32(c.Context))
	f.Set(a+".embedding_length", uint32(D))
	f.Set(a+".block_count", uint32(c.Layers))
	f.Set(a+".feed_forward_length", uint32(F))
	f.Set(a+".attention.head_count", uint32(c.Heads))
	f.Set(a+".attention.head_count_kv", uint32(c.KVHeads))
	f.Set(a+".attention.key_length", uint32(hd))
	f.Set(a+".attention.value_length", uint32(hd))
	f.Set(a+".attention.layer_norm_rms_epsilon", float32(1e-5))
	f.Set(a+".rope.dimension_count", uint32(hd))
	f.Set(a+".rope.freq_base", float32(10000))
	f.Set(a+".vocab_size", uint32(V))
	f.Set("tokenizer.ggml.model", "gpt2")
	pre := "default"
	if a == "qwen3" {
		pre = "qwen2"
	}
	f.Set("tokenizer.ggml.pre", pre)
	f.Set("tokenizer.ggml.tokens", v.tokens)
	f.Set("tokenizer.ggml.token_type", v.types)
	f.Set("tokenizer.ggml.merges", v.merges)
	f.Set("tokenizer.ggml.bos_token_id", uint32(v.ids["<|endoftext|>"]))
	f.Set("tokenizer.ggml.eos_token_id", uint32(v.ids["<|im_end|>"]))
	f.Set("tokenizer.ggml.padding_token_id", uint32(v.ids["<|endoftext|>"]))
	f.Set("tokenizer.ggml.add_bos_token", false)
	f.Set("tokenizer.chat_template", ChatML)

	// Residual stream: component 0 is a constant that no layer writes to; it
	// carries the unigram bias to the logits. The others hold a random code
	// per token plus what the layers add.
	const konst = 4.0
	emb := g.normal(V*D, 1)
	for t := 0; t < V; t++ {
		emb[t*D] = konst
	}
	rms := math.Sqrt((konst*konst + float64(D-1)) / float64(D))
	h0 := konst / rms
	out := g.normal(V*D, 1.2/math.Sqrt(float64(D))) // logit noise, std ~1.2
	for t := 0; t < V; t++ {
		out[t*D] = v.bias[t] / float32(h0)
	}
	// Scripts: raise logit(next) by ~gain when the current token is prev.
	const gain = 40
	link := func(prev, next int) {
		for d := 1; d < D; d++ {
			out[next*D+d] += float32(gain*rms/float64(D-1)) * emb[prev*D+d]
		}
	}
	for _, s := range c.Scripts {
		prev := v.ids[s.Start]
		for _, p := range s.Pieces {
			n := v.ids[encodeBytes(p)]
			link(prev, n)
			prev = n
		}
		if s.Loop && len(s.Pieces) > 0 {
			link(prev, v.ids[encodeBytes(s.Pieces[0])])
		} else {
			link(prev, v.ids["<|im_end|>"])
		}
	}

	// Never end the turn right at its start (the prompt ends in a newline).
	nl := v.ids[string(byteRune('\n'))]
	for d := 1; d < D; d++ {
		out[v.ids["<|im_end|>"]*D+d] -= float32(10*rms/float64(D-1)) * emb[nl*D+d]
	}

	f.Add("token_embd.weight", emb, uint64(D), uint64(V))
	f.Add("output_norm.weight", fill(D, 1), uint64(D))
	f.Add("output.weight", out, uint64(D), uint64(V))
	// With scripts the layers only add a little noise; without, they matter.
	writeStd := 0.5
	if len(c.Scripts) > 0 {
		writeStd = 0.03
	}
	lin := func(name string, in, outDim int, std float64, protect bool) {
		w := g.normal(in*outDim, std/math.Sqrt(float64(in)))
		if protect { // row 0 of the output writes component 0
			for i := 0; i < in; i++ {
				w[i] = 0
			}
		}
		f.Add(name+".weight", w, uint64(in), uint64(outDim))
	}
	for l := 0; l < c.Layers; l++ {
		p := fmt.Sprintf("blk.%d.", l)
		f.Add(p+"attn_norm.weight", fill(D, 1), uint64(D))
		lin(p+"attn_q", D, hd*c.Heads, 1, false)
		lin(p+"attn_k", D, kv, 1, false)
		lin(p+"attn_v", D, kv, 1, false)
		lin(p+"attn_output", hd*c.Heads, D, writeStd, true)
		if a == "qwen3" {
			f.Add(p+"attn_q_norm.weight", fill(hd, 1), uint64(hd))
			f.Add(p+"attn_k_norm.weight", fill(hd, 1), uint64(hd))
		}
		f.Add(p+"ffn_norm.weight", fill(D, 1), uint64(D))
		lin(p+"ffn_gate", D, F, 1, false)
		lin(p+"ffn_up", D, F, 1, false)
		lin(p+"ffn_down", F, D, writeStd, true)
	}
	return f, nil
}

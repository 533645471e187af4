package tinygguf

import (
	"fmt"
	"strings"
)

// words get whole-word tokens, so that token counts are not byte counts.
var words = strings.Fields(`the of and a to in is you that it he was for on are as with his they I at be this
have from or one had by word but not what all were we when your can said there use an each which she do how
their if will up other about out many then them these so some her would make like him into time has look two
more write go see number no way could people my than first water been call who its now find long down day did
get come made may part hello world name weather model test answer question system user assistant tool`)

// Token types as GGUF numbers them.
const (
	typeNormal  = 1
	typeUnknown = 2
	typeControl = 3
)

// byteRune is GPT-2's reversible byte -> printable rune map.
func byteRune(b byte) rune {
	switch r := rune(b); {
	case r == 0xad:
		return 0x143
	case r <= 0x20:
		return r + 0x100
	case r >= 0x7f && r <= 0xa0:
		return r + 0xa2
	default:
		return r
	}
}

// encodeBytes writes text as the vocabulary spells it.
func encodeBytes(s string) string {
	var sb strings.Builder
	for _, b := range []byte(s) {
		sb.WriteRune(byteRune(b))
	}
	return sb.String()
}

// vocab is a tokenizer in the making.
type vocab struct {
	tokens []string
	types  []int32
	merges []string
	bias   []float32 // unigram logit bias
	ids    map[string]int
}

func (v *vocab) add(tok string, typ int32, bias float32) int {
	if id, ok := v.ids[tok]; ok {
		return id
	}
	v.ids[tok] = len(v.tokens)
	v.tokens = append(v.tokens, tok)
	v.types = append(v.types, typ)
	v.bias = append(v.bias, bias)
	return len(v.tokens) - 1
}

// bpeVocab is a byte-level BPE vocabulary: control tokens, every byte, common
// words, and the scripts.
func bpeVocab(scripts []Script) (*vocab, error) {
	v := &vocab{ids: map[string]int{}}
	const never = -12
	v.add("<|endoftext|>", typeControl, never)
	v.add("<|im_start|>", typeControl, never)
	v.add("<|im_end|>", typeControl, 0) // EOS: random chats end by themselves now and then
	for b := 0; b < 256; b++ {
		bias := float32(never) // control bytes and bytes >= 0x80: never on their own
		switch c := byte(b); {
		case c == '"' || c == '}' || c == ']':
			bias = 1.5 // helps grammar-constrained output to close
		case c == ',' || c == ':' || c == '{' || c == '[' || c == '.':
			bias = -2
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			bias = -3
		case c == ' ' || c == '\n':
			bias = -4
		case c > 0x20 && c < 0x7f:
			bias = -6
		}
		v.add(string(byteRune(byte(b))), typeNormal, bias)
	}
	merged := map[string]bool{}
	for _, w := range words {
		for _, form := range []string{w, " " + w} {
			rs := []rune(encodeBytes(form))
			for i := 1; i < len(rs); i++ {
				l, r := string(rs[:i]), string(rs[i])
				if !merged[l+" "+r] {
					merged[l+" "+r] = true
					v.merges = append(v.merges, l+" "+r)
				}
				bias := float32(-5)
				if i == len(rs)-1 && form[0] == ' ' {
					bias = 0
				}
				id := v.add(l+r, typeNormal, bias)
				v.bias[id] = max(v.bias[id], bias)
			}
		}
	}
	for _, s := range scripts {
		v.add(s.Start, typeControl, never)
	}
	for _, s := range scripts {
		for _, p := range s.Pieces {
			// No merges lead to it, so prompts never encode to it (unless it
			// is a pretokenised chunk as a whole); it is output only.
			e := encodeBytes(p)
			if _, ok := v.ids[e]; ok {
				return nil, fmt.Errorf("tinygguf: script piece %q is already a token: make it longer or join it with its neighbour", p)
			}
			v.add(e, typeNormal, never)
		}
	}
	return v, nil
}

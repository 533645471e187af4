package tinygguf

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func TestBuild(t *testing.T) {
	script := []Script{{Start: "<|reply|>", Pieces: []string{"The capital", " of France"}}}
	tests := []struct {
		name string
		cfg  Config
		err  string
	}{
		{"llama", Config{Scripts: script}, ""},
		{"qwen3", Config{Arch: "qwen3", Scripts: script}, ""},
		{"bert", Config{Arch: "bert"}, ""},
		{"unknown architecture", Config{Arch: "gpt"}, `unknown architecture "gpt"`},
		{"a piece twice", Config{Scripts: append(script, Script{Start: "<|x|>", Pieces: []string{" of France"}})}, `" of France" is already a token`},
		{"a piece that is a word", Config{Scripts: []Script{{Start: "<|x|>", Pieces: []string{"the"}}}}, "already a token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Build(tt.cfg)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			one, two := written(t, f), written(t, f)
			if !bytes.Equal(one, two) {
				t.Error("two writes differ")
			}
			again, err := Build(tt.cfg)
			if err != nil || !bytes.Equal(one, written(t, again)) {
				t.Errorf("the same config gave another file, error %v", err)
			}
			if string(one[:4]) != "GGUF" || binary.LittleEndian.Uint32(one[4:]) != 3 {
				t.Errorf("it begins with % x", one[:8])
			}
			if n := binary.LittleEndian.Uint64(one[8:]); n != uint64(len(f.Tensors)) {
				t.Errorf("%d tensors in the header, want %d", n, len(f.Tensors))
			}
			if len(one)%alignment != 0 || len(one) > 4<<20 {
				t.Errorf("%d bytes", len(one))
			}
		})
	}
}

func TestHalf(t *testing.T) {
	for _, tt := range []struct {
		in   float32
		want uint16
	}{{0, 0}, {1, 0x3c00}, {-2, 0xc000}, {65504, 0x7bff}, {1e6, 0x7c00}, {1e-9, 0}, {0.1, 0x2e66}} {
		if got := half(tt.in); got != tt.want {
			t.Errorf("half(%v) = %#x, want %#x", tt.in, got, tt.want)
		}
	}
}

func written(t *testing.T, f *File) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := f.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("wrote %d of %d bytes: %v", n, b.Len(), err)
	}
	return b.Bytes()
}

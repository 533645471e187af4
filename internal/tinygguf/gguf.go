// Package tinygguf makes tiny language models in GGUF, for tests against a real
// Ollama server: about 1 MB, in some 25 ms, with nothing downloaded.
//
// The weights of such a model play fixed texts ([Script]) or are random. The
// TEMPLATE that it is registered with chooses the script, by ending the prompt
// with the script's control token, so that one model can answer, call a tool,
// use its result, and loop for ever, all over the real protocol and with real
// token counts. Assert exact text on scripts only: what random weights say
// differs between builds of the server.
package tinygguf

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

const alignment = 32

// KV is one metadata entry. Supported values: uint32, int32, float32, bool,
// string, []string, []int32, []float32.
type KV struct {
	Key   string
	Value any
}

// Tensor is stored as F32 when it is a vector or F32 is set, else as F16.
// Dims are in ggml order: Dims[0] is the row length (contiguous), so a Linear
// of in->out is {in, out}.
type Tensor struct {
	Name string
	Dims []uint64
	Data []float32
	F32  bool
}

func (t Tensor) half() bool { return len(t.Dims) > 1 && !t.F32 }

// File is a GGUF file in the making.
type File struct {
	KVs     []KV
	Tensors []Tensor
}

// Set adds a metadata entry.
func (f *File) Set(key string, v any) { f.KVs = append(f.KVs, KV{key, v}) }

// Add adds a tensor. It panics if data does not fill dims.
func (f *File) Add(name string, data []float32, dims ...uint64) {
	n := uint64(1)
	for _, d := range dims {
		n *= d
	}
	if n != uint64(len(data)) {
		panic(fmt.Sprintf("tinygguf: tensor %s: %v holds %d, have %d", name, dims, n, len(data)))
	}
	f.Tensors = append(f.Tensors, Tensor{Name: name, Dims: dims, Data: data})
}

// cw counts what it writes.
type cw struct {
	w *bufio.Writer
	n int64
}

func (c *cw) Write(p []byte) (int, error) { n, err := c.w.Write(p); c.n += int64(n); return n, err }

// WriteTo writes GGUF version 3, little endian.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	c := &cw{w: bufio.NewWriterSize(w, 1<<20)}
	le := binary.LittleEndian
	var err error
	put := func(v any) {
		if err == nil {
			err = binary.Write(c, le, v)
		}
	}
	str := func(s string) { put(uint64(len(s))); put([]byte(s)) }
	put([]byte("GGUF"))
	put(uint32(3))
	put(uint64(len(f.Tensors)))
	put(uint64(len(f.KVs)))
	for _, kv := range f.KVs {
		str(kv.Key)
		switch v := kv.Value.(type) {
		case uint32:
			put(uint32(4))
			put(v)
		case int32:
			put(uint32(5))
			put(v)
		case float32:
			put(uint32(6))
			put(v)
		case bool:
			put(uint32(7))
			b := uint8(0)
			if v {
				b = 1
			}
			put(b)
		case string:
			put(uint32(8))
			str(v)
		case []string:
			put(uint32(9))
			put(uint32(8))
			put(uint64(len(v)))
			for _, s := range v {
				str(s)
			}
		case []int32:
			put(uint32(9))
			put(uint32(5))
			put(uint64(len(v)))
			put(v)
		case []float32:
			put(uint32(9))
			put(uint32(6))
			put(uint64(len(v)))
			put(v)
		default:
			return c.n, fmt.Errorf("tinygguf: key %s: unsupported type %T", kv.Key, kv.Value)
		}
	}
	off := uint64(0)
	for _, t := range f.Tensors {
		str(t.Name)
		put(uint32(len(t.Dims)))
		put(t.Dims)
		size := uint64(4)
		if t.half() {
			put(uint32(1)) // GGML_TYPE_F16
			size = 2
		} else {
			put(uint32(0)) // GGML_TYPE_F32
		}
		put(off)
		off += (uint64(len(t.Data))*size + alignment - 1) / alignment * alignment
	}
	pad := func() {
		if r := c.n % alignment; r != 0 {
			put(make([]byte, alignment-r))
		}
	}
	pad()
	buf := make([]byte, 4)
	for _, t := range f.Tensors {
		for _, x := range t.Data {
			b := buf[:4]
			if t.half() {
				b = buf[:2]
				le.PutUint16(b, half(x))
			} else {
				le.PutUint32(b, math.Float32bits(x))
			}
			if err == nil {
				_, err = c.Write(b)
			}
		}
		pad()
	}
	if err == nil {
		err = c.w.Flush()
	}
	return c.n, err
}

// half rounds to the nearest IEEE binary16; subnormals become zero.
func half(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	b += 0x0fff + (b >> 13 & 1) // round to nearest even
	switch e := int(b>>23) - 127; {
	case e < -14:
		return sign
	case e > 15:
		return sign | 0x7c00
	default:
		return sign | uint16(e+15)<<10 | uint16(b>>13&0x3ff)
	}
}

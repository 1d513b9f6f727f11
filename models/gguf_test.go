package models

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"serve/models/testmodel"
)

func TestReadHeader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Test-Q4_K_M.gguf")
	if err := testmodel.Write(path, testmodel.Options{}); err != nil {
		t.Fatal(err)
	}
	h, err := ReadHeader(path)
	if err != nil {
		t.Fatal(err)
	}
	if h.Architecture() != "llama" || h.TrainContext() != 1024 || h.String("general.name") != "serve test model" {
		t.Errorf("got %+v", h.Values)
	}
	if len(h.Tensors) != 3+9*3 || h.ArrayLengths["tokenizer.ggml.tokens"] < 500 {
		t.Errorf("%d tensors, %d tokens", len(h.Tensors), h.ArrayLengths["tokenizer.ggml.tokens"])
	}
	if got := h.Tensors[0]; got.Name != "token_embd.weight" || got.Bytes != got.Dims[0]*got.Dims[1]*4 {
		t.Errorf("got %+v", got)
	}
	if Name(path) != "Test-Q4_K_M" || Name("/x/m-00001-of-00003.gguf") != "m" {
		t.Errorf("names %q", Name(path))
	}
}

// small is the least GGUF that parses: keys and tensors can be put in.
func small(keys, tensors uint64, rest ...any) []byte {
	var b bytes.Buffer
	b.WriteString("GGUF")
	for _, v := range append([]any{uint32(3), tensors, keys}, rest...) {
		if s, ok := v.(string); ok {
			binary.Write(&b, binary.LittleEndian, uint64(len(s)))
			b.WriteString(s)
			continue
		}
		binary.Write(&b, binary.LittleEndian, v)
	}
	for b.Len()%32 != 0 {
		b.WriteByte(0)
	}
	return b.Bytes()
}

func TestBadHeaders(t *testing.T) {
	good := testmodel.Bytes(testmodel.Options{})
	truncated := good[:len(good)-100]
	tests := map[string]struct {
		file []byte
		want string
	}{
		"empty":             {nil, "GGUF file: it is empty"},
		"html":              {[]byte("<!DOCTYPE html><html><body>login</body></html>"), "HTML page"},
		"lfs pointer":       {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:0"), "git-lfs"},
		"zip":               {[]byte("PK\x03\x04" + strings.Repeat("x", 40)), "PyTorch"},
		"version 1":         {append([]byte("GGUF\x01\x00\x00\x00"), make([]byte, 40)...), "obsolete"},
		"big-endian":        {append([]byte("GGUF\x00\x00\x00\x03"), make([]byte, 40)...), "big-endian"},
		"version 9":         {append([]byte("GGUF\x09\x00\x00\x00"), make([]byte, 40)...), "newer"},
		"cut in the data":   {truncated, "truncated"},
		"cut in the header": {good[:1000], "middle of its header"},
		"too many keys":     {small(1<<60, 0), "keys"},
		"too many tensors":  {small(0, 1<<40), "tensors"},
		"an endless key":    {small(1, 0, uint64(1)<<63), "a key has"},
		"an endless string": {small(1, 0, "a", uint32(typeString), uint64(1)<<62), "bytes, more than"},
		"an endless array":  {small(1, 0, "a", uint32(typeArray), uint32(typeUint64), uint64(1)<<61), "elements"},
		"a nested array":    {small(1, 0, "a", uint32(typeArray), uint32(typeArray), uint64(1)), "elements of type"},
		"a key twice":       {small(2, 0, "a", uint32(typeUint8), uint8(1), "a", uint32(typeUint8), uint8(1)), "twice"},
		"a type unknown":    {small(1, 0, "a", uint32(99)), "unknown type"},
		"no boolean":        {small(1, 0, "a", uint32(typeBool), uint8(7)), "neither true"},
		"an alignment of 0": {
			small(1, 1, "general.alignment", uint32(typeUint32), uint32(0), "t", uint32(1), uint64(0), uint32(0), uint64(0)),
			"alignment",
		},
		"an alignment of text": {
			small(1, 1, "general.alignment", uint32(typeString), "32", "t", uint32(1), uint64(0), uint32(0), uint64(0)),
			"alignment",
		},
		"no dimensions": {small(0, 1, "t", uint32(0)), "dimensions"},
		"an overflow of elements": {
			small(0, 1, "t", uint32(2), uint64(1)<<40, uint64(1)<<40, uint32(0), uint64(0)),
			"elements",
		},
		"an overflow of bytes":   {small(0, 1, "t", uint32(1), uint64(1)<<62, uint32(0), uint64(0)), "bytes"},
		"a type of the future":   {small(0, 1, "t", uint32(1), uint64(32), uint32(999), uint64(0)), "newer engine"},
		"half a block":           {small(0, 1, "t", uint32(1), uint64(33), uint32(2), uint64(0)), "whole blocks"},
		"an offset past the end": {small(0, 1, "t", uint32(1), uint64(32), uint32(0), uint64(1)<<40), "begins at"},
		"an empty array twice": {
			small(
				2,
				0,
				"a",
				uint32(typeArray),
				uint32(typeUint8),
				uint64(0),
				"a",
				uint32(typeArray),
				uint32(typeUint8),
				uint64(0),
			),
			"twice",
		},
		"an endless token": {
			small(1, 0, "tokenizer.ggml.tokens", uint32(typeArray), uint32(typeString), uint64(1), uint64(1)<<40),
			"a string of",
		},
		"an architecture of 3":   {small(1, 0, "general.architecture", uint32(typeUint32), uint32(3)), "architecture"},
		"an architecture's path": {small(1, 0, "general.architecture", uint32(typeString), "../x"), "architecture"},
		"a context of text": {
			small(2, 0, "general.architecture", uint32(typeString), "a", "a.context_length", uint32(typeString), "9"),
			"a.context_length",
		},
		"a negative layer count": {
			small(2, 0, "general.architecture", uint32(typeString), "a", "a.block_count", uint32(typeInt32), int32(-1)),
			"a.block_count",
		},
		"endless heads": {
			small(
				2,
				0,
				"general.architecture",
				uint32(typeString),
				"a",
				"a.attention.head_count",
				uint32(typeUint32),
				uint32(1)<<31,
			),
			"head_count",
		},
		"a template of numbers": {small(1, 0, "tokenizer.chat_template", uint32(typeUint32), uint32(1)), "chat_template"},
		"an endless template": {
			small(1, 0, "tokenizer.chat_template.tool_use", uint32(typeString), strings.Repeat("x", maxTemplate+1)),
			"chat_template",
		},
		"tokens of numbers": {
			small(1, 0, "tokenizer.ggml.tokens", uint32(typeArray), uint32(typeUint8), uint64(0)),
			"elements of type",
		},
		"scores of bytes": {
			small(
				2,
				0,
				"tokenizer.ggml.tokens",
				uint32(typeArray),
				uint32(typeString),
				uint64(1),
				"x",
				"tokenizer.ggml.scores",
				uint32(typeArray),
				uint32(typeUint8),
				uint64(1),
				uint8(1),
			),
			"scores has elements",
		},
		"too few scores": {
			small(
				2,
				0,
				"tokenizer.ggml.tokens",
				uint32(typeArray),
				uint32(typeString),
				uint64(2),
				"x",
				"y",
				"tokenizer.ggml.scores",
				uint32(typeArray),
				uint32(typeFloat32),
				uint64(1),
				float32(1),
			),
			"2 tokens, but 1",
		},
		"a template in Latin-1": {
			small(
				2,
				0,
				"tokenizer.ggml.tokens",
				uint32(typeArray),
				uint32(typeString),
				uint64(1),
				"x",
				"tokenizer.chat_template",
				uint32(typeString),
				"gr\xfc\xdfe",
			),
			"chat_template is not UTF-8",
		},
		"two of a name": {
			small(0, 2, "t", uint32(1), uint64(0), uint32(0), uint64(0), "t", uint32(1), uint64(0), uint32(0), uint64(0)),
			"two tensors",
		},
	}

	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.gguf")
			if err := os.WriteFile(path, tt.file, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := ReadHeader(path)
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}

	if _, err := ReadHeader(t.TempDir()); !errors.Is(err, ErrFormat) {
		t.Errorf("a folder: got %v", err)
	}
}

// TestTakenHeaders reads what is wrong with a file and harmless: llama.cpp takes its default in place of a
// token past the end, and a file that was merged says that it has no parts.
func TestTakenHeaders(t *testing.T) {
	file := small(4, 0,
		"general.architecture", uint32(typeString), "llama",
		"split.count", uint32(typeUint16), uint16(0),
		"tokenizer.ggml.tokens", uint32(typeArray), uint32(typeString), uint64(1), "x",
		"tokenizer.ggml.padding_token_id", uint32(typeUint32), uint32(7))
	path := filepath.Join(t.TempDir(), "m.GGUF")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}

	h, err := ReadModel([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	if odd := h.Oddities(); len(odd) != 1 || !strings.Contains(odd[0], "padding_token_id is 7, and there are 1 tokens") {
		t.Errorf("got %q", odd)
	}
}

func TestParts(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "b-00001-of-00002.gguf"} {
		if err := os.WriteFile(path(name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if parts, err := Parts(path("a-00001-of-00002.gguf")); err != nil || len(parts) != 2 {
		t.Errorf("got %v, %v", parts, err)
	}
	if _, err := Parts(path("b-00001-of-00002.gguf")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a set with a part missing: got %v", err)
	}
	if _, err := Parts(path("a-00002-of-00002.gguf")); !errors.Is(err, ErrFormat) {
		t.Errorf("a later part: got %v", err)
	}
	if parts, err := Parts("single.gguf"); err != nil || len(parts) != 1 {
		t.Errorf("got %v, %v", parts, err)
	}
}

func FuzzParseHeader(f *testing.F) {
	whole := testmodel.Bytes(testmodel.Options{})
	f.Add(whole[:20000])
	f.Add(
		small(1, 1, "general.alignment", uint32(typeUint32), uint32(32), "t", uint32(1), uint64(32), uint32(0), uint64(0)),
	)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(bytes.NewReader(b), uint64(len(b)))
		if err != nil {
			return
		}
		for _, tensor := range h.Tensors {
			if end := h.DataOffset + tensor.Offset + tensor.Bytes; end > uint64(len(b)) || end < tensor.Bytes {
				t.Errorf("the tensor %q ends at %d of %d bytes", tensor.Name, end, len(b))
			}
		}
	})
}

package fittest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"serve/models"
)

const alignment = 32

func align(n uint64) uint64 { return (n + alignment - 1) &^ (alignment - 1) }

// layOut gives the tensors their places in the file.
func (m *Model) layOut() {
	var at uint64
	for i := range m.Tensors {
		m.Tensors[i].Offset = at
		at = align(at + m.Tensors[i].Bytes)
	}
}

// Header returns what a reader of the file gets.
func (m *Model) Header() *models.Header {
	h := &models.Header{Values: map[string]any{}, ArrayLengths: map[string]uint64{}, Tensors: m.Tensors}
	for _, value := range m.Values {
		switch v := value.V.(type) {
		case uint32:
			h.Values[value.Key] = uint64(v)
		case float32:
			h.Values[value.Key] = float64(v)
		case []uint32:
			h.ArrayLengths[value.Key] = uint64(len(v))
		default:
			h.Values[value.Key] = v
		}
	}
	return h
}

// Write writes the model as a file that takes no room: what would be weights is a hole.
func (m *Model) Write(path string) error {
	var b bytes.Buffer
	b.WriteString("GGUF")
	put(&b, uint32(3))
	put(&b, uint64(len(m.Tensors)))
	put(&b, uint64(len(m.Values)))
	for _, value := range m.Values {
		putValue(&b, value)
	}
	for _, t := range m.Tensors {
		putText(&b, t.Name)
		put(&b, uint32(len(t.Dims)))
		put(&b, t.Dims)
		put(&b, t.Type)
		put(&b, t.Offset)
	}

	last := m.Tensors[len(m.Tensors)-1]
	size := align(uint64(b.Len())) + align(last.Offset+last.Bytes)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Truncate(path, int64(size))
}

func put(b *bytes.Buffer, v any) { _ = binary.Write(b, binary.LittleEndian, v) }

func putText(b *bytes.Buffer, text string) {
	put(b, uint64(len(text)))
	b.WriteString(text)
}

// putValue writes a key with its value, in GGUF's types.
func putValue(b *bytes.Buffer, value Value) {
	putText(b, value.Key)
	switch v := value.V.(type) {
	case uint32:
		put(b, uint32(4))
		put(b, v)
	case float32:
		put(b, uint32(6))
		put(b, v)
	case string:
		put(b, uint32(8))
		putText(b, v)
	case []uint32:
		put(b, uint32(9))
		put(b, uint32(4))
		put(b, uint64(len(v)))
		put(b, v)
	default:
		panic(fmt.Sprintf("no type for %T", value.V))
	}
}

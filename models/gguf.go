// Package models finds, downloads and checks model files: names and the catalog, the
// store, bundles, and GGUF headers.
package models

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// ErrFormat means that a file is not a GGUF file that can be loaded: it is another
// kind of file, damaged, truncated, or malicious.
var ErrFormat = errors.New("not a usable GGUF file")

// errTruncated is in the error for a file that ends too early. It is an ErrFormat.
var errTruncated = fmt.Errorf("%w: the file is truncated", ErrFormat)

// Limits of a header. A file that exceeds one is refused: real models stay far below
// them, and llama.cpp itself has no such limits.
const (
	maxKeys       = 1 << 16
	maxTensors    = 1 << 16
	maxKeyBytes   = 1 << 16
	maxString     = 16 << 20
	maxArray      = 4 << 20
	maxHeader     = 256 << 20
	maxTensorName = 64
	maxDims       = 4
)

// GGUF value types.
const (
	typeUint8 = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

// fixedSize is the size in bytes of each type of fixed size.
var fixedSize = map[uint32]uint64{
	typeUint8: 1, typeInt8: 1, typeUint16: 2, typeInt16: 2, typeUint32: 4, typeInt32: 4,
	typeFloat32: 4, typeBool: 1, typeUint64: 8, typeInt64: 8, typeFloat64: 8,
}

// Header is the beginning of a GGUF file: metadata of the model, and the positions of
// its tensors.
type Header struct {
	Version uint32
	// Values has the scalar values by key: uint64, int64, float64, bool or string.
	Values map[string]any
	// ArrayLengths has the lengths of the array values by key.
	ArrayLengths map[string]uint64
	arrayTypes   map[string]uint32 // of their elements
	Tensors      []Tensor
	DataOffset   uint64 // offset of the tensors' data
	Size         uint64 // of the file
}

// Tensor is a tensor's entry in the header.
type Tensor struct {
	Name   string
	Dims   []uint64
	Type   uint32 // ggml_type
	Offset uint64 // from Header.DataOffset
	Bytes  uint64
}

// ReadHeader reads a file's header and checks that every tensor is within the file,
// before any C code sees it. The error wraps ErrFormat if the content is at fault.
func ReadHeader(path string) (*Header, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		kind := "it is not a regular file"
		if info.IsDir() {
			kind = "it is a folder"
		}
		return nil, fmt.Errorf("%s is %w: %s", path, ErrFormat, kind)
	}

	h, err := parseHeader(f, uint64(info.Size()))
	switch {
	case errors.Is(err, errTruncated):
		return nil, &Error{
			Kind: ErrFormat,
			Text: fmt.Sprintf("%s is %v", path, err),
			Todo: "the download was probably incomplete; download the file again",
		}
	case errors.Is(err, ErrFormat):
		return nil, fmt.Errorf("%s is %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return h, nil
}

func badFormat(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

func parseHeader(src io.Reader, size uint64) (*Header, error) {
	r := &reader{r: bufio.NewReaderSize(src, 1<<16), size: size}
	h := &Header{Values: map[string]any{}, ArrayLengths: map[string]uint64{}, arrayTypes: map[string]uint32{}, Size: size}
	if size == 0 {
		return nil, badFormat("it is empty")
	}
	if size < 24 {
		return nil, fmt.Errorf("%w: it has only %d bytes", errTruncated, size)
	}

	if err := h.readVersion(r); err != nil {
		return nil, err
	}
	tensors, err := r.uint64()
	if err != nil {
		return nil, err
	}

	keys, err := r.uint64()
	if err != nil {
		return nil, err
	}
	if keys > maxKeys || tensors > maxTensors {
		return nil, badFormat("%d keys and %d tensors, more than %d", keys, tensors, maxKeys)
	}

	for range keys {
		if err := h.readValue(r); err != nil {
			return nil, err
		}
	}

	names := map[string]bool{}
	for range tensors {
		t, err := readTensor(r)
		if err != nil {
			return nil, err
		}
		if names[t.Name] {
			return nil, badFormat("two tensors are named %q", t.Name)
		}
		names[t.Name] = true
		h.Tensors = append(h.Tensors, t)
	}

	if err := h.checkValues(); err != nil {
		return nil, err
	}

	return h, h.checkExtents(r.n)
}

// readVersion reads the beginning common to all versions, and refuses versions that are not supported.
func (h *Header) readVersion(r *reader) error {
	magic, err := r.bytes(4)
	if err != nil {
		return err
	}
	if string(magic) != "GGUF" {
		return badFormat("it begins with %q, not GGUF%s", magic, guess(magic))
	}
	if h.Version, err = r.uint32(); err != nil {
		return err
	}

	switch {
	case h.Version&0xffff == 0:
		return badFormat("it is written for a big-endian machine")
	case h.Version == 1:
		return badFormat("version 1 is obsolete; download the model again")
	case h.Version > 3:
		return badFormat("version %d is newer than this version of serve", h.Version)
	}
	return nil
}

// guess names the format of a file that is often mistaken for a model.
func guess(magic []byte) string {
	switch {
	case magic[0] == '<':
		return " (an HTML page: a failed download?)"
	case magic[0] == '{':
		return " (JSON)"
	case string(magic) == "vers":
		return " (a git-lfs pointer: run git lfs pull)"
	case string(magic[:2]) == "PK":
		return " (a zip archive or PyTorch file)"
	}
	return ""
}

func (h *Header) readValue(r *reader) error {
	key, err := r.string(maxKeyBytes, "a key")
	if err != nil {
		return err
	}

	_, scalarBefore := h.Values[key]
	_, arrayBefore := h.ArrayLengths[key]
	if scalarBefore || arrayBefore {
		return badFormat("the key %q occurs twice", key)
	}

	kind, err := r.uint32()
	if err != nil {
		return err
	}

	switch kind {
	case typeString:
		h.Values[key], err = r.string(maxString, "the value of "+strconv.Quote(key))
		return err
	case typeArray:
		elements, n, err := skipArray(r, key)
		h.arrayTypes[key] = elements
		h.ArrayLengths[key] = n
		return err
	}

	size, ok := fixedSize[kind]
	if !ok {
		return badFormat("the key %q has the unknown type %d", key, kind)
	}

	b, err := r.bytes(size)
	if err != nil {
		return err
	}

	h.Values[key], err = scalar(key, kind, b)
	return err
}

func readTensor(r *reader) (t Tensor, err error) {
	if t.Name, err = r.string(maxTensorName, "a tensor's name"); err != nil {
		return t, err
	}

	dims, err := r.uint32()
	if err != nil {
		return t, err
	}
	if dims == 0 || dims > maxDims {
		return t, badFormat("the tensor %q has %d dimensions", t.Name, dims)
	}

	elements := uint64(1)
	for range dims {
		d, err := r.uint64()
		if err != nil {
			return t, err
		}
		hi, lo := bits.Mul64(elements, d)
		if hi != 0 || lo > math.MaxInt64 {
			return t, badFormat("the tensor %q has more elements than can be counted", t.Name)
		}
		elements = lo
		t.Dims = append(t.Dims, d)
	}

	if t.Type, err = r.uint32(); err != nil {
		return t, err
	}
	if t.Offset, err = r.uint64(); err != nil {
		return t, err
	}

	block, ok := blocks[t.Type]
	if !ok {
		return t, badFormat("the tensor %q has the type %d, which needs a newer engine", t.Name, t.Type)
	}
	if t.Dims[0]%block.elements != 0 {
		return t, badFormat(
			"the tensor %q has rows of %d elements, not whole blocks of %d", t.Name, t.Dims[0], block.elements,
		)
	}

	hi, bytes := bits.Mul64(elements/block.elements, block.bytes)
	if hi != 0 {
		return t, badFormat("the tensor %q has more bytes than can be counted", t.Name)
	}

	t.Bytes = bytes
	return t, nil
}

// checkExtents checks that the tensors follow each other in the file.
func (h *Header) checkExtents(headerEnd uint64) error {
	alignment := uint64(32)
	if v, ok := h.Values["general.alignment"]; ok {
		a, isUint := v.(uint64)
		if !isUint || a < 8 || a > 4096 || a&(a-1) != 0 {
			return badFormat("the alignment %v is not a power of two from 8 to 4096", v)
		}
		alignment = a
	}

	pad := func(n uint64) uint64 { return (n + alignment - 1) &^ (alignment - 1) }
	h.DataOffset = pad(headerEnd)
	if len(h.Tensors) == 0 {
		return nil
	}
	if h.DataOffset > h.Size {
		return fmt.Errorf("%w: it ends before its tensors begin", errTruncated)
	}

	room := h.Size - h.DataOffset
	next := uint64(0)
	for _, t := range h.Tensors {
		if t.Offset != next {
			return badFormat("the tensor %q begins at %d, not at %d", t.Name, t.Offset, next)
		}
		if t.Bytes > room || t.Offset > room-t.Bytes {
			return fmt.Errorf(
				"%w: the tensor %q ends at byte %d, the file at %d",
				errTruncated,
				t.Name,
				h.DataOffset+t.Offset+t.Bytes,
				h.Size,
			)
		}
		next = pad(t.Offset + t.Bytes)
	}

	return nil
}

// String returns a string value, or "".
func (h *Header) String(key string) string {
	s, _ := h.Values[key].(string)
	return s
}

// Uint returns an integer value of any width, or 0.
func (h *Header) Uint(key string) uint64 {
	switch v := h.Values[key].(type) {
	case uint64:
		return v
	case int64:
		return uint64(max(v, 0))
	}
	return 0
}

// Architecture names the family of the model, in llama.cpp's terms.
func (h *Header) Architecture() string { return h.String("general.architecture") }

// TrainContext is the number of tokens that the model was trained for, 0 if unknown.
func (h *Header) TrainContext() int {
	return int(min(h.Uint(h.Architecture()+".context_length"), math.MaxInt32))
}

var splitName = regexp.MustCompile(`-\d{5}-of-\d{5}$`)

// Name returns the name of a model in a file: the file's name without its extension
// and without the number of a part.
func Name(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	return splitName.ReplaceAllString(name, "")
}

var partName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})(\.gguf)$`)

// Parts returns the files of a model: all parts when path is the first of a set,
// path alone otherwise. It fails when a part is not there, or path is a later one.
func Parts(path string) ([]string, error) {
	m := partName.FindStringSubmatch(path)
	if m == nil {
		return []string{path}, nil
	}
	if m[2] != "00001" {
		return nil, fmt.Errorf(
			"%w: %s is not the first part of its set; load %s-00001-of-%s%s", ErrFormat, path, m[1], m[3], m[4],
		)
	}
	count, err := strconv.Atoi(m[3])
	if err != nil || count < 1 {
		return nil, fmt.Errorf("%w: %s has a part number of 0", ErrFormat, path)
	}
	parts := make([]string, count)
	for i := range parts {
		parts[i] = fmt.Sprintf("%s-%05d-of-%s%s", m[1], i+1, m[3], m[4])
		if _, err := os.Stat(parts[i]); err != nil {
			return nil, fmt.Errorf("part %d of %d: %w", i+1, count, err)
		}
	}
	return parts, nil
}

// BlockSize returns the number of elements in a block of a ggml_type, and its size in
// bytes; false for an unknown type.
func BlockSize(ggmlType uint32) (elements, bytes uint64, ok bool) {
	b, ok := blocks[ggmlType]
	return b.elements, b.bytes, ok
}

// Embeds reports whether the model computes embeddings or ranks, rather than generating text.
func (h *Header) Embeds() bool {
	causal, told := h.Values[h.Architecture()+".attention.causal"].(bool)
	return h.Uint(h.Architecture()+".pooling_type") > 0 || told && !causal
}

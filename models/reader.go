package models

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// reader counts what it reads and never reads past its budget.
type reader struct {
	r    *bufio.Reader
	n    uint64 // bytes read
	size uint64 // of the file
	buf  [8]byte
}

// take accounts for n bytes that are about to be read.
func (r *reader) take(n uint64) error {
	if n > r.size-r.n {
		return fmt.Errorf("%w: it ends in the middle of its header, after %d bytes", errTruncated, r.size)
	}
	if r.n += n; r.n > maxHeader {
		return badFormat("the header is larger than %d bytes", maxHeader)
	}
	return nil
}

func (r *reader) bytes(n uint64) ([]byte, error) {
	if err := r.take(n); err != nil {
		return nil, err
	}
	b := r.buf[:]
	if n > 8 {
		b = make([]byte, n)
	}
	_, err := io.ReadFull(r.r, b[:n])
	return b[:n], err
}

func (r *reader) uint32() (uint32, error) {
	b, err := r.bytes(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (r *reader) uint64() (uint64, error) {
	b, err := r.bytes(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

func (r *reader) string(limit uint64, what string) (string, error) {
	n, err := r.uint64()
	if err != nil {
		return "", err
	}
	if n > limit {
		return "", badFormat("%s has %d bytes, more than %d", what, n, limit)
	}
	b, err := r.bytes(n)
	return string(b), err
}

func scalar(key string, kind uint32, b []byte) (any, error) {
	le := binary.LittleEndian
	switch kind {
	case typeUint8:
		return uint64(b[0]), nil
	case typeInt8:
		return int64(int8(b[0])), nil
	case typeUint16:
		return uint64(le.Uint16(b)), nil
	case typeInt16:
		return int64(int16(le.Uint16(b))), nil
	case typeUint32:
		return uint64(le.Uint32(b)), nil
	case typeInt32:
		return int64(int32(le.Uint32(b))), nil
	case typeUint64:
		return le.Uint64(b), nil
	case typeInt64:
		return int64(le.Uint64(b)), nil
	case typeFloat32:
		return float64(math.Float32frombits(le.Uint32(b))), nil
	case typeFloat64:
		return math.Float64frombits(le.Uint64(b)), nil
	}

	if b[0] > 1 {
		return nil, badFormat("the value of the key %q is neither true nor false", key)
	}

	return b[0] == 1, nil
}

// skipArray reads over an array and returns the type of its elements and their
// number.
func skipArray(r *reader, key string) (kind uint32, n uint64, err error) {
	kind, err = r.uint32()
	if err != nil {
		return kind, 0, err
	}

	n, err = r.uint64()
	if err != nil {
		return kind, 0, err
	}
	if n > maxArray {
		return kind, 0, badFormat("the array %q has %d elements, more than %d", key, n, maxArray)
	}

	if kind == typeString {
		for range n {
			length, err := r.uint64()
			if err != nil {
				return kind, 0, err
			}
			if length > maxString {
				return kind, 0, badFormat("the array %q holds a string of %d bytes", key, length)
			}
			if err := r.skip(length); err != nil {
				return kind, 0, err
			}
		}
		return kind, n, nil
	}

	size, ok := fixedSize[kind]
	if !ok {
		return kind, 0, badFormat("the array %q has elements of type %d", key, kind)
	}

	return kind, n, r.skip(n * size)
}

func (r *reader) skip(n uint64) error {
	if err := r.take(n); err != nil {
		return err
	}
	_, err := r.r.Discard(int(n))
	return err
}

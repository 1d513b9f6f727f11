// Package remote runs an engine.Runner in a child process: Serve is the child, Runner
// the parent. What the child computes with is lost when it dies; what the parent holds
// (tokens, streams, samplers' histories) is not, so that it starts another and goes on.
//
// Two sockets connect them. Over the first go steps, one at a time, by blocking calls:
// a goroutine woken by the runtime would cost more than a small model's whole step. Over
// the second go calls of many goroutines at once.
package remote

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"serve/engine"
)

// maxFrame bounds a message: an image of 50 million pixels has room, and its embeddings.
const maxFrame = 1 << 28

// errWire says that a message is not what it should be.
var errWire = errors.New("an invalid message")

// message is written from front to back. Numbers are little-endian.
type message struct{ b []byte }

// newMessage begins a message, in the memory of an old one. Its length comes first.
func newMessage(old []byte) message { return message{append(old[:0], 0, 0, 0, 0)} }

func (m *message) u8(v uint8)   { m.b = append(m.b, v) }
func (m *message) u32(v uint32) { m.b = binary.LittleEndian.AppendUint32(m.b, v) }
func (m *message) u64(v uint64) { m.b = binary.LittleEndian.AppendUint64(m.b, v) }
func (m *message) int(v int)    { m.u64(uint64(v)) }
func (m *message) f32(v float32) {
	m.u32(math.Float32bits(v))
}

func (m *message) bool(v bool) {
	n := uint8(0)
	if v {
		n = 1
	}
	m.u8(n)
}

func (m *message) bytes(v []byte) {
	m.u32(uint32(len(v)))
	m.b = append(m.b, v...)
}

func (m *message) string(v string) {
	m.u32(uint32(len(v)))
	m.b = append(m.b, v...)
}

func (m *message) i32s(v []int32) {
	m.u32(uint32(len(v)))
	for _, x := range v {
		m.u32(uint32(x))
	}
}

func (m *message) f32s(v []float32) {
	m.u32(uint32(len(v)))
	for _, x := range v {
		m.f32(x)
	}
}

func (m *message) reading(v engine.Reading) {
	m.bool(v.Control)
	m.bool(v.Ends)
	m.u32(uint32(len(v.Quoted)))
	for _, q := range v.Quoted {
		m.int(q.From)
		m.int(q.To)
	}
}

// send writes a message in one call. One that is too large is an engine.ErrRequest, and not written.
func (m *message) send(w io.Writer) error {
	if len(m.b)-4 > maxFrame {
		return fmt.Errorf("%w: a message of %d bytes (maximum %d)", engine.ErrRequest, len(m.b), maxFrame)
	}
	binary.LittleEndian.PutUint32(m.b, uint32(len(m.b)-4))
	_, err := w.Write(m.b)
	return err
}

// part is how much memory is made ready for a message before that much of it has come.
const part = 1 << 20

// receive reads the bytes of a message, in the memory of an old one. The other end's word alone
// takes no memory: there is only as much as came, twice, and a part.
func receive(r *bufio.Reader, old []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.LittleEndian.Uint32(head[:]))
	if n > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes", errWire, n)
	}

	old = old[:0]
	for len(old) < n {
		from := len(old)
		old = slices.Grow(old, min(n-from, part))
		old = old[:min(n, cap(old))]
		if _, err := io.ReadFull(r, old[from:]); err != nil {
			return old, err
		}
	}
	return old, nil
}

// reader reads a message from front to back. After an error it reads zeros.
type reader struct {
	b   []byte
	err error
}

// fail says that the message makes no sense.
func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{errWire}, args...)...)
	}
	r.b = nil
}

// take returns the next n bytes, nil when they are not there.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("%d bytes where %d are left", n, len(r.b))
		return nil
	}
	part := r.b[:n]
	r.b = r.b[n:]
	return part
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) int() int       { return int(r.u64()) }
func (r *reader) f32() float32   { return math.Float32frombits(r.u32()) }
func (r *reader) bool() bool     { return r.u8() == 1 }
func (r *reader) string() string { return string(r.bytes()) }

// bytes returns bytes that are valid as long as the message is.
func (r *reader) bytes() []byte { return r.take(int(r.u32())) }

// count reads the length of a list whose elements take at least so many bytes each.
func (r *reader) count(size int) int {
	n := int(r.u32())
	if n > len(r.b)/size {
		r.fail("a list of %d where %d bytes are left", n, len(r.b))
		return 0
	}
	return n
}

// i32s appends a list to an old one.
func (r *reader) i32s(old []int32) []int32 {
	for range r.count(4) {
		old = append(old, int32(r.u32()))
	}
	return old
}

func (r *reader) f32s(old []float32) []float32 {
	for range r.count(4) {
		old = append(old, r.f32())
	}
	return old
}

func (r *reader) reading() (v engine.Reading) {
	v.Control = r.bool()
	v.Ends = r.bool()
	for range r.count(16) {
		v.Quoted = append(v.Quoted, engine.Range{From: r.int(), To: r.int()})
	}
	return v
}

// end returns what went wrong, also that something is left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("%w: %d bytes too many", errWire, len(r.b))
	}
	return r.err
}

// Errors that a caller tells apart cross as a number.
var kinds = []error{
	nil, engine.ErrNoSlot, engine.ErrAborted, engine.ErrInvalidBatch, engine.ErrFatal, engine.ErrRequest, engine.ErrCannot,
	engine.ErrTooComplex, // after ErrRequest, which it is, too
}

// The numbers that are none of those.
const (
	plainError  = 254
	lengthError = 255
)

// err writes an error, or that there is none.
func (m *message) err(err error) {
	var length *engine.LengthError
	if errors.As(err, &length) {
		m.u8(lengthError)
		m.int(length.Tokens)
		m.int(length.Limit)
		m.bool(length.AtLeast)
		return
	}
	if err == nil {
		m.u8(0)
		return
	}
	kind := uint8(plainError)
	for i, known := range kinds {
		if known != nil && errors.Is(err, known) {
			kind = uint8(i)
		}
	}
	m.u8(kind)
	m.string(err.Error())
}

// remoteError is an error of the child: its text, and what it is.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

// failure reads an error; nil when there is none.
func (r *reader) failure() error {
	switch kind := r.u8(); {
	case kind == 0:
		return nil
	case kind == lengthError:
		return &engine.LengthError{Tokens: r.int(), Limit: r.int(), AtLeast: r.bool()}
	case kind == plainError:
		return errors.New(r.text())
	case int(kind) < len(kinds):
		return &remoteError{r.text(), kinds[kind]}
	}
	r.fail("an error of an unknown kind")
	return nil
}

// encode returns JSON in which only what must be is escaped: "<" would take six bytes.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// samplerSpec is all that a sampler is made of, as JSON.
type samplerSpec struct {
	engine.Sampling
	Rules engine.Grammar
	Past  []engine.Token
}

func specOf(s engine.Sampling, drawn []engine.Token) samplerSpec {
	return samplerSpec{s, s.Grammar, append(append([]engine.Token{}, s.Drawn...), drawn...)}
}

func (s samplerSpec) sampling() engine.Sampling {
	s.Grammar = s.Rules
	s.Drawn = s.Past
	return s.Sampling
}

// What a message on the socket of steps asks for.
const (
	askStep = iota + 1
	askRemove
	askEmbed
	askSave
	askRestore
)

// What a call asks for.
const (
	askLoad = iota + 1
	askTokenize
	askEncodeImage
	askSampler
	askRender
	askParser
	askParse
	askNothing
	askCheck
)

// batch writes a batch.
func (m *message) batch(b *engine.Batch) {
	m.i32s(b.Tokens)
	m.i32s(b.Positions)
	m.i32s(b.Sequences)
	m.u32(uint32(len(b.Outputs)))
	for _, o := range b.Outputs {
		m.u8(uint8(o))
	}
	m.f32s(b.Embeddings)
	m.i32s(b.Grid)
	m.bool(b.Whole)
	m.bool(b.Reproducible)
}

func (r *reader) batch(b *engine.Batch) {
	b.Tokens = r.i32s(b.Tokens[:0])
	b.Positions = r.i32s(b.Positions[:0])
	b.Sequences = r.i32s(b.Sequences[:0])
	b.Outputs = b.Outputs[:0]
	for _, o := range r.take(r.count(1)) {
		b.Outputs = append(b.Outputs, int8(o))
	}
	b.Embeddings = r.f32s(b.Embeddings[:0])
	b.Grid = r.i32s(b.Grid[:0])
	b.Whole = r.bool()
	b.Reproducible = r.bool()
}

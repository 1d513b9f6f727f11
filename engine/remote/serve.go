package remote

import (
	"bufio"
	"bytes"
	"container/list"
	"crypto/sha256"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"serve/engine"
)

// Conn is a child's or a parent's end of the two sockets.
type Conn struct{ Steps, Calls io.ReadWriteCloser }

// Open loads what a parent asks for. It returns nil instead of a Runner when it
// cannot; the answer, which is the caller's own business, then says why.
type Open func(request []byte) (r engine.Runner, answer []byte)

// facts are what a parent must know of a Runner, as gob.
type facts struct {
	Model  engine.Model
	Limits engine.Limits
}

// child serves one Runner.
type child struct {
	runner engine.Runner

	mu       sync.Mutex
	samplers map[uint64]engine.Sampler
	parsers  map[[sha256.Size]byte]*list.Element // of recent
	recent   *list.List                          // *knownParser, the last used first

	write sync.Mutex // of the socket of calls
	calls io.Writer

	failed atomic.Pointer[error] // why this process is of no use any more
}

// knownParser is a parser by the hash of what it was made of.
type knownParser struct {
	key   [sha256.Size]byte
	parse engine.ParseFunc
}

// maxParsers is how many parsers a child keeps. A parent that asks for another one
// sends what it is made of again.
const maxParsers = 256

// Serve loads what the parent asks for and computes until it has gone, which is no
// error. It takes over the calling goroutine's thread.
func Serve(c Conn, open Open) error {
	calls := bufio.NewReaderSize(c.Calls, 64<<10)
	first, err := receive(calls, nil)
	if err != nil {
		return fmt.Errorf("wait for what to load: %w", err)
	}
	r := reader{b: first}
	id, ask, request := r.u32(), r.u8(), r.bytes()
	if err := r.end(); err != nil || ask != askLoad {
		return fmt.Errorf("wait for what to load: %w", errors.Join(err, errWire))
	}
	ch := &child{samplers: map[uint64]engine.Sampler{}, parsers: map[[sha256.Size]byte]*list.Element{}, recent: list.New(), calls: c.Calls}
	runner, answer := open(request)
	var known bytes.Buffer
	if runner != nil {
		defer runner.Close()
		ch.runner = runner
		if err := gob.NewEncoder(&known).Encode(facts{*runner.Model(), runner.Limits()}); err != nil {
			return fmt.Errorf("describe the model: %w", err)
		}
	}
	m := newMessage(nil)
	m.u32(id)
	m.err(nil)
	m.bytes(answer)
	m.bytes(known.Bytes())
	known = bytes.Buffer{}
	// A vocabulary leaves tens of megabytes of garbage behind, and nothing as large comes again.
	debug.FreeOSMemory()
	if err := m.send(c.Calls); err != nil || runner == nil {
		return err
	}
	go ch.serveCalls(calls, c.Steps)
	defer ch.closeSamplers()
	err = ch.serveSteps(c.Steps)
	if failed := ch.failed.Load(); failed != nil {
		return *failed
	}
	return err
}

// fatal reports whether an error means that nothing can be relied on any more. The
// process ends then, and the parent starts another.
func (c *child) fatal(err error) bool {
	if !errors.Is(err, engine.ErrFatal) {
		return false
	}
	c.failed.Store(&err)
	return true
}

func (c *child) closeSamplers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.samplers {
		s.Close()
	}
}

// gone makes the end of a connection no error.
func gone(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// serveSteps answers the loop of the parent.
func (c *child) serveSteps(conn io.ReadWriter) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in := bufio.NewReaderSize(conn, 64<<10)
	var frame []byte
	var out message
	var batch engine.Batch
	var rows []engine.Row
	for {
		var err error
		if frame, err = receive(in, frame); err != nil {
			return gone(err)
		}
		r := reader{b: frame}
		ask := r.u8()
		err = c.change(&r)
		out = newMessage(out.b)
		switch ask {
		case askStep:
			r.batch(&batch)
			rows = c.readRows(&r, rows[:0])
			if err := errors.Join(err, r.end()); err != nil {
				return err
			}
			if c.step(&out, &batch, rows) {
				return nil
			}
		case askRemove:
			seq, from := r.int(), r.int()
			if err := errors.Join(err, r.end()); err != nil {
				return err
			}
			out.bool(c.runner.RemoveKV(seq, from))
		case askEmbed:
			inputs := make([][]engine.Token, r.count(4))
			for i := range inputs {
				inputs[i] = r.i32s(nil)
			}
			if err := errors.Join(err, r.end()); err != nil {
				return err
			}
			vectors, err := c.runner.Embed(inputs)
			if c.fatal(err) {
				return nil
			}
			out.err(err)
			out.u32(uint32(len(vectors)))
			for _, v := range vectors {
				out.f32s(v)
			}
		default:
			return errWire
		}
		if err := out.send(conn); err != nil {
			return gone(err)
		}
	}
}

// change does what comes before any answer: samplers to free and to make anew, and
// changes of the KV cache that cannot fail.
func (c *child) change(r *reader) error {
	c.mu.Lock()
	for range r.count(8) {
		id := r.u64()
		if s := c.samplers[id]; s != nil {
			s.Close()
			delete(c.samplers, id)
		}
	}
	c.mu.Unlock()
	for range r.count(8) {
		id, text := r.u64(), r.bytes()
		if err := c.newSampler(id, text); err != nil {
			return err
		}
	}
	for range r.count(16) {
		src, dst := r.int(), r.int()
		if src < 0 {
			c.runner.RemoveKV(dst, 0)
		} else {
			c.runner.CopyKV(src, dst)
		}
	}
	return r.err
}

func (c *child) newSampler(id uint64, text []byte) error {
	var spec samplerSpec
	if err := json.Unmarshal(text, &spec); err != nil {
		return fmt.Errorf("%w: %w", errWire, err)
	}
	s, err := c.runner.NewSampler(spec.sampling())
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.samplers[id]; old != nil {
		old.Close()
	}
	c.samplers[id] = s
	return nil
}

func (c *child) readRows(r *reader, rows []engine.Row) []engine.Row {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range r.count(8) {
		id := r.u64()
		row := engine.Row{Index: r.int(), Top: r.int(), Token: int32(r.u32())}
		if id > 0 {
			s, ok := c.samplers[id]
			if !ok {
				r.err = fmt.Errorf("%w: there is no sampler %d", errWire, id)
				return rows
			}
			row.Sampler = s
		}
		if len(rows) < cap(rows) {
			row.Alternatives = rows[:len(rows)+1][len(rows)].Alternatives
		}
		rows = append(rows, row)
	}
	return rows
}

func (c *child) step(out *message, batch *engine.Batch, rows []engine.Row) (fatal bool) {
	err := c.runner.Step(batch, rows)
	if out.err(err); err != nil {
		return c.fatal(err)
	}
	for i := range rows {
		row := &rows[i]
		if out.err(row.Err); row.Err != nil {
			continue
		}
		out.u32(uint32(row.Token))
		out.f32(row.LogProb)
		out.u32(uint32(len(row.Alternatives)))
		for _, a := range row.Alternatives {
			out.u32(uint32(a.Token))
			out.f32(a.LogProb)
		}
	}
	return false
}

// serveCalls answers each call on a goroutine of its own. When the parent's end is
// not what it should be, it closes the steps, which ends the process.
func (c *child) serveCalls(in *bufio.Reader, steps io.Closer) {
	for {
		frame, err := receive(in, nil)
		if err != nil {
			steps.Close()
			return
		}
		go func() {
			r := reader{b: frame}
			out := newMessage(nil)
			out.u32(r.u32())
			if c.fatal(c.call(&r, &out)) {
				steps.Close()
				return
			}
			c.write.Lock()
			defer c.write.Unlock()
			if out.send(c.calls) != nil {
				steps.Close()
			}
		}()
	}
}

// call answers one: an error, which it returns too, or none and what was asked for.
func (c *child) call(r *reader, out *message) (err error) {
	switch ask := r.u8(); ask {
	case askTokenize:
		text, control, ends := r.string(), r.bool(), r.bool()
		var tokens []engine.Token
		tokens, err = c.runner.Tokenize(text, control, ends)
		out.err(err)
		out.i32s(tokens)
	case askSee:
		img := &engine.Image{Width: r.int(), Height: r.int()}
		limit := r.int()
		img.Pixels = r.bytes()
		var chunks []engine.Chunk
		chunks, err = c.runner.See(img, limit)
		out.err(err)
		out.chunks(chunks)
	case askSampler:
		id, text := r.u64(), r.bytes()
		err = c.newSampler(id, text)
		out.err(err)
	case askRender:
		var chat engine.Chat
		err = json.Unmarshal(r.bytes(), &chat)
		var text []byte
		if err == nil {
			var rendered *engine.Rendered
			if rendered, err = c.runner.Render(chat); err == nil {
				text, err = json.Marshal(rendered)
			}
		}
		out.err(err)
		out.bytes(text)
	case askParser:
		spec := r.string()
		var parse engine.ParseFunc
		if parse, err = c.runner.Parser(spec); err == nil {
			c.keepParser(sha256.Sum256([]byte(spec)), parse)
		}
		out.err(err)
	case askParse:
		key, text, partial := r.take(sha256.Size), r.string(), r.bool()
		if r.err != nil {
			out.err(r.err)
			return r.err
		}
		parse := c.parser([sha256.Size]byte(key))
		if parse == nil {
			out.err(nil)
			out.bool(false)
			return nil
		}
		var m engine.Message
		m, err = parse(text, partial)
		if out.err(err); err == nil {
			out.bool(true)
			out.parsed(&m)
		}
	default:
		err = fmt.Errorf("%w: call %d", errWire, ask)
		out.err(err)
	}
	return err
}

func (c *child) keepParser(key [sha256.Size]byte, parse engine.ParseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parsers[key] != nil {
		return
	}
	c.parsers[key] = c.recent.PushFront(&knownParser{key, parse})
	if c.recent.Len() > maxParsers {
		last := c.recent.Back()
		delete(c.parsers, last.Value.(*knownParser).key)
		c.recent.Remove(last)
	}
}

// parser returns one that is kept, or nil.
func (c *child) parser(key [sha256.Size]byte) engine.ParseFunc {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.parsers[key]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*knownParser).parse
}

// parsed writes a parsed answer.
func (m *message) parsed(v *engine.Message) {
	m.string(v.Content)
	m.string(v.Reasoning)
	m.u32(uint32(len(v.ToolCalls)))
	for _, call := range v.ToolCalls {
		m.string(call.ID)
		m.string(call.Name)
		m.string(call.Arguments)
	}
}

func (r *reader) parsed() (v engine.Message) {
	v.Content, v.Reasoning = r.string(), r.string()
	for range r.count(12) {
		v.ToolCalls = append(v.ToolCalls, engine.ToolCall{ID: r.string(), Name: r.string(), Arguments: r.string()})
	}
	return v
}

// chunks writes what an image looks like.
func (m *message) chunks(chunks []engine.Chunk) {
	m.u32(uint32(len(chunks)))
	for _, c := range chunks {
		m.i32s(c.Tokens)
		m.bool(c.Media != nil)
		if c.Media != nil {
			m.f32s(c.Media.Embeddings)
			m.int(c.Media.Len)
			m.int(c.Media.Span)
			m.i32s(c.Media.Grid)
			m.bool(c.Media.Whole)
		}
	}
}

// chunks reads it, for a model that takes embeddings of so many floats.
func (r *reader) chunks(size int) (chunks []engine.Chunk) {
	for range r.count(5) {
		c := engine.Chunk{Tokens: r.i32s(nil)}
		if r.bool() {
			c.Media = &engine.Media{Embeddings: r.f32s(nil), Len: r.int(), Span: r.int(), Grid: r.i32s(nil), Whole: r.bool()}
			if n := c.Media.Len; n < 1 || len(c.Media.Embeddings)/n != size || len(c.Media.Embeddings)%n > 0 || c.Media.Span < 1 || len(c.Media.Grid) > 0 && len(c.Media.Grid)/4 != n {
				r.fail("an image of %d embeddings in %d floats", n, len(c.Media.Embeddings))
			}
			if len(c.Media.Grid) == 0 {
				c.Media.Grid = nil
			}
		}
		chunks = append(chunks, c)
	}
	return chunks
}

package remote

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"serve/engine"
)

// Conn is a child's or a parent's end of the two sockets.
type Conn struct{ Steps, Calls io.ReadWriteCloser }

// Model is what a child computes with: all of a model, or only one of the two.
type Model struct {
	Runner     engine.Runner
	Text       engine.Text
	Vocabulary int // tokens that a Text without a Runner knows
	Close      func()

	// Release, if it is not nil, gives memory that was freed back to the system, Go's and C's. It is called after
	// the load and after large calls, on any goroutine.
	Release func()
}

// Open loads what a parent asks for. It returns nil instead of a Model when it
// cannot; the answer, which is the caller's own business, then says why.
type Open func(request []byte) (m *Model, answer []byte)

// facts are what a parent must know of a Model: of a Runner, or how many tokens a Text alone knows.
type facts struct {
	Model      engine.ModelInfo
	Limits     engine.Limits
	Vocabulary int
}

// facts returns what a parent must know, encoded; nothing of no model.
func (m *Model) facts() []byte {
	switch {
	case m == nil:
		return nil
	case m.Runner == nil:
		return (&facts{Vocabulary: m.Vocabulary}).encode()
	}
	return (&facts{Model: *m.Runner.Model(), Limits: m.Runner.Limits()}).encode()
}

// child serves one Model.
type child struct {
	runner engine.Runner
	text   engine.Text
	clocks clocks // of the calls

	releaser releaser

	mu       sync.Mutex
	samplers map[uint64]engine.Sampler
	parsers  map[uint64]*liveParser

	write sync.Mutex // of the socket of calls
	calls io.Writer

	failed atomic.Pointer[error] // why this process is of no use any more
}

// Serve loads what the parent asks for and computes until it has gone, which is no
// error. It takes over the calling goroutine's thread.
func Serve(c Conn, open Open) error {
	calls := bufio.NewReaderSize(c.Calls, 64<<10)
	first, err := receive(calls, nil)
	if err != nil {
		return fmt.Errorf("wait for the load request: %w", err)
	}

	r := reader{b: first}
	id := r.u32()
	_ = r.u64() // a load has no limit of CPU time
	_ = r.bool()
	ask := r.u8()
	request := r.bytes()
	if err := r.end(); err != nil || ask != askLoad {
		return fmt.Errorf("wait for the load request: %w", errors.Join(err, errWire))
	}

	ch := &child{samplers: map[uint64]engine.Sampler{}, parsers: map[uint64]*liveParser{}, calls: c.Calls}
	release := debug.FreeOSMemory
	model, answer := open(request)
	if model != nil {
		defer model.Close()
		ch.runner = model.Runner
		ch.text = model.Text
		if model.Release != nil {
			release = model.Release
			ch.releaser.release = release
		}
	}

	m := newMessage(nil)
	m.u32(id)
	m.err(nil)
	m.bytes(answer)
	m.bytes(model.facts())
	release() // a vocabulary leaves tens of megabytes of garbage behind
	if err := m.send(c.Calls); err != nil || model == nil {
		return err
	}

	go ch.serveCalls(calls, c.Steps)
	defer ch.closeAll()
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

func (c *child) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.samplers {
		s.Close()
	}
	for _, p := range c.parsers {
		p.close()
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
	var b stepBuffers
	for {
		var err error
		if frame, err = receive(in, frame); err != nil {
			return gone(err)
		}
		if c.runner == nil {
			return errWire
		}

		fatal, err := c.serveStep(&reader{b: frame}, &b)
		if fatal || err != nil {
			return err
		}
		if err := b.out.send(conn); err != nil {
			return gone(err)
		}
	}
}

// stepBuffers are used again for each message of the loop.
type stepBuffers struct {
	out   message
	batch engine.Batch
	rows  []engine.Row
}

// serveStep does what one message of the loop asks for. Fatal means that the child must end.
func (c *child) serveStep(r *reader, b *stepBuffers) (fatal bool, err error) {
	ask := r.u8()
	err = c.change(r)
	b.out = newMessage(b.out.b)
	switch ask {
	case askStep:
		r.batch(&b.batch)
		b.rows = c.readRows(r, b.rows[:0])
		if err := errors.Join(err, r.end()); err != nil {
			return false, err
		}
		return c.step(&b.out, &b.batch, b.rows), nil

	case askRemove:
		seq := r.int()
		from := r.int()
		if err := errors.Join(err, r.end()); err != nil {
			return false, err
		}
		b.out.bool(c.runner.RemoveKV(seq, from))
		return false, nil

	case askEmbed:
		inputs := make([][]engine.Token, r.count(4))
		for i := range inputs {
			inputs[i] = r.i32s(nil)
		}
		if err := errors.Join(err, r.end()); err != nil {
			return false, err
		}
		return c.embed(&b.out, inputs), nil

	case askSave:
		seq := r.int()
		region := readRegion(r)
		if err := errors.Join(err, r.end()); err != nil {
			return false, err
		}
		return c.save(&b.out, seq, region), nil

	case askRestore:
		seq := r.int()
		saved := engine.Saved{
			Region: readRegion(r),
			Sum:    r.u32(),
		}
		if err := errors.Join(err, r.end()); err != nil {
			return false, err
		}
		return c.restore(&b.out, seq, saved), nil

	default:
		return false, errWire
	}
}

// readRegion reads a region of the memory for saved sequences.
func readRegion(r *reader) engine.Region {
	at := int64(r.u64())
	return engine.Region{
		At:   at,
		Size: int64(r.u64()),
	}
}

// embed computes vectors. Fatal means that the child must end.
func (c *child) embed(out *message, inputs [][]engine.Token) (fatal bool) {
	vectors, err := c.runner.Embed(inputs, false)
	if c.fatal(err) {
		return true
	}

	out.err(err)
	out.u32(uint32(len(vectors)))
	for _, v := range vectors {
		out.f32s(v)
	}
	return false
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
		id := r.u64()
		text := r.bytes()
		if err := c.newSampler(id, text); err != nil {
			return err
		}
	}

	for range r.count(16) {
		src := r.int()
		dst := r.int()
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
		row := engine.Row{Index: r.int(), Top: r.int(), Token: int32(r.u32()), Draft: r.bool()}
		if id > 0 {
			s, ok := c.samplers[id]
			if !ok {
				r.err = fmt.Errorf("%w: no sampler has the ID %d", errWire, id)
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
		out.bool(row.Refused)
		if row.Refused {
			continue
		}
		if out.err(row.Err); row.Err != nil {
			continue
		}
		out.u32(uint32(row.Token))
		out.f32(row.LogProb)
		out.bool(row.OnBackend)
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
		c.releaser.begin(len(frame))
		go func() {
			answered, err := c.answer(frame)
			if err != nil {
				steps.Close()
			}
			c.releaser.end(answered)
		}()
	}
}

// answer answers one call, unless the clock has done so, and returns the size of the answer in bytes. An error means
// that the process is of no use any more.
func (c *child) answer(frame []byte) (bytes int, err error) {
	r := reader{b: frame}
	id := r.u32()
	limit := time.Duration(r.u64())
	late := r.bool()
	out := newMessage(nil)
	out.u32(id)

	l := lane{long: c.runner == nil && (late || len(frame) > longCall)}
	if limit > 0 {
		l.clock = c.clocks.start(limit, func() {
			over := newMessage(nil)
			over.u32(id)
			over.err(fmt.Errorf("%w: it takes more than %v of CPU time to read", engine.ErrTooComplex, limit))
			_ = c.send(&over) // if the parent is gone, the process ends anyway
		})
	}
	err = c.call(&r, &out, l)
	if !l.clock.stop() {
		return len(out.b), nil
	}
	if c.fatal(err) {
		return 0, err
	}
	return len(out.b), c.send(&out)
}

// send writes a reply. One that is too large is an error of the call.
func (c *child) send(m *message) error {
	c.write.Lock()
	defer c.write.Unlock()
	err := m.send(c.calls)
	if errors.Is(err, engine.ErrRequest) {
		short := newMessage(nil)
		short.b = append(short.b, m.b[4:8]...)
		short.err(err)
		err = short.send(c.calls)
	}
	return err
}

// call answers one: an error, which it returns too, or none and what was asked for.
func (c *child) call(r *reader, out *message, l lane) (err error) {
	ask := r.u8()
	if missing := c.lacks(ask); missing != nil {
		out.err(missing)
		return missing
	}
	switch ask {
	case askCheck:
		err = c.check(r.bytes(), l)
		out.err(err)
	case askTokenize:
		text := r.string()
		how := r.reading()
		var tokens []engine.Token
		l.run(func() { tokens, err = c.text.Tokenize(context.Background(), text, how) })
		out.err(err)
		out.i32s(tokens)

	case askEncodeImage:
		img := &engine.Bitmap{Width: r.int(), Height: r.int()}
		limit := r.int()
		img.Pixels = r.bytes()
		var chunks []engine.Chunk
		chunks, err = c.runner.EncodeImage(img, limit)
		out.err(err)
		out.chunks(chunks)

	case askSampler:
		id := r.u64()
		text := r.bytes()
		err = c.newSampler(id, text)
		out.err(err)
	case askRender:
		err = c.render(r, out, l)
	case askParser:
		err = c.makeParser(r, l)
		out.err(err)
	case askParse:
		err = c.parse(r, out)
	case askNothing:
		out.err(nil)
	default:
		err = fmt.Errorf("%w: call %d", errWire, ask)
		out.err(err)
	}

	return err
}

// check compiles a sampler's grammar and forgets it.
func (c *child) check(text []byte, l lane) (err error) {
	var spec samplerSpec
	if err := json.Unmarshal(text, &spec); err != nil {
		return fmt.Errorf("%w: %w", errWire, err)
	}
	l.run(func() { err = c.text.Check(context.Background(), spec.sampling()) })
	return err
}

// render answers with a rendered chat, and with the tokens of a short prompt if they are wanted. Why they could not be
// had is told when they are asked for alone.
func (c *child) render(r *reader, out *message, l lane) error {
	var chat engine.Chat
	err := json.Unmarshal(r.bytes(), &chat)
	var rendered *engine.Rendered
	var tokens []engine.Token
	if err == nil {
		l.run(func() {
			rendered, err = c.text.Render(context.Background(), chat)
			if err != nil || !chat.Split || len(rendered.Prompt) > longCall {
				return
			}
			tokens, _ = c.text.Tokenize(context.Background(), rendered.Prompt, engine.ReadPrompt(rendered.Quoted))
		})
	}

	var text []byte
	if err == nil {
		text, err = encode(rendered)
	}
	out.err(err)
	out.bytes(text)
	out.i32s(tokens)
	return err
}

// lacks fails if what is asked for needs a part of the model that this child has not.
func (c *child) lacks(ask uint8) error {
	switch ask {
	case askNothing:
		return nil
	case askEncodeImage, askSampler:
		if c.runner == nil {
			return fmt.Errorf("%w: call %d to a process without weights", errWire, ask)
		}
	default:
		if c.text == nil {
			return fmt.Errorf("%w: call %d to a process without a vocabulary", errWire, ask)
		}
	}
	return nil
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
			n := c.Media.Len
			if n < 1 || c.Media.Span < 1 || len(c.Media.Embeddings)/n != size || len(c.Media.Embeddings)%n > 0 ||
				len(c.Media.Grid) > 0 && len(c.Media.Grid)/4 != n {
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

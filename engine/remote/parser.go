package remote

import (
	"context"
	"errors"

	"serve/engine"
)

// parser is the parser of one answer, which lives in the child: only new text is sent,
// and only what is new of the answer comes back. What was sent so far is kept here, in the
// pieces in which it was sent, so that a child that takes the place of another can be
// brought to the same state; what it returns meanwhile was returned before.
type parser struct {
	r      *Runner
	ctx    context.Context
	id     uint64
	spec   string
	pieces []string
	calls  int   // that have come
	failed error // it crashed a child, and is not tried again
}

// Parser asks the child to make a parser.
func (r *Runner) Parser(ctx context.Context, spec string) (engine.Parser, error) {
	p := &parser{r: r, ctx: ctx, id: r.nextID.Add(1), spec: spec}
	if err := p.make(nil); err != nil {
		p.Close() // the child may have made it
		return nil, err
	}
	return p, nil
}

// make has the child make the parser and read pieces of text.
func (p *parser) make(pieces []string) error {
	closed := p.r.closedParsers()
	in, err := p.r.ask(p.ctx, "parser", func(m *message) {
		m.u8(askParser)
		m.u32(uint32(len(closed)))
		for _, id := range closed {
			m.u64(id)
		}
		m.u64(p.id)
		m.string(p.spec)
		m.u32(uint32(len(pieces)))
		for _, text := range pieces {
			m.string(text)
		}
	})
	if in == nil {
		p.r.closeParsers(closed...) // they may not have been sent
	}
	return done(in, err)
}

// Append sends the child what is new.
func (p *parser) Append(text string, last bool) (d engine.Delta, err error) {
	if p.failed != nil {
		return d, p.failed
	}
	before := p.pieces
	p.pieces = append(p.pieces, text)
	d, known, err := p.append(len(before), text, last)

	// A child that was started meanwhile does not know it.
	for attempt := 0; !known && err == nil; attempt++ {
		if attempt == maxFailures {
			err = errors.New("the engine's process keeps losing its parser")
			break
		}
		if err = p.make(before); err == nil {
			d, known, err = p.append(len(before), text, last)
		}
	}

	if errors.Is(err, engine.ErrCrashed) || errors.Is(err, engine.ErrTooComplex) {
		p.failed = err
	}
	return d, err
}

// append fails to be known by a child that has not read as many pieces before.
func (p *parser) append(before int, text string, last bool) (d engine.Delta, known bool, err error) {
	in, err := p.r.ask(p.ctx, "parse", func(m *message) {
		m.u8(askParse)
		m.u64(p.id)
		m.int(before)
		m.string(text)
		m.bool(last)
	})
	if err != nil {
		return d, false, err
	}
	if known = in.bool(); known {
		d = in.delta(p.calls)
	}
	for _, c := range d.ToolCalls {
		p.calls = max(p.calls, c.Index+1)
	}
	return d, known, in.end()
}

// Close has the child free it when it makes the next parser.
func (p *parser) Close() { p.r.closeParsers(p.id) }

// closeParsers has the child free parsers when it makes the next one. It ignores those that it does not have.
func (r *Runner) closeParsers(ids ...uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = append(r.closed, ids...)
}

// closedParsers returns the parsers that the child need not keep any more.
func (r *Runner) closedParsers() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	closed := r.closed
	r.closed = nil
	return closed
}

// delta writes what is new of an answer.
func (m *message) delta(d *engine.Delta) {
	m.string(d.Content)
	m.string(d.Reasoning)
	m.u32(uint32(len(d.ToolCalls)))
	for i := range d.ToolCalls {
		c := &d.ToolCalls[i]
		m.int(c.Index)
		m.string(c.ID)
		m.string(c.Name)
		m.string(c.Arguments)
	}
}

// delta reads it, of an answer that has had so many calls.
func (r *reader) delta(calls int) (d engine.Delta) {
	d.Content = r.string()
	d.Reasoning = r.string()
	for range r.count(20) {
		c := engine.ToolCallDelta{Index: r.int(), ID: r.string(), Name: r.string(), Arguments: r.string()}
		if c.Index < 0 || c.Index > calls+maxCalls {
			r.fail("tool call %d after %d", c.Index, calls)
		}
		calls = max(calls, c.Index+1)
		d.ToolCalls = append(d.ToolCalls, c)
	}
	return d
}

package remote

import (
	"context"
	"sync"

	"serve/engine"
)

// makeParser frees the parsers that are of no use any more and makes one, which reads what
// the parent had another child's read.
func (c *child) makeParser(r *reader, l lane) error {
	var closed []*liveParser
	c.mu.Lock()
	for range r.count(8) {
		id := r.u64()
		if p := c.parsers[id]; p != nil {
			closed = append(closed, p)
			delete(c.parsers, id)
		}
	}
	c.mu.Unlock()
	for _, p := range closed {
		p.close()
	}

	id := r.u64()
	spec := r.string()
	pieces := make([]string, r.count(4))
	for i := range pieces {
		pieces[i] = r.string()
	}
	if r.err != nil {
		return r.err
	}

	// It can be closed while it is made.
	live := &liveParser{}
	c.mu.Lock()
	old := c.parsers[id]
	c.parsers[id] = live
	c.mu.Unlock()
	if old != nil {
		old.close()
	}

	var parser engine.Parser
	var err error
	l.run(func() {
		parser, err = c.text.Parser(context.Background(), spec)
		for _, text := range pieces {
			if err == nil {
				_, _ = parser.Append(text, false) // as was returned before
			}
		}
	})
	if err != nil {
		return err
	}
	live.made(parser, len(pieces))
	return nil
}

// parse has a parser read on. The answer is whether there is one that has read what came
// before, and then what is new.
func (c *child) parse(r *reader, out *message) error {
	id := r.u64()
	before := r.int()
	text := r.string()
	last := r.bool()
	if err := r.end(); err != nil {
		out.err(err)
		return err
	}
	c.mu.Lock()
	p := c.parsers[id]
	c.mu.Unlock()
	if p == nil {
		out.err(nil)
		out.bool(false)
		return nil
	}

	d, known, err := p.append(before, text, last)
	if out.err(err); err != nil {
		return err
	}
	out.bool(known)
	if known {
		out.delta(&d)
	}
	return nil
}

// liveParser is a parser of one answer. Calls for it come one after another, unless the
// parent gave up one of them.
type liveParser struct {
	mu            sync.Mutex
	engine.Parser // nil until it is made

	pieces int // that it has read
	closed bool
}

// made makes use of a parser that has read so many pieces, unless nobody wants it any more.
func (p *liveParser) made(parser engine.Parser, pieces int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		parser.Close()
		return
	}
	p.Parser = parser
	p.pieces = pieces
}

func (p *liveParser) append(before int, text string, last bool) (d engine.Delta, known bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.Parser == nil || p.pieces != before {
		return d, false, nil
	}
	p.pieces++
	d, err = p.Append(text, last)
	return d, true, err
}

func (p *liveParser) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && p.Parser != nil {
		p.Close()
	}
	p.closed = true
}

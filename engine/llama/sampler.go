package llama

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"encoding/json"
	"errors"
	"fmt"
	"unsafe"

	"serve/engine"
)

var _ engine.Sampler = (*Sampler)(nil)

// Sampler is llama.cpp's common sampler: one choice's random numbers, penalties
// and grammar.
type Sampler struct{ c *C.serve_sampler }

// samplerParams is what the shim reads: the sampling fields and the grammar's.
type samplerParams struct {
	engine.Sampling
	Grammar          string           `json:"grammar,omitempty"`
	GrammarLazy      bool             `json:"grammar_lazy,omitempty"`
	GrammarFromChat  bool             `json:"grammar_from_chat,omitempty"`
	GenerationPrompt string           `json:"generation_prompt,omitempty"`
	Triggers         []engine.Trigger `json:"triggers,omitempty"`
	Drawn            []engine.Token   `json:"drawn,omitempty"`
}

// NewSampler makes a sampler; it fails on a grammar that cannot be parsed and on
// a bias for a token the vocabulary lacks. The caller must Close it.
func (m *Model) NewSampler(s engine.Sampling) (*Sampler, error) {
	g := s.Grammar
	text, err := json.Marshal(samplerParams{
		Sampling:         s,
		Grammar:          g.Text,
		GrammarLazy:      g.Lazy,
		GrammarFromChat:  g.FromChat,
		GenerationPrompt: g.GenerationPrompt,
		Triggers:         g.Triggers,
		Drawn:            s.Drawn,
	})
	if err != nil {
		return nil, fmt.Errorf("create sampler: %w", err)
	}
	ctext := C.CString(string(text))
	defer C.free(unsafe.Pointer(ctext))
	var e C.serve_error
	sampler := &Sampler{C.serve_sampler_new(m.c, ctext, &e)}
	if err := goError(&e); err != nil {
		return nil, fmt.Errorf("create sampler: %w", err)
	}
	return sampler, nil
}

// Close frees the sampler.
func (s *Sampler) Close() {
	C.serve_sampler_free(s.c)
	s.c = nil
}

// rowBuffers are kept from step to step, so that sampling allocates nothing.
type rowBuffers struct {
	rows     []C.serve_row
	tokens   []C.int32_t
	logprobs []C.float
}

// step decodes a batch and draws every row's token: by the decode, where the logits are, or after it.
func (c *Context) step(b *engine.Batch, rows []engine.Row, buf *rowBuffers) error {
	if err := c.plan(b, rows, buf); err != nil {
		return err
	}
	if err := c.Decode(b); err != nil {
		return err
	}
	return c.sample(b, rows, buf)
}

// plan tells the next decode which rows are drawn after it.
func (c *Context) plan(b *engine.Batch, rows []engine.Row, buf *rowBuffers) error {
	if !c.opts.BackendSampling {
		return nil
	}

	if _, err := buf.fill(b, rows); err != nil {
		return err
	}
	var e C.serve_error
	C.serve_plan(c.c, C.int32_t(len(rows)), unsafe.SliceData(buf.rows), &e)
	return goError(&e)
}

// sample draws every row's token in one C call.
func (c *Context) sample(b *engine.Batch, rows []engine.Row, buf *rowBuffers) error {
	if len(rows) == 0 {
		return nil
	}
	stride, err := buf.fill(b, rows)
	if err != nil {
		return err
	}

	var e C.serve_error
	C.serve_sample(c.c, C.int32_t(len(rows)), &buf.rows[0], C.int32_t(stride), &buf.tokens[0], &buf.logprobs[0], &e)
	err = goError(&e)
	if errors.Is(err, engine.ErrFatal) {
		return err
	}

	for i := range rows {
		buf.read(&rows[i], i, stride, err)
	}
	return nil
}

// fill makes the rows that C reads, and room for what it writes. It returns the number of alternatives
// that there is room for in each row.
func (buf *rowBuffers) fill(b *engine.Batch, rows []engine.Row) (stride int, err error) {
	buf.rows = buf.rows[:0]
	for i := range rows {
		row := C.serve_row{
			index: C.int32_t(rows[i].Index),
			n_top: C.int32_t(rows[i].Top),
			token: C.int32_t(rows[i].Token),
			draft: -1,
		}
		if rows[i].Draft {
			if i == 0 || rows[i].Index < 0 || rows[i].Index >= len(b.Tokens) || rows[i].Sampler != rows[i-1].Sampler {
				return 0, fmt.Errorf("%w: row %d is a draft after no other", engine.ErrInvalidBatch, i)
			}
			row.draft = C.int32_t(b.Tokens[rows[i].Index])
		}
		if s, ok := rows[i].Sampler.(*Sampler); ok {
			row.sampler = s.c
		}
		buf.rows = append(buf.rows, row)
		stride = max(stride, rows[i].Top)
	}

	for len(buf.tokens) < len(rows)*stride+1 {
		buf.tokens = append(buf.tokens, 0)
		buf.logprobs = append(buf.logprobs, 0)
	}
	return stride, nil
}

// read reads what C wrote of row i. Several rows rarely fail in one step; the first one's error serves
// all.
func (buf *rowBuffers) read(r *engine.Row, i, stride int, err error) {
	out := &buf.rows[i]
	r.Err = nil
	if r.Refused = bool(out.refused); r.Refused {
		return
	}
	r.Token = engine.Token(out.token)
	r.LogProb = float32(out.logprob)
	r.OnBackend = bool(out.on_backend)
	if out.code != C.SERVE_OK {
		r.Err = err
	}

	r.Alternatives = r.Alternatives[:0]
	for k := i * stride; k < i*stride+int(out.n_top); k++ {
		r.Alternatives = append(r.Alternatives, engine.TokenLogProb{
			Token:   engine.Token(buf.tokens[k]),
			LogProb: float32(buf.logprobs[k]),
		})
	}
}

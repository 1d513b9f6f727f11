package engine

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"regexp"
	"strings"
	"time"
)

// embedInput is one text to embed.
type embedInput struct {
	ticket[*embedInput]
	entry   *queueEntry // of the call
	arrived time.Time
	ctx     context.Context
	tokens  []Token
	vector  []float32
	suspect bool       // the engine crashed when it was embedded
	done    chan error // gets one value
}

// Embed returns the unit vectors of inputs, in their order, batched with other
// callers' inputs. It fails with ErrCannot, ErrRequest, a LengthError, a BusyError or
// ErrStopped.
func (e *Engine) Embed(ctx context.Context, by Caller, inputs [][]Token) ([][]float32, error) {
	if e.runner.Model().Ranks {
		return nil, fmt.Errorf("%w: it is a reranking model", ErrCannot)
	}
	vectors, err := e.compute(ctx, by, inputs)
	for _, v := range vectors {
		Normalize(v)
	}
	return vectors, err
}

// RankInputs returns what Rank reads to say how well each document answers a query. It fails as Embed does.
func (e *Engine) RankInputs(ctx context.Context, by Caller, query string, documents []string) ([][]Token, error) {
	if !e.runner.Model().Ranks {
		return nil, fmt.Errorf("%w: it is not a reranking model", ErrCannot)
	}

	inputs := make([][]Token, len(documents))
	for i, document := range documents {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var err error
		if inputs[i], err = e.rankInput(ctx, by, query, document); err != nil {
			return nil, err
		}
	}
	return inputs, nil
}

// Rank says how well documents answer queries, from 0 to 1. Its inputs are from RankInputs. It fails as Embed does.
func (e *Engine) Rank(ctx context.Context, by Caller, inputs [][]Token) (scores []float32, err error) {
	if !e.runner.Model().Ranks {
		return nil, fmt.Errorf("%w: it is not a reranking model", ErrCannot)
	}

	vectors, err := e.compute(ctx, by, inputs)
	if err != nil {
		return nil, err
	}

	scores = make([]float32, len(vectors))
	for i, v := range vectors {
		scores[i] = v[0]
		if e.runner.Model().Classes <= 1 {
			// One class comes as a logit; of several the first is a probability.
			scores[i] = float32(1 / (1 + math.Exp(-float64(v[0]))))
		}
	}

	return scores, nil
}

// rankInput writes a query and a document as the model was trained to read them:
// by its template, or one after the other with the marks between them.
func (e *Engine) rankInput(ctx context.Context, by Caller, query, document string) ([]Token, error) {
	m := e.runner.Model()
	if m.RankTemplate != "" {
		text, quoted := fillRankTemplate(m.RankTemplate, query, document)
		how := Reading{Control: true, Ends: true, Quoted: quoted}
		return e.Tokenize(ctx, by, text, how, e.limits.EmbedTokens)
	}

	var tokens []Token
	mark := func(add bool, t Token) {
		if add && t >= 0 {
			tokens = append(tokens, t)
		}
	}

	end := m.Marks.EOS
	if end < 0 {
		end = m.Marks.Separator
	}

	mark(m.Marks.AddBOS, m.Marks.BOS)
	for i, text := range []string{query, document} {
		if i > 0 {
			mark(m.Marks.AddSeparator, m.Marks.Separator)
		}
		part, err := e.Tokenize(ctx, by, text, Reading{}, e.limits.EmbedTokens)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, part...)
		mark(m.Marks.AddEOS, end)
	}

	return tokens, nil
}

// rankPlaces matches the placeholders of a RankTemplate.
var rankPlaces = regexp.MustCompile(`\{query\}|\{document\}`)

// fillRankTemplate puts a query and a document in their places, and says where they are: both at once, so that neither
// can bring the other's placeholder with it.
func fillRankTemplate(template, query, document string) (string, []Range) {
	var b strings.Builder
	var quoted []Range
	from := 0
	for _, place := range rankPlaces.FindAllStringIndex(template, -1) {
		b.WriteString(template[from:place[0]])
		from = place[1]

		text := query
		if template[place[0]:place[1]] == "{document}" {
			text = document
		}
		quoted = append(quoted, Range{b.Len(), b.Len() + len(text)})
		b.WriteString(text)
	}

	b.WriteString(template[from:])
	return b.String(), quoted
}

// compute returns what the runner makes of inputs.
func (e *Engine) compute(ctx context.Context, by Caller, inputs [][]Token) ([][]float32, error) {
	if by.Reproducible && !e.opts.Reproducible {
		return nil, ErrNotReproducible
	}
	entry := &queueEntry{Caller: by, waiting: len(inputs)}
	now := time.Now()
	work := make([]*embedInput, len(inputs))
	for i, tokens := range inputs {
		if len(tokens) == 0 {
			return nil, fmt.Errorf("%w: input %d is empty", ErrRequest, i)
		}
		if len(tokens) > e.limits.EmbedTokens {
			return nil, &LengthError{Tokens: len(tokens), Limit: e.limits.EmbedTokens}
		}
		if err := e.refusals.check(by.Tenant, hashInput(tokens), now); err != nil {
			return nil, err
		}
		size := len(e.runner.Model().Pieces)
		for _, t := range tokens {
			if t < 0 || int(t) >= size {
				return nil, fmt.Errorf("%w: token %d is outside the vocabulary (size %d)", ErrRequest, t, size)
			}
		}
		entry.tokens += len(tokens)
		work[i] = &embedInput{
			ticket:  ticket[*embedInput]{Caller: by},
			entry:   entry,
			arrived: now,
			ctx:     ctx,
			tokens:  tokens,
			done:    make(chan error, 1),
		}
	}

	if err := e.enqueueInputs(ctx, entry, work); err != nil {
		return nil, err
	}

	vectors := make([][]float32, len(inputs))
	for i, in := range work {
		select {
		case err := <-in.done:
			if err != nil {
				return nil, err
			}
			vectors[i] = in.vector
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}

	return vectors, nil
}

// enqueueInputs hands a call's inputs to the loop, all of them or none.
func (e *Engine) enqueueInputs(ctx context.Context, entry *queueEntry, inputs []*embedInput) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.admit(ctx, entry); err != nil {
		return err
	}
	e.embeds = append(e.embeds, inputs...)
	e.signal()
	return nil
}

// nextInputs takes as many inputs as one batch can hold out of the queue.
func (e *Engine) nextInputs() []*embedInput {
	var batch []*embedInput
	tokens := 0
	for {
		in, ok := e.inputs.next()
		if !ok || tokens+len(in.tokens) > e.limits.EmbedTokens || len(batch) == e.limits.EmbedInputs {
			break
		}
		tokens += len(in.tokens)
		in.account.served += float64(len(in.tokens))
		e.inputs.take(in)
		batch = append(batch, in)
	}
	// Only now: a client's account is gone with its last input.
	now := time.Now()
	for _, in := range batch {
		e.inputs.leave(in)
		e.leave(in.entry, now, true)
	}
	return batch
}

// settle ends an input that is in the queue.
func (e *Engine) settle(in *embedInput, err error) {
	e.inputs.leave(in)
	e.leave(in.entry, time.Now(), false)
	in.done <- err
}

// embed computes one batch of inputs.
func (e *Engine) embed(inputs []*embedInput) error {
	tokens := make([][]Token, len(inputs))
	for i, in := range inputs {
		tokens[i] = in.tokens
	}

	suspect := len(inputs) == 1 && inputs[0].suspect
	vectors, err := e.runner.Embed(tokens, suspect)
	switch {
	case errors.Is(err, ErrCrashed) && suspect:
		e.restarted()
		if errors.Is(err, ErrFaulted) {
			works, failed := e.probeEmbedding(len(tokens[0]))
			if failed != nil {
				err = failed
				break
			}
			if !works {
				return e.embed(inputs)
			}
		}
		e.refusals.add(inputs[0].Tenant, hashInput(tokens[0]), time.Now())
	case errors.Is(err, ErrCrashed):
		// One of them, perhaps: each alone.
		e.restarted()
		for i, in := range inputs {
			in.suspect = true
			if err := e.embed(inputs[i : i+1]); err != nil {
				for _, other := range inputs[i+1:] {
					other.done <- err
				}
				return err
			}
		}
		return nil
	case errors.Is(err, ErrRestarted):
		e.restarted()
		return e.embed(inputs)
	}

	for i, in := range inputs {
		if err == nil {
			in.vector = vectors[i]
		}
		in.done <- err
	}

	if errors.Is(err, ErrFatal) || errors.Is(err, ErrAborted) {
		return err
	}

	return nil
}

// hashInput writes what is embedded.
func hashInput(tokens []Token) func(*maphash.Hash) {
	return func(h *maphash.Hash) {
		hashOf("embed")(h)
		hashTokens(h, tokens)
	}
}

// Normalize scales a vector to length 1; one of zeros stays as it is.
func Normalize(v []float32) {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return
	}
	scale := float32(1 / math.Sqrt(sum))
	for i := range v {
		v[i] *= scale
	}
}

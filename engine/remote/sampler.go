package remote

import (
	"context"
	"sync"

	"serve/engine"
)

// sampler is a choice's sampler, wherever it is: in the child that made it, or to be
// made again of what it was and what it has drawn.
type sampler struct {
	r     *Runner
	id    uint64
	spec  engine.Sampling
	drawn []engine.Token
	at    int // number of the generation that has it
}

// NewSampler asks the child, unless the sampler consists of numbers alone: then the first step brings it along, which
// saves the request a call. To make any other takes time that depends on what the client has sent, and it may fail.
func (r *Runner) NewSampler(s engine.Sampling) (engine.Sampler, error) {
	q := &sampler{r: r, id: r.nextID.Add(1), spec: s}
	if !q.costly() {
		return q, nil
	}
	if err := q.make(); err != nil {
		return nil, err
	}
	return q, nil
}

func (q *sampler) text() ([]byte, error) { return encode(specOf(q.spec, q.drawn)) }

// costly reports whether making the sampler takes time that depends on what the client has sent, or may fail. Such a
// sampler is made by a call, never by the step that everybody waits for.
func (q *sampler) costly() bool {
	s := &q.spec
	return s.Grammar.Text != "" || len(s.LogitBias)+len(s.DRYSequenceBreakers)+len(s.Ends) > 0
}

// make has the child make the sampler, by a call.
func (q *sampler) make() error {
	text, err := q.text()
	if err != nil {
		return err
	}
	g, err := q.r.generation(context.Background())
	if err != nil {
		return err
	}

	// If another child answers, this number is too low, and it is made once more.
	q.at = g.number
	in, err := q.r.ask(context.Background(), "sampler", func(m *message) {
		m.u8(askSampler)
		m.u64(q.id)
		m.bytes(text)
	})
	return done(in, err)
}

// makeLacking has a child make the costly samplers of rows that it does not have, since it has taken another's place.
// It returns the errors of those that cannot be made, by row; nil if there was nothing to make.
func makeLacking(rows []engine.Row, g *generation) (failed []error) {
	var calls sync.WaitGroup
	for i := range rows {
		if q, ok := rows[i].Sampler.(*sampler); ok && q.at != g.number && q.costly() {
			if failed == nil {
				failed = make([]error, len(rows))
			}
			calls.Go(func() { failed[i] = q.make() })
		}
	}
	calls.Wait()
	return failed
}

// Close has the child free it before its next step.
func (q *sampler) Close() {
	q.r.mu.Lock()
	defer q.r.mu.Unlock()
	q.r.freed = append(q.r.freed, q.id)
}

package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Histogram counts values by upper bounds. It is plain data.
type Histogram struct {
	Bounds []float64 // shared, ascending
	Counts []uint64  // one more than bounds: values above the last
	Sum    float64
}

func newHistogram(bounds []float64) Histogram {
	return Histogram{Bounds: bounds, Counts: make([]uint64, len(bounds)+1)}
}

func (h *Histogram) add(v float64) {
	i, _ := slices.BinarySearch(h.Bounds, v)
	h.Counts[i]++
	h.Sum += v
}

func (h *Histogram) merge(o Histogram) {
	if len(o.Counts) == 0 {
		return
	}
	if len(h.Counts) == 0 {
		*h = newHistogram(o.Bounds)
	}
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
	h.Sum += o.Sum
}

// The bounds of what an engine measures: times in seconds, lengths in tokens, and the
// sequences of a step.
var (
	boundsOfGaps    = []float64{.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5}
	boundsOfWaits   = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 320}
	boundsOfLengths = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}
	boundsOfRows    = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}
)

// Outcome is how a choice ended.
type Outcome string

// The outcomes: two are answers, the others are not.
const (
	OutcomeStop      Outcome = "stop"
	OutcomeLength    Outcome = "length"
	OutcomeCancelled Outcome = "cancelled"
	OutcomeDeadline  Outcome = "deadline"
	OutcomeError     Outcome = "error"
)

// Measures are what an engine has measured since it began.
type Measures struct {
	FirstToken Histogram // seconds from a choice's arrival to its first token
	Gap        Histogram // seconds between two tokens of a choice
	Queue      Histogram // seconds from a choice's arrival to its place in the batch
	Whole      Histogram // seconds from a choice's arrival to its end
	Prompts    Histogram // tokens of a request's prompt
	Answers    Histogram // tokens of a choice's answer
	Rows       Histogram // sequences that a step drew tokens for
	Tokens     uint64    // of answers, also of those that have not ended
	Outcomes   map[Outcome]uint64
}

// Add adds what another engine has measured.
func (m *Measures) Add(o Measures) {
	for _, pair := range []struct {
		to   *Histogram
		from Histogram
	}{
		{&m.FirstToken, o.FirstToken}, {&m.Gap, o.Gap}, {&m.Queue, o.Queue}, {&m.Whole, o.Whole},
		{&m.Prompts, o.Prompts}, {&m.Answers, o.Answers}, {&m.Rows, o.Rows},
	} {
		pair.to.merge(pair.from)
	}
	m.Tokens += o.Tokens
	if m.Outcomes == nil {
		m.Outcomes = map[Outcome]uint64{}
	}
	for outcome, n := range o.Outcomes {
		m.Outcomes[outcome] += n
	}
}

// meter measures. The loop writes it and anyone reads it.
type meter struct {
	mu sync.Mutex
	m  Measures
}

func newMeter() *meter {
	outcomes := map[Outcome]uint64{}
	for _, o := range []Outcome{OutcomeStop, OutcomeLength, OutcomeCancelled, OutcomeDeadline, OutcomeError} {
		outcomes[o] = 0
	}
	return &meter{m: Measures{
		FirstToken: newHistogram(boundsOfWaits), Gap: newHistogram(boundsOfGaps), Queue: newHistogram(boundsOfWaits), Whole: newHistogram(boundsOfWaits),
		Prompts: newHistogram(boundsOfLengths), Answers: newHistogram(boundsOfLengths), Rows: newHistogram(boundsOfRows), Outcomes: outcomes,
	}}
}

func (t *meter) read() Measures {
	t.mu.Lock()
	defer t.mu.Unlock()
	var m Measures
	m.Add(t.m)
	m.Outcomes = maps.Clone(t.m.Outcomes)
	return m
}

// began notes which sequences have just got their place in the batch.
func (t *meter) began(running []*sequence, now time.Time) {
	for _, q := range running {
		if q.begun {
			continue
		}
		q.begun = true
		t.mu.Lock()
		t.m.Queue.add(now.Sub(q.req.arrived).Seconds())
		t.mu.Unlock()
	}
}

func (t *meter) step(rows int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m.Rows.add(float64(rows))
}

func (t *meter) token(q *sequence, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m.Tokens++
	if q.last.IsZero() {
		t.m.FirstToken.add(now.Sub(q.req.arrived).Seconds())
	} else {
		t.m.Gap.add(now.Sub(q.last).Seconds())
	}
	q.last = now
}

func (t *meter) ended(q *sequence, reason Finish, err error) {
	outcome := Outcome(reason)
	switch {
	case errors.Is(err, ErrDeadline), errors.Is(err, context.DeadlineExceeded):
		outcome = OutcomeDeadline
	case errors.Is(err, ErrStopped): // though the context ended, too
		outcome = OutcomeError
	case errors.Is(err, context.Canceled):
		outcome = OutcomeCancelled
	case err != nil:
		outcome = OutcomeError
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m.Outcomes[outcome]++
	t.m.Whole.add(time.Since(q.req.arrived).Seconds())
	t.m.Answers.add(float64(len(q.tokens) - q.prompt))
	if q.index == 0 {
		t.m.Prompts.add(float64(q.prompt))
	}
}

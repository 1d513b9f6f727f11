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
	boundsOfGaps  = []float64{.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5}
	boundsOfWaits = []float64{
		.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 320,
	}
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
	OutcomeWait      Outcome = "wait" // in the queue for longer than is allowed
	OutcomeError     Outcome = "error"
)

// RefusalReason is why a request was not queued.
type RefusalReason string

// The refusals.
const (
	RefusedFull  RefusalReason = "full"  // the queue is
	RefusedShare RefusalReason = "share" // of the queue, which the client has already
	RefusedWait  RefusalReason = "wait"  // which would have been longer than is allowed, or than the request's deadline
)

func refusal(err error) RefusalReason {
	switch {
	case errors.Is(err, ErrShare):
		return RefusedShare
	case errors.Is(err, ErrWait):
		return RefusedWait
	}
	return RefusedFull
}

// SampledOn is where a token was drawn.
type SampledOn string

// The places: the device that computed the logits, or the processor, to which they were copied.
const (
	SampledOnBackend SampledOn = "backend"
	SampledOnHost    SampledOn = "host"
)

// Measures are what an engine has measured since it began.
type Measures struct {
	FirstToken Histogram            // seconds from a choice's arrival to its first token
	Gap        Histogram            // seconds between two tokens of a choice
	Queue      Histogram            // seconds from a choice's arrival to its place in the batch
	Whole      Histogram            // seconds from a choice's arrival to its end
	Prompts    Histogram            // tokens of a request's prompt
	Answers    Histogram            // tokens of a choice's answer
	Rows       Histogram            // sequences that a step drew tokens for
	Tokens     uint64               // of answers, also of those that have not ended
	Sampled    map[SampledOn]uint64 // the same, by where they were drawn
	Outcomes   map[Outcome]uint64
	Ended      map[Outcome]uint64 // tokens of the answers of choices that ended so
	Refused    map[RefusalReason]uint64
	Reuse      map[Reuse]uint64 // of choices that got a place in the batch
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
	addCounts(&m.Sampled, o.Sampled)
	addCounts(&m.Outcomes, o.Outcomes)
	addCounts(&m.Ended, o.Ended)
	addCounts(&m.Refused, o.Refused)
	addCounts(&m.Reuse, o.Reuse)
}

func addCounts[K comparable](to *map[K]uint64, from map[K]uint64) {
	if *to == nil {
		*to = map[K]uint64{}
	}
	for key, n := range from {
		(*to)[key] += n
	}
}

// meter measures. The loop writes it and anyone reads it.
type meter struct {
	mu   sync.Mutex
	m    Measures
	rate rate
}

// rate counts the tokens of the last seconds.
type rate struct {
	counts [rateSeconds + 1]int // by second, the present one too
	second int64
}

// rateSeconds is what Present.Rate is the mean of.
const rateSeconds = 5

// at moves on to the second of a time, and returns its count.
func (r *rate) at(now time.Time) *int {
	second := now.Unix()
	for n := 0; r.second < second && n < len(r.counts); n++ {
		r.second = max(r.second+1, second-rateSeconds)
		r.counts[r.second%int64(len(r.counts))] = 0
	}
	return &r.counts[second%int64(len(r.counts))]
}

// mean returns tokens a second, over the last whole seconds.
func (r *rate) mean(now time.Time) float64 {
	sum := -*r.at(now)
	for _, n := range r.counts {
		sum += n
	}
	return float64(sum) / rateSeconds
}

func newMeter() *meter {
	// A series that is not there before its first event hides that event from rates.
	outcomes := map[Outcome]uint64{
		OutcomeStop:      0,
		OutcomeLength:    0,
		OutcomeCancelled: 0,
		OutcomeDeadline:  0,
		OutcomeWait:      0,
		OutcomeError:     0,
	}
	refused := map[RefusalReason]uint64{RefusedFull: 0, RefusedShare: 0, RefusedWait: 0}
	reuse := map[Reuse]uint64{ReuseHit: 0, ReuseScored: 0, ReuseFixed: 0, ReuseDropped: 0, ReuseRestarted: 0, ReuseNew: 0}

	return &meter{m: Measures{
		FirstToken: newHistogram(boundsOfWaits),
		Gap:        newHistogram(boundsOfGaps),
		Queue:      newHistogram(boundsOfWaits),
		Whole:      newHistogram(boundsOfWaits),
		Prompts:    newHistogram(boundsOfLengths),
		Answers:    newHistogram(boundsOfLengths),
		Rows:       newHistogram(boundsOfRows),
		Outcomes:   outcomes,
		Ended:      maps.Clone(outcomes),
		Refused:    refused,
		Reuse:      reuse,
		Sampled:    map[SampledOn]uint64{SampledOnBackend: 0, SampledOnHost: 0},
	}}
}

func (t *meter) read(now time.Time) (m Measures, tokensPerSecond float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m.Add(t.m)
	return m, t.rate.mean(now)
}

// began notes that a sequence has got its place in the batch.
func (t *meter) began(q *sequence, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m.Queue.add(now.Sub(q.req.arrived).Seconds())
	t.m.Reuse[q.reuse]++
}

// refused counts a request that was not taken.
func (t *meter) refused(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m.Refused[refusal(err)]++
}

func (t *meter) step(rows int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m.Rows.add(float64(rows))
}

func (t *meter) token(q *sequence, on SampledOn, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m.Tokens++
	t.m.Sampled[on]++
	*t.rate.at(now)++
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
	case errors.Is(err, context.DeadlineExceeded):
		outcome = OutcomeDeadline
	case errors.Is(err, ErrWait):
		outcome = OutcomeWait
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
	t.m.Ended[outcome] += uint64(len(q.tokens) - q.prompt)
	t.m.Whole.add(time.Since(q.req.arrived).Seconds())
	t.m.Answers.add(float64(len(q.tokens) - q.prompt))
	if q.index == 0 {
		t.m.Prompts.add(float64(q.prompt))
	}
}

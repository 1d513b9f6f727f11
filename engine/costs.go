package engine

import (
	"math/bits"
	"slices"
	"time"
)

// The prefill that the first step beside running streams takes, before there is
// anything to learn from: less where many tokens come before, since each costs more.
const (
	firstChunk     = 32
	firstChunkDeep = 8
	deep           = 256 // tokens
)

// How long a stream waits for others' prompts between two tokens.
const (
	// gapSteps is how many of its own steps a gap may last.
	gapSteps = 2.5

	// headroom is the part of what nobody notices that is aimed at: a step may take a little longer than expected.
	headroom = 0.95

	// crowdGap is how many times as long a gap may be where a crowd waits for its first tokens, crowdPart how many of
	// the streams it must have, and crowdGain what a token of prompt may then cost at most, as a part of what it costs
	// in a step that keeps to the gap. A processor takes as long for a token whatever comes with it, so there it never
	// comes to that.
	crowdGap  = 2
	crowdMost = 4 // times what nobody notices
	crowdPart = 4
	crowdGain = 2. / 3

	// fallingCost is what a token costs at most in a step of four times as many tokens, where it is worth a try
	// whether it costs still less in a larger one.
	fallingCost = 2. / 3

	// tryLarger is how many times as many tokens a step has at least that is a try.
	tryLarger = 1.4

	// flatCost is what it costs at least in a large step, as a part of what it costs in a small one, where steps hardly
	// have costs that do not depend on their tokens.
	flatCost = 0.7
)

// remeasured is after how many steps that streams share with prompts one is theirs alone, to measure it.
const remeasured = 32

// costs is what steps have taken.
type costs struct {
	// decode is by rows: seconds of a step without prefill, smoothed; 0 if never seen.
	decode []float64

	// prefill is by the binary digits of how many tokens of prompts a step had: what it took for them, smoothed; 0 if
	// never seen. A device takes as long for a few as for one, and less for each of many.
	prefill []prefillCost

	last     int // tokens of prompts of the last step that had any
	measured int // rows of the last step without prefill
	mixed    int // steps with rows and prefill since
}

// prefillCost is what steps with prefill take.
type prefillCost struct {
	tokens  float64
	seconds float64
}

// each is what a token takes.
func (p prefillCost) each() float64 { return p.seconds / p.tokens }

func newCosts(l Limits) costs {
	return costs{
		decode:  make([]float64, l.Sequences+1),
		prefill: make([]prefillCost, bits.Len(uint(l.Batch))+1),
	}
}

// stale reports whether so many rows should have a step without prefill, so that what they take alone is known. Where
// all sequences share a buffer, every step beside a waiting prompt would have some.
func (c *costs) stale(rows int) bool {
	return c.mixed >= remeasured || c.mixed > 0 && rows > c.measured+c.measured/2
}

// decoded learns what a step without prefill took.
func (c *costs) decoded(rows int, seconds float64) {
	d := &c.decode[rows]
	if *d == 0 {
		*d = seconds
	}
	*d += (seconds - *d) / 8
	c.measured = rows
	c.mixed = 0
}

// prefilled learns what a step's prefill took.
func (c *costs) prefilled(tokens int, seconds float64) {
	c.last = tokens
	p := &c.prefill[bits.Len(uint(tokens))]
	if p.tokens == 0 {
		*p = prefillCost{float64(tokens), seconds}
	}
	p.tokens += (float64(tokens) - p.tokens) / 2
	p.seconds += (seconds - p.seconds) / 2
}

// flat reports whether a token of prompt is known to take about as long in a large step as in a small one.
func (c *costs) flat() bool {
	small := 0
	for small < len(c.prefill) && c.prefill[small].tokens == 0 {
		small++
	}
	flat := false
	for _, large := range c.prefill[min(small+2, len(c.prefill)):] {
		if large.tokens > 0 {
			flat = large.each() > flatCost*c.prefill[small].each()
		}
	}
	return flat
}

// decodeTime is how long a step of so many rows takes, or of as many as have
// been seen.
func (c *costs) decodeTime(rows int) float64 {
	for ; rows > 0; rows-- {
		if c.decode[rows] > 0 {
			return c.decode[rows]
		}
	}
	return 0
}

// cheaper returns how many tokens of prompts a step of so many seconds may have, if that makes each of them much
// cheaper than in a step of a chunk, and otherwise the chunk. Where steps of other sizes say that it might and none of
// the size has been seen, it is tried.
func (c *costs) cheaper(chunk int, seconds float64) int {
	class := min(bits.Len(uint(chunk)), len(c.prefill)-1)
	now := c.prefill[class]
	if now.tokens == 0 {
		return chunk
	}

	found := chunk
	cheapest := now.each()
	promising := slices.ContainsFunc(c.prefill[:max(class-1, 0)], func(smaller prefillCost) bool {
		return smaller.tokens > 0 && now.each() < fallingCost*smaller.each()
	})
	for _, larger := range c.prefill[class+1:] {
		if larger.tokens == 0 {
			continue
		}
		gains := larger.each() < crowdGain*now.each()
		promising = promising || gains
		if larger.seconds > seconds {
			continue
		}
		cheapest = min(cheapest, larger.each())
		if gains {
			found = int(larger.tokens * seconds / larger.seconds)
		}
	}
	if found > chunk || !promising {
		return found
	}

	// What a token costs now is the most that it may cost in a larger step.
	tried := seconds / cheapest
	if slices.ContainsFunc(c.prefill[class:], func(p prefillCost) bool { return p.tokens > tried/tryLarger }) {
		return chunk
	}
	return int(tried)
}

// gapTime is how long a stream may wait between two tokens: two and a half times
// a step of all that will then run, or what nobody notices, if that is more. Where
// a step is short, as on a GPU, most of it is spent whatever it holds: prompts in
// crumbs would take as many steps as they have crumbs.
func (s *scheduler) gapTime() float64 {
	return max(gapSteps*s.costs.decodeTime(len(s.running)), headroom*s.gap)
}

// beside is how many tokens of prompts a step may have while streams run: a chunk, or as many as fill the device while
// a crowd waits for its first tokens.
func (s *scheduler) beside() int {
	streams := s.decoding()
	waiting := 0
	for _, q := range s.running {
		if s.due(q) && !q.decoding() {
			waiting++
		}
	}
	if waiting < 2 || crowdPart*waiting < streams {
		return s.chunk
	}

	gap := s.gapTime()
	crowded := max(gap, min(crowdGap*gap, crowdMost*s.gap))
	most := 2 * max(s.chunk, s.costs.last)
	return min(s.costs.cheaper(s.chunk, crowded-s.costs.decodeTime(streams)), most)
}

// observe learns from how long a step took how much prefill a step may take
// while streams run: so much that the gap between their tokens grows to gapTime.
// What a token costs depends on how many come before it and on how many come with
// it, so the next step's share follows from the last one's.
func (s *scheduler) observe(st *step, took time.Duration) {
	t := took.Seconds()
	if st.batch.Whole {
		return // it was larger than what streams should wait for, knowingly
	}
	if st.drafted > 0 {
		s.learnDrafts(st, t)
		return
	}
	if st.prefill == 0 || !s.limits.Shared && st.decode > 0 {
		s.costs.decoded(len(st.fed), t)
		if s.spec.on && st.prefill == 0 {
			undisturbed(&s.spec.plain[len(st.fed)], t)
		}
		return
	}

	if st.decode > 0 {
		s.costs.mixed++
		t -= s.costs.decodeTime(st.decode)
	}
	s.costs.prefilled(st.prefill, max(t, 1e-6))

	switch {
	case st.decode+s.decoding() == 0:
		s.chunk = firstChunk
		if slices.ContainsFunc(s.running, func(q *sequence) bool { return q.fed > deep }) {
			s.chunk = firstChunkDeep
		}
		return
	case st.prefill > s.chunk:
		return // as above
	}

	factor := (s.gapTime() - s.costs.decodeTime(s.decoding())) / max(t, 1e-6)
	if st.prefill < s.chunk && factor > 1 {
		return // there was no more to take
	}

	s.chunk = min(max(int(float64(s.chunk)*min(factor, 2)), 1), s.limits.Batch)
}

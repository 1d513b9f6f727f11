package engine

import (
	"slices"
	"time"
)

// UseCrumbs has an engine that does not run yet share its device as before the bound on the gap had a floor: a step
// takes so much prefill that the gap between tokens grows to 2.5 steps. Where a step takes as long whatever it holds,
// that is crumbs.
func UseCrumbs(e *Engine) {
	e.sched.fill = fillWithCrumbs
	e.sched.learn = learnCrumbs
}

func fillWithCrumbs(s *scheduler) {
	shares := map[*sequence]int{}
	filling := slices.DeleteFunc(slices.Clone(s.running), func(q *sequence) bool { return q.decoding() })
	rows := s.decoding()
	budget := s.limits.Batch - rows
	if rows > 0 {
		budget = min(budget, s.chunk)
	}
	if len(filling) > 0 {
		divide(filling, max(min(budget, s.cells.room()-rows), 0), shares)
	}

	decode := rows > 0
	phase := s.phase()
	if len(shares) > 0 && !s.limits.Shared {
		if decode = decode && phase.prefilled; decode {
			shares = nil
		}
	}
	phase.prefilled = len(shares) > 0

	for i := range s.slots {
		q := s.slots[i].owner
		switch {
		case q == nil:
		case !q.decoding():
			s.feed(q, shares[q])
		case decode:
			s.feed(q, 1)
		}
	}
}

func learnCrumbs(s *scheduler, st *step, took time.Duration) {
	t := took.Seconds()
	switch {
	case st.prefill > s.chunk && st.decode+s.decoding() > 0:
		return
	case st.prefill == 0:
		s.costs.decoded(st.decode, t)
		return
	case st.decode == 0 && s.decoding() == 0:
		s.chunk = firstChunk
		return
	case st.decode > 0:
		t -= s.costs.decodeTime(st.decode)
	}

	gap := 2.5 * s.costs.decodeTime(len(s.running))
	factor := (gap - s.costs.decodeTime(s.decoding())) / max(t, 1e-6)
	if st.prefill < s.chunk && factor > 1 {
		return
	}
	s.chunk = min(max(int(float64(s.chunk)*min(factor, 2)), 1), s.limits.Batch)
}

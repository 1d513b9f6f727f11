package engine

import (
	"cmp"
	"slices"
)

// placement is where a sequence can go.
type placement struct {
	slot  int
	src   int     // slot whose beginning it shares; may be slot itself
	keep  int     // tokens shared
	later bool    // a prefill under way will share more: wait for it
	saved *prefix // that is restored to share its beginning, instead of a slot's; nil for none
}

// place chooses a slot for a sequence. It reports false when all have owners.
func (s *scheduler) place(q *sequence) (placement, bool) {
	best := placement{slot: -1, src: -1}
	soon := 0 // tokens that prefills under way are about to share
	for i := range s.slots {
		keep := s.reusable(q, &s.slots[i])
		if keep > best.keep {
			best.src = i
			best.keep = keep
		}
		if o := s.slots[i].owner; o != nil && !o.decoding() && s.limits.RollsBack && !q.scoring() {
			soon = max(soon, min(q.shares(o.tokens, o.req.scope()), len(q.tokens)-1))
		}
	}

	if saved, keep := s.restorable(q, best.keep); saved != nil {
		best.saved = saved
		best.keep = keep
		best.src = -1
	}

	best.later = soon > best.keep && soon >= s.worthCopying()
	best.slot = s.freeSlot(q, best)
	if best.slot < 0 {
		return best, false
	}

	if best.saved == nil && best.src != best.slot && best.keep < s.worthCopying() {
		best.src = best.slot
		best.keep = s.reusable(q, &s.slots[best.slot])
	}
	return best, true
}

// reusable returns how many of a slot's tokens a sequence begins with. At least
// its last token must be computed, to draw the next.
func (s *scheduler) reusable(q *sequence, sl *slot) int {
	if q.scoring() {
		return 0
	}
	held := sl.tokens()
	n := boundary(q.req.spans, min(q.shares(held, sl.within()), len(q.tokens)-1))
	if n < sl.lowest() || !s.limits.RollsBack && n < len(held) {
		return 0
	}
	return n
}

// worthCopying is the least shared beginning worth a copy. Within one buffer a
// copy only marks cells; between buffers it moves a whole context's.
func (s *scheduler) worthCopying() int {
	if s.limits.Shared {
		return 16
	}
	return 32 + s.limits.Context/128
}

// freeSlot chooses among the slots without an owner:
//
//  1. the one that holds the shared beginning and little else;
//  2. one that keeps nothing worth keeping;
//  3. of those of the tenant that has the most (see greediest), one of the half unused for longest, or any when as
//     many wait as are free.
//
// Among those of 2 and 3 it takes the one that leaves the fewest groups, unless
// all will be taken anyway: sequences with buffers of their own are computed in
// one graph only while their numbers follow each other. Then it takes the one
// that shares most, then the one unused for longest.
func (s *scheduler) freeSlot(q *sequence, p placement) int {
	var empty, kept []int
	for i := range s.slots {
		switch n := len(s.slots[i].kept); {
		case s.slots[i].owner != nil:
		case i == p.src && 2*p.keep > n:
			return i
		case n < s.worthCopying():
			empty = append(empty, i)
		default:
			kept = append(kept, i)
		}
	}

	all := s.queue.len() >= len(empty)+len(kept)
	oldest := func(a, b int) int { return cmp.Compare(s.slots[a].used, s.slots[b].used) }
	choice := empty
	if len(empty) == 0 {
		choice = s.greediest(kept, q)
		if slices.SortStableFunc(choice, oldest); !all {
			choice = choice[:(len(choice)+1)/2]
		}
	}

	if len(choice) == 0 {
		return -1
	}

	groups := func(i int) int {
		if all {
			return 0
		}
		return s.groupsWith(i)
	}

	return slices.MinFunc(choice, func(a, b int) int {
		return cmp.Or(
			cmp.Compare(groups(a), groups(b)),
			cmp.Compare(s.reusable(q, &s.slots[b]), s.reusable(q, &s.slots[a])),
			oldest(a, b),
		)
	})
}

// groupsWith counts the runs of neighbouring slots that have an owner, as if
// slot i had one. In a shared buffer they are one.
func (s *scheduler) groupsWith(i int) int {
	if s.limits.Shared {
		return 1
	}
	groups := 0
	inside := false
	for j := range s.slots {
		owned := j == i || s.slots[j].owner != nil
		if owned && !inside {
			groups++
		}
		inside = owned
	}
	return groups
}

// makeRoom drops kept cells, as dropOldest chooses them, until a sequence fits
// where it was placed with a token to spare for every running one. It reports
// false when it cannot, and has then dropped nothing.
func (s *scheduler) makeRoom(q *sequence, p placement) bool {
	keepHere := 0
	if p.src == p.slot {
		keepHere = p.keep
	}

	need := len(q.tokens) - p.keep + len(s.running) + 1
	if p.saved != nil {
		// All of it is restored before what it has more is dropped.
		need = max(len(q.tokens), len(p.saved.tokens)) + len(s.running) + 1
	}
	room := saturatingAdd(s.cells.room(), max(0, s.droppable(p.slot)-keepHere))
	for i := range s.slots {
		if s.slots[i].owner == nil && i != p.slot && i != p.src {
			room = saturatingAdd(room, s.droppable(i))
		}
	}

	if room < need {
		// Alone, a sequence fits once nothing is kept: the buffer holds a context.
		if len(s.running) > 0 {
			return false
		}
		for i := range s.slots {
			s.drop(i, 0)
		}
		return true
	}

	s.drop(p.slot, keepHere)
	for s.cells.room() < need && s.dropOldest(q, p) {
	}
	return true
}

func saturatingAdd(a, b int) int {
	if a > a+b {
		return a
	}
	return a + b
}

// droppable returns the cells that dropping a slot would free.
func (s *scheduler) droppable(i int) int {
	if !s.limits.Shared {
		return 0
	}
	return s.cells.alone(i)
}

// dropOldest drops the cells kept for nobody in the slot unused for longest, of those of the tenant that has the most,
// other than a placement's. They make room for a sequence, or with nil for all that run. It reports false when there
// are none.
func (s *scheduler) dropOldest(q *sequence, p placement) bool {
	var kept []int
	for i := range s.slots {
		if s.slots[i].owner == nil && len(s.slots[i].kept) > 0 && i != p.slot && i != p.src {
			kept = append(kept, i)
		}
	}
	if len(kept) == 0 {
		return false
	}
	oldest := slices.MinFunc(s.greediest(kept, q), func(a, b int) int {
		return cmp.Compare(s.slots[a].used, s.slots[b].used)
	})
	s.drop(oldest, 0)
	return true
}

// drop leaves a slot without an owner its first n tokens.
func (s *scheduler) drop(i, n int) {
	sl := &s.slots[i]
	if len(sl.kept) > n {
		if !s.preserve(i, n) {
			s.lose(sl, ReuseDropped)
		}
		s.cut(i, n)
	}
}

// cut is drop, and remembers nothing.
func (s *scheduler) cut(i, n int) {
	sl := &s.slots[i]
	s.step.ops = append(s.step.ops, kvOp{slot: i, from: position(sl.spans, n)})
	s.cells.trim(i, n)
	sl.kept = sl.kept[:n]
	if n == 0 {
		sl.floor = 0
	}
}

// take puts a sequence into the slot it was placed in.
func (s *scheduler) take(q *sequence, p placement) {
	keep := p.keep
	if p.saved == nil && (p.src < 0 || len(s.slots[p.src].tokens()) < keep) {
		keep = 0 // makeRoom had to drop it
	}
	if q.cached < 0 {
		q.cached = keep
		q.reuse = s.reuse(q, keep)
		switch {
		case p.saved != nil && p.saved.fetched:
			q.reuse = ReuseFolder
			p.saved.fetched = false
		case p.saved != nil:
			q.reuse = ReuseRestored
		case q.reuse != ReuseHit && q.fetch != nil && q.fetch.failed:
			q.reuse = ReuseFailed
		}
	}

	switch {
	case p.saved != nil:
		s.restoreInto(p.slot, p.saved, keep)
	case p.src != p.slot && keep > 0:
		s.copyInto(p.slot, p.src, keep)
	default:
		s.drop(p.slot, keep)
	}

	q.floor = s.slots[p.slot].floor
	s.slots[p.slot] = slot{owner: q}
	q.slot = p.slot
	q.fed = keep
}

// copyInto makes a slot hold the first tokens of what another one holds.
func (s *scheduler) copyInto(to, src, keep int) {
	s.step.ops = append(s.step.ops, kvOp{copy: true, src: src, slot: to})
	s.cells.copy(src, to)
	s.slots[to].kept = s.slots[src].tokens()
	s.slots[to].spans = s.slots[src].media()
	s.slots[to].scope = s.slots[src].within()
	s.slots[to].floor = s.slots[src].lowest()
	if keep < len(s.slots[to].kept) {
		s.cut(to, keep)
	}
}

// closeHoles moves a sequence at one end of the owned slots into a hole between
// them, or over the other end, one a step, while nobody waits to fill the hole.
// Sequences with buffers of their own are computed in one graph only if their
// numbers follow each other, and a copy costs less than a few steps of two
// graphs. But a beginning that may come again costs more to compute than that,
// so a slot that keeps one is left alone.
func (s *scheduler) closeHoles() {
	if s.limits.Shared || s.queue.len() > 0 || len(s.running) < 2 {
		return
	}

	var owned []int
	for i := range s.slots {
		if s.slots[i].owner != nil {
			owned = append(owned, i)
		}
	}

	first := owned[0]
	last := owned[len(owned)-1]
	if last-first+1 == len(owned) {
		return
	}

	free := func(i int) bool {
		return i >= 0 && i < len(s.slots) && s.slots[i].owner == nil && len(s.slots[i].kept) < s.worthCopying()
	}

	for i := first + 1; i < last; i++ {
		if free(i) {
			s.move(s.slots[last].owner, i)
			return
		}
	}

	// Over the other end only if that narrows the span they take.
	switch {
	case owned[1] > first+1 && free(last+1):
		s.move(s.slots[first].owner, last+1)
	case owned[len(owned)-2] < last-1 && free(first-1):
		s.move(s.slots[last].owner, first-1)
	default:
		s.moveKept(owned)
	}
}

// move gives a running sequence another slot, without an owner, cells and all.
func (s *scheduler) move(q *sequence, to int) {
	s.step.ops = append(s.step.ops, kvOp{copy: true, src: q.slot, slot: to}, kvOp{slot: q.slot})
	s.slots[q.slot] = slot{}
	s.slots[to] = slot{owner: q}
	q.slot = to
}

package engine

import "cmp"

// Where more groups of running sequences than these take more steps than one, a beginning that is kept between them is
// moved, and the oldest is dropped if no slot is free for that, while so many others are kept.
const (
	manyGroups = 3
	manyKept   = 4
)

// moveKept moves the beginning that a slot keeps between running sequences out of the way, to a slot outside of those
// that own slots, and the last of these into its place.
func (s *scheduler) moveKept(owned []int) {
	first := owned[0]
	last := owned[len(owned)-1]
	groups := 1
	hole := -1
	for i, slot := range owned[1:] {
		if slot > owned[i]+1 {
			groups++
			hole = cmp.Or(max(hole, 0), owned[i]+1)
		}
	}
	if groups < manyGroups {
		return
	}

	spare := s.spareSlot(first, last)
	if spare < 0 {
		return
	}
	s.drop(spare, 0)
	s.step.ops = append(s.step.ops, kvOp{copy: true, src: hole, slot: spare})
	s.slots[spare] = s.slots[hole]
	s.move(s.slots[last].owner, hole)
}

// spareSlot chooses a slot before the first or after the last that has an owner: one that keeps nothing worth keeping,
// otherwise the one unused for longest, if many are kept. It returns -1 if there is none.
func (s *scheduler) spareSlot(first, last int) int {
	kept := 0
	spare := -1
	for i := range s.slots {
		if s.slots[i].owner != nil {
			continue
		}
		worth := len(s.slots[i].kept) >= s.worthCopying()
		if worth {
			kept++
		}
		switch {
		case i > first && i < last:
		case !worth:
			return i
		case spare < 0 || s.slots[i].used < s.slots[spare].used:
			spare = i
		}
	}
	if kept < manyKept {
		return -1
	}
	return spare
}

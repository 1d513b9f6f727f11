package engine

import (
	"slices"
)

// prefillShares divides what a step has for prefill: first come the prompts of the
// client whose turn it is. Half goes to the one of them that came first, so that it
// cannot starve, the rest to the shortest, so that a short prompt need not wait for a
// long one.
func (s *scheduler) prefillShares() map[*sequence]int {
	filling := slices.DeleteFunc(slices.Clone(s.running), func(q *sequence) bool {
		return !s.due(q) || q.decoding() || q.looking()
	})
	if len(filling) == 0 {
		return nil
	}
	taken := 0
	shares := make(map[*sequence]int, len(filling))
	for len(filling) > 0 {
		first := filling[0]
		for _, q := range filling {
			if q.account != first.account && s.queue.before(q, first) {
				first = q
			}
		}
		own := slices.DeleteFunc(slices.Clone(filling), func(q *sequence) bool { return q.account != first.account })
		filling = slices.DeleteFunc(filling, func(q *sequence) bool { return q.account == first.account })
		taken += divide(own, max(s.prefillBudget(first)-taken, 0), shares)
	}
	return shares
}

// divide gives one client's prompts their shares of a budget and returns the sum.
func divide(filling []*sequence, budget int, shares map[*sequence]int) int {
	first := filling[0]
	left := budget
	shares[first] = min(first.ahead(), (left+1)/2)
	left -= shares[first]
	slices.SortStableFunc(filling, func(a, b *sequence) int { return a.pending() - b.pending() })
	for _, q := range filling {
		n := min(q.ahead()-shares[q], left)
		shares[q] += n
		left -= n
	}
	return budget - left
}

// prefillBudget is what a step may take of prompts, a sequence's among them.
func (s *scheduler) prefillBudget(q *sequence) int {
	rows := s.decoding()
	budget := s.limits.Batch - rows
	switch {
	case rows == 0:
	case s.onlyOwnStreams(q):
		budget = min(budget, ownPrefill*s.chunk)
	default:
		budget = min(budget, s.chunk)
	}
	// Whatever rows take now or next, there must be cells for.
	return max(min(budget, s.cells.room()-rows), 0)
}

// onlyOwnStreams reports whether all streams that wait for a sequence's prompt are of clients
// that take more than their share of the slots, and its own takes no more.
func (s *scheduler) onlyOwnStreams(q *sequence) bool {
	greedy := func(q *sequence) bool { return q.account.running*len(s.queue.accounts) > len(s.slots) }
	return !greedy(q) && !slices.ContainsFunc(s.running, func(o *sequence) bool { return o.decoding() && !greedy(o) })
}

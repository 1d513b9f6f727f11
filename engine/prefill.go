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

		budget := max(s.prefillBudget(first)-taken, 0)
		if s.limits.Shared || s.costs.flat() {
			taken += divide(own, budget, shares)
		} else {
			taken += s.divideGraphs(own, budget, shares)
		}
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

// divideGraphs is divide for sequences with buffers of their own. Those are computed in one graph only as far as the
// numbers of their slots follow each other and for as many tokens as the shortest of them gets, so neighbours get
// equally many, and nobody gets the crumbs of a budget.
func (s *scheduler) divideGraphs(filling []*sequence, budget int, shares map[*sequence]int) int {
	first := filling[0]
	left := budget
	slices.SortStableFunc(filling, func(a, b *sequence) int { return a.pending() - b.pending() })
	if filling[0].pending() < first.pending() {
		left = (budget + 1) / 2
	}

	left = budget - s.shareGraph(first, filling, left, budget, shares)
	for _, q := range filling {
		if left < (budget+1)/2 {
			break
		}
		if shares[q] == 0 {
			left -= s.shareGraph(q, filling, left, left, shares)
		}
	}

	n := min(first.ahead()-shares[first], left)
	shares[first] += n
	return budget - left + n
}

// graph is a part of a step that is computed together: the same number of tokens of each sequence in slots that follow
// each other.
type graph struct {
	low  int // the first slot
	high int // the last
	each int // tokens of a sequence
}

func (g graph) tokens() int { return (g.high - g.low + 1) * g.each }

// shareGraph gives a sequence and neighbours that have no share yet equally many tokens, most of them to the sequence's
// limit and a budget in all, and returns the sum.
func (s *scheduler) shareGraph(q *sequence, filling []*sequence, limit, budget int, shares map[*sequence]int) int {
	free := func(slot int) bool {
		return slot >= 0 && slot < len(s.slots) && shares[s.slots[slot].owner] == 0 &&
			slices.Contains(filling, s.slots[slot].owner)
	}

	// Neighbours are taken one by one, those with more to compute first, while that makes the graph much larger.
	n := min(q.ahead(), limit)
	best := graph{low: q.slot, high: q.slot, each: n}
	next := best
	for free(next.low-1) || free(next.high+1) {
		down := next.low - 1
		up := next.high + 1
		if !free(down) || free(up) && s.slots[up].owner.ahead() >= s.slots[down].owner.ahead() {
			next.high = up
			n = min(n, s.slots[up].owner.ahead())
		} else {
			next.low = down
			n = min(n, s.slots[down].owner.ahead())
		}

		next.each = min(n, budget/(next.high-next.low+1))
		if next.each == 0 {
			break
		}
		if next.tokens()*4 > best.tokens()*5 {
			best = next
		}
	}

	for i := best.low; i <= best.high; i++ {
		shares[s.slots[i].owner] = best.each
	}
	return best.tokens()
}

// prefillBudget is what a step may take of prompts, a sequence's among them.
func (s *scheduler) prefillBudget(q *sequence) int {
	rows := s.decoding()
	budget := s.limits.Batch
	if s.limits.Shared {
		budget -= rows
	}

	switch {
	case rows == 0:
	case s.onlyOwnStreams(q):
		budget = min(budget, ownPrefill*s.chunk)
	default:
		budget = min(budget, s.beside())
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

// bridges gives a token to each prompt between streams with buffers of their own: those are computed in one graph only
// while the numbers of their slots follow each other. A graph costs more than a token, and the prompt needs the token
// in any case.
func (s *scheduler) bridges() map[*sequence]int {
	shares := map[*sequence]int{}
	var between []*sequence
	inside := false // whether a stream comes before, and all slots since can be in the graph
	for i := range s.slots {
		q := s.slots[i].owner
		switch {
		case q == nil || !s.due(q) || q.looking():
			inside = false
			between = nil
		case q.decoding():
			for _, b := range between {
				shares[b] = 1
			}
			inside = true
			between = nil
		case inside:
			between = append(between, q)
		}
	}
	return shares
}

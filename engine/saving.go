package engine

import (
	"slices"
	"time"
)

// saving is what the scheduler knows of saving sequences to host memory: what was saved, and what saving, restoring and
// computing cost.
type saving struct {
	prefixes

	prefill  tokenCost // computing prompts, while nothing else runs
	save     tokenCost // to memory that is ready
	restore  tokenCost
	all      bool    // whatever it costs to compute
	perToken float64 // bytes of the last sequence that was saved, by its tokens
	planned  float64 // seconds of what the step saves and restores
	unready  int64   // bytes of a prefix that was saved, as long as the next one has no memory that is ready
	ready    Region  // memory that was made ready last
	skipped  map[Skip]uint64
	changed  bool // skipped has, since it was last read
}

// Skip is why a prefix that had to go was not saved.
type Skip string

// The reasons.
const (
	SkipShort  Skip = "short"  // too few tokens, or as cheap to compute as to save
	SkipPause  Skip = "pause"  // running streams would have to wait too long
	SkipMemory Skip = "memory" // it does not fit
	SkipFailed Skip = "failed" // the engine could not save it
	SkipModel  Skip = "model"  // the request is reproducible, and what the model restores need not have the same bits
)

// Skips are all of them.
var Skips = []Skip{SkipShort, SkipPause, SkipMemory, SkipFailed, SkipModel}

// tokenCost is how long something takes a token, of late.
type tokenCost struct{ seconds, tokens float64 }

// add notes that so many tokens took so long. What came before counts for less.
func (p *tokenCost) add(took time.Duration, tokens int) {
	const memory = 0.75
	p.seconds = memory*p.seconds + took.Seconds()
	p.tokens = memory*p.tokens + float64(tokens)
}

// of returns how many seconds so many tokens take; 0 if that is unknown.
func (p *tokenCost) of(tokens int) float64 {
	if p.tokens == 0 {
		return 0
	}
	return p.seconds / p.tokens * float64(tokens)
}

const (
	// worthSaving is how many times longer computing a prefix must take than saving and restoring it: not all that is
	// saved is asked for again.
	worthSaving = 2
	// pauses is how many times the gap between a stream's tokens may grow to its bound while a sequence is saved or
	// restored: that happens once a turn of a conversation, not with each token.
	pauses = 4
)

// observePrefill learns from a step that computed nothing but prompts.
func (s *scheduler) observePrefill(st *step, took time.Duration) {
	if st.prefill > 0 && st.decode == 0 && len(st.batch.Embeddings) == 0 {
		s.saving.prefill.add(took, st.prefill)
	}
}

// preserve has the step save what a slot without an owner keeps, before all but the first n tokens of it go. It reports
// whether they are not lost.
func (s *scheduler) preserve(i, n int) bool {
	sl := &s.slots[i]
	c := &s.saving
	if c.size == 0 {
		return false
	}
	if p := c.covers(sl.kept, sl.scope); p != nil {
		p.used = s.tick
		return true
	}

	if reason := s.unworthy(sl, len(sl.kept)-n); reason != "" {
		c.skip(reason)
		return false
	}
	s.planSave(i)
	return true
}

// unworthy returns why what a slot keeps is not saved, when so many tokens of it would be lost.
func (s *scheduler) unworthy(sl *slot, lost int) Skip {
	c := &s.saving
	takes := c.save.of(len(sl.kept))
	both := takes + max(c.restore.of(len(sl.kept)), takes)
	computed := c.prefill.of(lost)

	switch {
	case lost < s.worthCopying(), computed > 0 && computed < worthSaving*both && !c.all:
		return SkipShort
	case sl.scope.reproducible && c.whole:
		return SkipModel
	case !s.mayPause(takes):
		return SkipPause
	}
	return ""
}

// mayPause reports whether running streams may wait for another operation of so many seconds before the step.
func (s *scheduler) mayPause(seconds float64) bool {
	if !slices.ContainsFunc(s.running, (*sequence).decoding) {
		return true
	}
	return s.saving.planned+seconds <= max(pauses*s.gap, gapSteps*s.costs.decodeTime(len(s.running)))
}

// planSave adds the operation that saves what a slot keeps.
func (s *scheduler) planSave(i int) {
	sl := &s.slots[i]
	sl.tried = true
	p := &prefix{tokens: sl.kept, spans: sl.spans, scope: sl.scope, used: s.tick}
	s.step.ops = append(s.step.ops, kvOp{slot: i, save: p})
	s.saving.planned += s.saving.save.of(len(sl.kept))
}

// unsaved returns a slot whose cells should be saved while there is nothing else to do, so that they survive the
// engine; -1 for none.
func (s *scheduler) unsaved() int {
	for i := range s.slots {
		sl := &s.slots[i]
		if s.saving.size == 0 || sl.tried || sl.owner != nil || len(sl.kept) == 0 {
			continue
		}
		if s.saving.covers(sl.kept, sl.scope) == nil && s.unworthy(sl, len(sl.kept)) == "" {
			return i
		}
		sl.tried = true
	}
	return -1
}

// restorable returns the saved prefix that a sequence had better be restored from than go where it shares so many
// tokens, and how many of its tokens the sequence begins with; nil if there is none.
func (s *scheduler) restorable(q *sequence, shared int) (*prefix, int) {
	c := &s.saving
	if len(c.list) == 0 || q.scoring() {
		return nil, 0
	}
	p, keep := c.find(q)
	if p == nil || keep-shared < s.worthCopying() {
		return nil, 0
	}

	takes := c.restore.of(len(p.tokens))
	computed := c.prefill.of(keep - shared)
	if computed > 0 && computed < takes && !c.all || !s.mayPause(takes) {
		return nil, 0
	}
	return p, keep
}

// restoreInto adds the operations that make an empty slot hold the first tokens of a saved prefix.
func (s *scheduler) restoreInto(i int, p *prefix, keep int) {
	p.used = s.tick
	p.pinned = true
	s.step.ops = append(s.step.ops, kvOp{slot: i, restore: p})
	s.saving.planned += s.saving.restore.of(len(p.tokens))

	s.cells.grow(i, len(p.tokens))
	s.slots[i] = slot{kept: p.tokens, spans: p.spans, scope: p.scope, used: s.tick}
	if s.saving.whole {
		s.slots[i].floor = len(p.tokens)
	}
	if keep < len(p.tokens) {
		s.cut(i, keep)
	}
}

// restoreRunning has what runs, after all cells were dropped, restored from what was saved of it.
func (s *scheduler) restoreRunning() {
	// First, since no stream goes on before all of them are found: none waits for another.
	found := map[int]*prefix{}
	for i := range s.slots {
		if q := s.slots[i].owner; q != nil {
			found[i], _ = s.restorable(q, 0)
		}
	}

	for i := range s.slots {
		q := s.slots[i].owner
		p := found[i]
		if p == nil || s.cells.room() < len(p.tokens) {
			continue
		}
		keep := boundary(q.req.spans, min(q.shares(p.tokens, p.scope), len(q.tokens)-1))
		s.restoreInto(i, p, keep)
		q.floor = s.slots[i].floor
		q.fed = keep
		s.slots[i] = slot{owner: q}
	}
}

// unpin lets the prefixes go that the step has restored.
func (s *scheduler) unpin() {
	s.saving.planned = 0
	for _, p := range s.saving.list {
		p.pinned = false
	}
}

// savedAs puts a prefix into the index. The caller has saved it, and discards those that are returned. What took longer
// because the memory was not ready is no measure: it would keep others from being saved, whose memory is.
func (s *scheduler) savedAs(p *prefix, took time.Duration, ready bool) (gone []*prefix) {
	c := &s.saving
	if ready {
		c.save.add(took, len(p.tokens))
	}
	c.perToken = float64(p.saved.Size) / float64(len(p.tokens))
	return c.add(p)
}

// estimate returns how many bytes a prefix may take: 0 until one was saved.
func (c *saving) estimate(p *prefix) int64 {
	return int64(c.perToken * float64(len(p.tokens)) * 1.02)
}

// forgetSaved drops what was saved of a tenant, and what the step was going to save.
func (s *scheduler) forgetSaved(tenant string) (gone []*prefix) {
	s.step.ops = slices.DeleteFunc(s.step.ops, func(op kvOp) bool {
		return op.save != nil && op.save.scope.tenant == tenant
	})
	return s.saving.dropAll(func(p *prefix) bool { return p.scope.tenant == tenant })
}

// skip counts why a prefix was not saved.
func (c *saving) skip(reason Skip) {
	if c.skipped == nil {
		c.skipped = map[Skip]uint64{}
	}
	c.skipped[reason]++
	c.changed = true
}

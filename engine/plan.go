package engine

import (
	"cmp"
	"slices"
	"time"
)

// kvOp changes the KV cache before a batch.
type kvOp struct {
	copy bool // make slot hold what src holds; otherwise drop slot's cells from position from on
	src  int
	slot int
	from int

	save    *prefix // save what slot holds
	restore *prefix // make slot, which is empty, hold this
	fetch   *fetch  // begin to read this from the folder
}

// step is what plan decided: operations in order, then a batch, then rows to draw.
type step struct {
	ops     []kvOp
	batch   Batch
	rows    []Row
	drawn   []*sequence // whose row each is
	fed     []feed
	prefill int  // tokens of sequences that read their prompt
	drafted int  // tokens that are guesses
	uneven  bool // of the guesses, not all sequences have equally many
	decode  int  // sequences that only need their last token computed
	prompt  int  // tokens of the batch that requests brought
	scores  int  // rows of scoring sequences that may still be added
}

// feed is how many tokens of a sequence the batch holds.
type feed struct {
	seq *sequence
	n   int
}

// reset empties the step but for its operations, which stay until they are done.
func (st *step) reset() {
	st.rows = st.rows[:0]
	st.drawn = st.drawn[:0]
	st.fed = st.fed[:0]
	st.prefill = 0
	st.drafted = 0
	st.uneven = false
	st.decode = 0
	st.prompt = 0
	st.batch.Reset()
}

// scheduler decides what each step computes. It has no clock, does no I/O and
// starts no goroutine: the loop tells it what came, asks for a plan, carries it
// out, and tells it what came of it.
type scheduler struct {
	limits    Limits
	slots     []slot
	cells     cells
	queue     *queue[*sequence]
	running   []*sequence // in order of admission
	gap       float64     // seconds that a stream may always wait for others' prompts between two tokens
	chunk     int         // prefill tokens a step may take beside running streams
	tick      uint64
	preempted uint64
	lost      []lostPrompt // newest last
	step      step
	saving    saving

	folder    PrefixFolder // nil for none
	fetches   []*fetch     // from it, that have not ended
	fetchCost tokenCost

	costs costs // of steps
	spec  speculation

	// How the batch is filled, and what is learned from a step: fillBatch and observe, other than where tests compare
	// them with what was before.
	fill  func(*scheduler)
	learn func(*scheduler, *step, time.Duration)

	kind   bool     // whether the step is one of reproducible sequences
	phases [2]phase // of the steps of either kind
}

// phase is what the steps of one kind have come to.
type phase struct {
	prefilled bool // whether the last step had prefill
	looked    bool // whether the last step with prefill was one of media
}

func newScheduler(l Limits, gap time.Duration) *scheduler {
	l.Rows = max(l.Rows, l.Sequences)
	return &scheduler{
		limits: l,
		gap:    gap.Seconds(),
		slots:  make([]slot, l.Sequences),
		cells:  newCells(l),
		chunk:  firstChunk,
		queue:  newQueue(func(q *sequence) *ticket[*sequence] { return &q.ticket }),
		costs:  newCosts(l),
		spec:   newSpeculation(l),
		fill:   (*scheduler).fillBatch,
		learn:  (*scheduler).observe,
	}
}

func (s *scheduler) idle() bool { return s.queue.len()+len(s.running) == 0 }

// plan decides the next step:
//
//  1. Admit waiting sequences while a slot and cells are there, or are with a client
//     that has more than its share.
//  2. Close holes between the running sequences' slots, where those cost.
//  3. Choose between reproducible sequences and others, which take turns: they are computed by other kernels.
//  4. Give every decoding sequence a row; when cells are short, drop what is
//     kept for nobody, then preempt the newest.
//  5. Fill the batch with prefill, bounded while streams run; or, every other step at
//     most, with embeddings of one sequence's media, which no token can share a
//     batch with.
//
// The step is valid until the next call. Nothing of it counts before apply.
func (s *scheduler) plan() *step {
	s.tick++
	s.step.reset()
	s.settleDrafts()
	s.admit()
	s.closeHoles()
	s.chooseKind()
	s.secureRows()
	s.fill(s)
	return &s.step
}

// chooseKind chooses the kind of the step: the other one than before, unless only one runs.
func (s *scheduler) chooseKind() {
	other := func(q *sequence) bool { return q.req.Reproducible != s.kind }
	if slices.ContainsFunc(s.running, other) {
		s.kind = !s.kind
	}
}

// phase returns what the steps of the step's kind have come to.
func (s *scheduler) phase() *phase {
	if s.kind {
		return &s.phases[1]
	}
	return &s.phases[0]
}

// due reports whether a sequence may be in the step, as far as its kind is concerned.
func (s *scheduler) due(q *sequence) bool { return q.req.Reproducible == s.kind }

// admit gives slots to waiting sequences, in the queue's order. One that would share
// the beginning of a prompt now being computed, or read from the folder, lets others pass until it is. What lacks
// a slot or cells is taken from a sequence that has more than its share.
func (s *scheduler) admit() {
	s.queue.admitting()
	now := time.Now()
	for {
		q, ok := s.queue.next()
		if !ok {
			return
		}
		full := len(s.running) == len(s.slots)
		if full && s.victim(q) == nil {
			return
		}

		where, ok := s.place(q)
		if where.later || s.fetching(q, where.keep, now) {
			if full {
				return
			}
			s.queue.pass(q)
			continue
		}
		if ok && s.makeRoom(q, where) {
			s.take(q, where)
			s.queue.take(q)
			s.running = append(s.running, q)
			continue
		}

		victim := s.victim(q)
		if victim == nil {
			return
		}
		s.preempt(victim)
	}
}

// victim returns the running sequence that has to make way for a waiting one, or nil: the
// one that was preempted least often, of those the one with the least to compute again.
func (s *scheduler) victim(q *sequence) *sequence {
	var found *sequence
	for _, r := range s.running {
		if !s.queue.yields(r, q) {
			continue
		}
		if found == nil || cmp.Or(cmp.Compare(r.preempted, found.preempted), cmp.Compare(r.fed, found.fed)) <= 0 {
			found = r
		}
	}
	return found
}

// preempt puts a running sequence back into the queue. Its cells stay for as long as
// nobody else needs them.
func (s *scheduler) preempt(q *sequence) {
	s.vacate(q)
	q.slot = -1
	q.fed = 0
	q.floor = 0
	q.preempted++
	s.preempted++
	s.queue.push(q)
}

// secureRows makes sure that every decoding sequence can have a cell, and media that
// must be in one batch all of theirs.
func (s *scheduler) secureRows() {
	for {
		need := s.decoding()
		if q := s.firstLooking(); q != nil {
			if media, _ := q.next(); media.Whole {
				need += media.Len
			}
		}
		// A prefill alone must be able to go on, too.
		if s.cells.room() >= max(need, 1) || !s.relieve() {
			return
		}
	}
}

// firstLooking returns the sequence of the step's kind to look at its media, or nil.
func (s *scheduler) firstLooking() *sequence {
	var first *sequence
	for _, q := range s.running {
		if s.due(q) && q.looking() && (first == nil || s.queue.before(q, first)) {
			first = q
		}
	}
	return first
}

// relieve frees cells: what is kept for nobody first, then those of the newest running
// sequence that is flex, or of the client with the most. It is computed again later.
// It reports false when only one sequence is left.
func (s *scheduler) relieve() bool {
	if s.dropOldest(nil, placement{slot: -1, src: -1}) {
		return true
	}
	if len(s.running) < 2 {
		return false
	}
	victim := s.running[0]
	for _, q := range s.running {
		flex := q.Tier == TierFlex
		than := victim.Tier == TierFlex
		if flex && !than || flex == than && q.account.running >= victim.account.running {
			victim = q
		}
	}
	slot := victim.slot
	s.preempt(victim)
	s.drop(slot, 0)
	return true
}

// fillBatch writes the batch in order of slots, as llama.cpp groups them.
// Sequences with buffers of their own cannot be computed in one graph unless
// they have as many tokens each, so there prefill and decoding take turns.
func (s *scheduler) fillBatch() {
	// A row is there for each running sequence; those left over are for prompts.
	s.step.scores = s.limits.Rows - len(s.running)
	s.step.batch.Reproducible = s.kind
	if i := slices.IndexFunc(s.running, func(q *sequence) bool { return q.suspect }); i >= 0 {
		s.try(s.running[i])
		return
	}

	shares := s.prefillShares()
	looking := s.firstLooking()
	decode := s.decoding() > 0
	phase := s.phase()
	prompts := len(shares) > 0 || looking != nil
	if prompts && !s.limits.Shared {
		if decode = decode && phase.prefilled; decode {
			shares = nil
			looking = nil
		}
	}

	phase.prefilled = len(shares) > 0 || looking != nil
	if decode && s.limits.Shared && len(shares) > 0 && s.costs.stale(s.decoding()) {
		shares = nil
	}

	others := decode && s.limits.Shared || len(shares) > 0
	if looking != nil && (!phase.looked || !others) {
		phase.looked = true
		s.look(looking)
		return
	}

	phase.looked = phase.looked && !phase.prefilled
	if decode && !s.limits.Shared {
		shares = s.bridges()
	}
	if decode && !prompts {
		s.speculate()
	}

	for i := range s.slots {
		q := s.slots[i].owner
		switch {
		case q == nil || !s.due(q):
		case !q.decoding():
			s.feed(q, shares[q])
		case decode:
			s.feed(q, 1)
		}
	}
}

// decoding counts the sequences of the step's kind that only need their last token computed.
func (s *scheduler) decoding() int {
	rows := 0
	for _, q := range s.running {
		if s.due(q) && q.decoding() {
			rows++
		}
	}
	return rows
}

// try feeds a suspect alone, until it has drawn a token where the engine crashed:
// whether it was the one.
func (s *scheduler) try(q *sequence) {
	s.step.batch.Suspect = true
	s.step.batch.Reproducible = q.req.Reproducible
	if q.looking() {
		s.look(q)
		return
	}
	s.feed(q, min(s.limits.Batch, s.cells.room()))
}

// look puts embeddings of a sequence's media into the batch: all of them, or as many
// as prefill may take.
func (s *scheduler) look(q *sequence) {
	media, _ := q.next()
	from := q.fed - media.at
	n := media.Len - from
	if !media.Whole {
		n = min(n, s.prefillBudget(q))
	}
	if n <= 0 {
		return
	}
	st := &s.step
	st.batch.AddEmbeddings(media.Media, from, n, position(q.req.spans, media.at), q.slot)
	st.prompt += n
	st.prefill += n
	st.fed = append(st.fed, feed{q, n})
}

// feed puts a sequence's next n tokens into the batch, as far as they fit, and
// asks for a row when its last one is among them.
func (s *scheduler) feed(q *sequence, n int) {
	st := &s.step
	n = min(n, q.ahead(), s.limits.Batch-st.batch.Len())
	if n <= 0 {
		return
	}

	decoding := q.decoding()
	if q.scoring() {
		n = min(n, 1+st.scores)
		st.scores -= n - 1
	}

	shift := position(q.req.spans, q.fed) - q.fed
	for pos := q.fed; pos < q.fed+n; pos++ {
		last := pos == len(q.tokens)-1
		scored := pos+1 < q.prompt && pos+1 >= q.prompt-q.toScore
		if last || scored {
			row := Row{Sampler: q.sampler, Index: st.batch.Len(), Top: -1}
			if q.req.LogProbs {
				row.Top = q.req.Top
			}
			if scored {
				row.Sampler = nil
				row.Token = q.tokens[pos+1]
			}
			st.drawn = append(st.drawn, q)
			st.rows = appendRow(st.rows, row)
		}
		st.batch.Add(q.tokens[pos], shift+pos, q.slot, last || scored)
	}
	if decoding {
		s.feedDrafts(q, shift)
	}

	st.prompt += max(min(n, q.prompt-q.fed), 0)
	if decoding {
		st.decode++
	} else {
		st.prefill += n
	}

	st.fed = append(st.fed, feed{q, n})
}

// appendRow appends a row and keeps the memory of one that was there before.
func appendRow(rows []Row, r Row) []Row {
	if len(rows) < cap(rows) {
		r.Alternatives = rows[:len(rows)+1][len(rows)].Alternatives
	}
	return append(rows, r)
}

// ownPrefill is how many times as much prefill a step may take of a client's prompt as
// the gap between tokens allows, where only those of clients that take more than their
// share wait for it.
const ownPrefill = 5

// apply counts what a decoded step computed.
func (s *scheduler) apply(st *step) {
	s.countDrafts(st)
	for _, f := range st.fed {
		f.seq.fed += f.n
		f.seq.suspect = f.seq.suspect && f.seq.pending() > 0
		s.cells.grow(f.seq.slot, f.n)
		weight := 1
		if f.seq.fed > f.seq.prompt {
			weight = answerWeight
		}
		f.seq.account.served += float64(weight * f.n)
	}
}

// release forgets a sequence that has ended.
func (s *scheduler) release(q *sequence) {
	if q.slot >= 0 {
		s.vacate(q)
	}
	s.queue.leave(q)
}

// vacate takes a sequence out of its slot, which keeps its cells for a prompt that
// begins alike, unless its tenant has been forgotten.
func (s *scheduler) vacate(q *sequence) {
	s.dropDrafts(q)
	s.slots[q.slot] = slot{
		kept:  q.tokens[:q.fed:q.fed],
		spans: q.req.spans,
		scope: q.req.scope(),
		used:  s.tick,
		floor: q.floor,
	}
	if q.req.forgotten {
		s.cut(q.slot, 0)
	}
	s.running = slices.DeleteFunc(s.running, func(o *sequence) bool { return o == q })
}

// forgetAll makes the state agree with KV cells that were all dropped: what runs is restored, or
// computed again from the start, what was kept is gone.
func (s *scheduler) forgetAll() {
	for i := range s.slots {
		s.cells.trim(i, 0)
		if sl := &s.slots[i]; s.saving.covers(sl.kept, sl.scope) == nil {
			s.lose(sl, ReuseRestarted)
		}
		if q := s.slots[i].owner; q != nil {
			q.fed = 0
			q.floor = 0
		}
		s.slots[i].kept = nil
		s.slots[i].floor = 0
	}
	s.step.ops = s.step.ops[:0]
	s.unpin()
	s.restoreRunning()
}

// resize takes note of the cells that there are, before all are forgotten. It reports whether there are others than
// before.
func (s *scheduler) resize(l Limits) bool {
	if s.limits.Cells == l.Cells && s.limits.Shared == l.Shared {
		return false
	}
	s.limits.Cells = l.Cells
	s.limits.Shared = l.Shared
	s.cells = newCells(s.limits)
	return true
}

// used returns the cells that running sequences hold and those kept for others.
func (s *scheduler) used() (running, kept int) {
	for i := range s.slots {
		if s.slots[i].owner != nil {
			running += s.slots[i].owner.fed
		} else {
			kept += len(s.slots[i].kept)
		}
	}
	return running, kept
}

// Common returns the length of the longest common beginning.
func Common(a, b []Token) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

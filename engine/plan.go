package engine

import (
	"cmp"
	"slices"
	"time"
)

// sequence is one choice of a request on its way: in the queue, or in a slot.
type sequence struct {
	req     *request
	index   int     // of the choice
	tokens  []Token // prompt, then what was generated
	prompt  int     // length of the prompt
	slot    int     // sequence number of the KV cells; -1 in the queue
	fed     int     // tokens whose cells are computed
	cached  int     // prompt tokens that were not computed, -1 before the first admission
	sampler Sampler
	text    answerText
	waiting []TokenInfo // tokens with log-probabilities whose text is held back
}

// pending returns how many tokens must be computed before the next can be drawn.
func (q *sequence) pending() int { return len(q.tokens) - q.fed }

// decoding reports whether the sequence only needs its last token computed.
func (q *sequence) decoding() bool { return q.pending() == 1 && q.slot >= 0 }

// slot is one sequence of the KV cache: it belongs to a running sequence, or it
// keeps what one left behind, for a prompt that begins alike.
type slot struct {
	owner *sequence
	kept  []Token // without an owner
	used  uint64  // when it lost its last owner, in steps
}

// tokens returns those whose cells the slot holds.
func (s *slot) tokens() []Token {
	if s.owner != nil {
		return s.owner.tokens[:s.owner.fed]
	}
	return s.kept
}

// kvOp changes the KV cache before a batch.
type kvOp struct {
	copy bool // make slot hold what src holds; otherwise drop slot's cells from position from
	src  int
	slot int
	from int
}

// step is what plan decided: operations in order, then a batch, then rows to draw.
type step struct {
	ops     []kvOp
	batch   Batch
	rows    []Row
	drawn   []*sequence // whose row each is
	fed     []feed
	prefill int // tokens of sequences that read their prompt
	decode  int // sequences that only need their last token computed
	prompt  int // tokens of the batch that requests brought
}

// feed is how many tokens of a sequence the batch holds.
type feed struct {
	seq *sequence
	n   int
}

// reset empties the step but for its operations, which stay until they are done.
func (st *step) reset() {
	st.rows, st.drawn, st.fed, st.prefill, st.decode, st.prompt = st.rows[:0], st.drawn[:0], st.fed[:0], 0, 0, 0
	st.batch.Reset()
}

// The prefill that the first step beside running streams takes, before there is
// anything to learn from: less where many tokens come before, since each costs more.
const (
	firstChunk     = 32
	firstChunkDeep = 8
	deep           = 256 // tokens
)

// scheduler decides what each step computes. It has no clock, does no I/O and
// starts no goroutine: the loop tells it what came, asks for a plan, carries it
// out, and tells it what came of it.
type scheduler struct {
	limits    Limits
	slots     []slot
	cells     cells
	waiting   []*sequence // first come, first served; preempted ones go to the front
	running   []*sequence // in order of admission
	chunk     int         // prefill tokens a step may take beside running streams
	tick      uint64
	preempted uint64
	step      step

	decodeTimes []float64 // by rows: seconds of a step without prefill, smoothed; 0 if never seen
	prefilled   bool      // whether the last step had prefill
}

func newScheduler(l Limits) *scheduler {
	return &scheduler{limits: l, slots: make([]slot, l.Sequences), cells: newCells(l), chunk: firstChunk,
		decodeTimes: make([]float64, l.Sequences+1)}
}

func (s *scheduler) idle() bool { return len(s.waiting)+len(s.running) == 0 }

// plan decides the next step:
//
//  1. Admit waiting sequences while a slot and cells are there.
//  2. Close holes between the running sequences' slots, where those cost.
//  3. Give every decoding sequence a row; when cells are short, drop what is
//     kept for nobody, then preempt the newest.
//  4. Fill the batch with prefill, bounded while streams run.
//
// The step is valid until the next call. Nothing of it counts before apply.
func (s *scheduler) plan() *step {
	s.tick++
	s.step.reset()
	s.admit()
	s.closeHoles()
	s.secureRows()
	s.fillBatch()
	return &s.step
}

// admit gives slots to waiting sequences, in order. One that would share the
// beginning of a prompt now being computed lets others pass until it is.
func (s *scheduler) admit() {
	for i := 0; i < len(s.waiting); {
		q := s.waiting[i]
		where, ok := s.place(q)
		if !ok {
			return
		}
		if where.later {
			i++
			continue
		}
		if !s.makeRoom(q, where) {
			return
		}
		s.take(q, where)
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.running = append(s.running, q)
	}
}

// placement is where a sequence can go.
type placement struct {
	slot  int
	src   int  // slot whose beginning it shares; may be slot itself
	keep  int  // tokens shared
	later bool // a prefill under way will share more: wait for it
}

// place chooses a slot for a sequence. It reports false when all have owners.
func (s *scheduler) place(q *sequence) (placement, bool) {
	best := placement{slot: -1, src: -1}
	soon := 0 // tokens that prefills under way are about to share
	for i := range s.slots {
		keep := s.reusable(q, &s.slots[i])
		if keep > best.keep {
			best.src, best.keep = i, keep
		}
		if o := s.slots[i].owner; o != nil && !o.decoding() && s.limits.RollsBack {
			soon = max(soon, min(common(q.tokens, o.tokens), len(q.tokens)-1))
		}
	}
	best.later = soon > best.keep && soon >= s.worthCopying()
	best.slot = s.freeSlot(q, best)
	if best.slot < 0 {
		return best, false
	}
	if best.src != best.slot && best.keep < s.worthCopying() {
		best.src, best.keep = best.slot, s.reusable(q, &s.slots[best.slot])
	}
	return best, true
}

// reusable returns how many of a slot's tokens a sequence begins with. At least
// its last token must be computed, to draw the next.
func (s *scheduler) reusable(q *sequence, sl *slot) int {
	held := sl.tokens()
	n := min(common(q.tokens, held), len(q.tokens)-1)
	if !s.limits.RollsBack && n < len(held) {
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
//  3. one of the half unused for longest, or any when as many wait as are free.
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
	all := len(s.waiting) >= len(empty)+len(kept)
	oldest := func(a, b int) int { return cmp.Compare(s.slots[a].used, s.slots[b].used) }
	choice := empty
	if len(empty) == 0 {
		choice = kept
		if slices.SortStableFunc(kept, oldest); !all {
			choice = kept[:(len(kept)+1)/2]
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
	groups, inside := 0, false
	for j := range s.slots {
		owned := j == i || s.slots[j].owner != nil
		if owned && !inside {
			groups++
		}
		inside = owned
	}
	return groups
}

// makeRoom drops kept cells, the longest unused first, until a sequence fits
// where it was placed with a token to spare for every running one. It reports
// false when it cannot, and has then dropped nothing.
func (s *scheduler) makeRoom(q *sequence, p placement) bool {
	keepHere := 0
	if p.src == p.slot {
		keepHere = p.keep
	}
	need := len(q.tokens) - p.keep + len(s.running) + 1
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
	for s.cells.room() < need && s.dropOldest(p) {
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

// dropOldest drops the cells kept for nobody in the slot unused for longest,
// other than a placement's. It reports false when there are none.
func (s *scheduler) dropOldest(p placement) bool {
	oldest := -1
	for i := range s.slots {
		sl := &s.slots[i]
		if sl.owner == nil && len(sl.kept) > 0 && i != p.slot && i != p.src && (oldest < 0 || sl.used < s.slots[oldest].used) {
			oldest = i
		}
	}
	if oldest < 0 {
		return false
	}
	s.drop(oldest, 0)
	return true
}

// drop leaves a slot without an owner its first n tokens.
func (s *scheduler) drop(i, n int) {
	sl := &s.slots[i]
	if len(sl.kept) > n {
		s.step.ops = append(s.step.ops, kvOp{slot: i, from: n})
		s.cells.trim(i, n)
		sl.kept = sl.kept[:n]
	}
}

// take puts a sequence into the slot it was placed in.
func (s *scheduler) take(q *sequence, p placement) {
	keep := p.keep
	if p.src < 0 || len(s.slots[p.src].tokens()) < keep {
		keep = 0 // makeRoom had to drop it
	}
	if p.src != p.slot && keep > 0 {
		s.step.ops = append(s.step.ops, kvOp{copy: true, src: p.src, slot: p.slot})
		s.cells.copy(p.src, p.slot)
		s.slots[p.slot].kept = s.slots[p.src].tokens()
	}
	s.drop(p.slot, keep)
	s.slots[p.slot] = slot{owner: q}
	q.slot, q.fed = p.slot, keep
	if q.cached < 0 {
		q.cached = keep
	}
}

// closeHoles moves a sequence at one end of the owned slots into a hole between
// them, or over the other end, one a step, while nobody waits to fill the hole.
// Sequences with buffers of their own are computed in one graph only if their
// numbers follow each other, and a copy costs less than a few steps of two
// graphs. But a beginning that may come again costs more to compute than that,
// so a slot that keeps one is left alone.
func (s *scheduler) closeHoles() {
	if s.limits.Shared || len(s.waiting) > 0 || len(s.running) < 2 {
		return
	}
	var owned []int
	for i := range s.slots {
		if s.slots[i].owner != nil {
			owned = append(owned, i)
		}
	}
	first, last := owned[0], owned[len(owned)-1]
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
	}
}

// move gives a running sequence another slot, without an owner, cells and all.
func (s *scheduler) move(q *sequence, to int) {
	s.step.ops = append(s.step.ops, kvOp{copy: true, src: q.slot, slot: to}, kvOp{slot: q.slot})
	s.slots[q.slot] = slot{}
	s.slots[to] = slot{owner: q}
	q.slot = to
}

// secureRows makes sure that every decoding sequence can have a cell.
func (s *scheduler) secureRows() {
	for {
		rows := 0
		for _, q := range s.running {
			if q.decoding() {
				rows++
			}
		}
		// A prefill alone must be able to go on, too.
		if s.cells.room() >= max(rows, 1) || !s.relieve() {
			return
		}
	}
}

// relieve frees cells: what is kept for nobody first, then the newest running
// sequence's, which goes back to the front of the queue to be computed again.
// It reports false when only one sequence is left.
func (s *scheduler) relieve() bool {
	if s.dropOldest(placement{slot: -1, src: -1}) {
		return true
	}
	if len(s.running) < 2 {
		return false
	}
	q := s.running[len(s.running)-1]
	s.release(q)
	s.drop(q.slot, 0)
	q.slot, q.fed = -1, 0
	s.waiting = slices.Insert(s.waiting, 0, q)
	s.preempted++
	return true
}

// fillBatch writes the batch in order of slots, as llama.cpp groups them.
// Sequences with buffers of their own cannot be computed in one graph unless
// they have as many tokens each, so there prefill and decoding take turns.
func (s *scheduler) fillBatch() {
	shares := s.prefillShares()
	decode := true
	if len(shares) > 0 && !s.limits.Shared {
		decode = s.prefilled && s.decodes()
		if decode {
			shares = nil
		}
	}
	s.prefilled = len(shares) > 0
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

// decodes reports whether any sequence only needs its last token computed.
func (s *scheduler) decodes() bool {
	return slices.ContainsFunc(s.running, (*sequence).decoding)
}

// feed puts a sequence's next n tokens into the batch, as far as they fit, and
// asks for a row when its last one is among them.
func (s *scheduler) feed(q *sequence, n int) {
	st := &s.step
	n = min(n, q.pending(), s.limits.Batch-st.batch.Len())
	if n <= 0 {
		return
	}
	decoding := q.decoding()
	for pos := q.fed; pos < q.fed+n; pos++ {
		last := pos == len(q.tokens)-1
		if last {
			top := -1
			if q.req.LogProbs {
				top = q.req.Top
			}
			st.drawn = append(st.drawn, q)
			st.rows = appendRow(st.rows, q.sampler, st.batch.Len(), top)
		}
		st.batch.Add(q.tokens[pos], pos, q.slot, last)
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
func appendRow(rows []Row, sampler Sampler, index, top int) []Row {
	if len(rows) < cap(rows) {
		rows = rows[:len(rows)+1]
	} else {
		rows = append(rows, Row{})
	}
	r := &rows[len(rows)-1]
	r.Sampler, r.Index, r.Top = sampler, index, top
	return rows
}

// prefillShares divides what a step has for prefill: half to the one that came
// first, so that it cannot starve, the rest to the shortest, so that a short
// prompt need not wait for a long one.
func (s *scheduler) prefillShares() map[*sequence]int {
	var filling []*sequence
	rows := 0
	for _, q := range s.running {
		if q.decoding() {
			rows++
		} else {
			filling = append(filling, q)
		}
	}
	if len(filling) == 0 {
		return nil
	}
	budget := s.limits.Batch - rows
	if rows > 0 {
		budget = min(budget, s.chunk)
	}
	if room := s.cells.room(); room-rows < budget {
		budget = max(room-rows, 0)
	}
	shares := make(map[*sequence]int, len(filling))
	first := filling[0]
	shares[first] = min(first.pending(), (budget+1)/2)
	budget -= shares[first]
	slices.SortStableFunc(filling, func(a, b *sequence) int { return a.pending() - b.pending() })
	for _, q := range filling {
		n := min(q.pending()-shares[q], budget)
		shares[q] += n
		budget -= n
	}
	return shares
}

// apply counts what a decoded step computed.
func (s *scheduler) apply(st *step) {
	for _, f := range st.fed {
		f.seq.fed += f.n
		s.cells.grow(f.seq.slot, f.n)
	}
}

// observe learns from how long a step took how much prefill a step may take
// while streams run: so much that the gap between their tokens grows to two and
// a half times a step of all that will then run. What a token costs
// depends on how many come before it and on how many come with it, so the next
// step's share follows from the last one's.
func (s *scheduler) observe(st *step, took time.Duration) {
	t := took.Seconds()
	switch {
	case st.prefill == 0:
		d := &s.decodeTimes[st.decode]
		if *d == 0 {
			*d = t
		}
		*d += (t - *d) / 8
		return
	case st.decode == 0 && !s.decodes():
		s.chunk = firstChunk
		if slices.ContainsFunc(s.running, func(q *sequence) bool { return q.fed > deep }) {
			s.chunk = firstChunkDeep
		}
		return
	case st.decode > 0:
		t -= s.decodeTime(st.decode)
	}
	rows := 0
	for _, q := range s.running {
		if q.decoding() {
			rows++
		}
	}
	factor := (2.5*s.decodeTime(len(s.running)) - s.decodeTime(rows)) / max(t, 1e-6)
	if st.prefill < s.chunk && factor > 1 {
		return // there was no more to take
	}
	s.chunk = min(max(int(float64(s.chunk)*min(factor, 2)), 1), s.limits.Batch)
}

// decodeTime is how long a step of so many rows takes, or of as many as have
// been seen.
func (s *scheduler) decodeTime(rows int) float64 {
	for ; rows > 0; rows-- {
		if s.decodeTimes[rows] > 0 {
			return s.decodeTimes[rows]
		}
	}
	return 0
}

// release takes a sequence out of its slot, which keeps its cells for a prompt
// that begins alike, or out of the queue.
func (s *scheduler) release(q *sequence) {
	if q.slot < 0 {
		s.waiting = slices.DeleteFunc(s.waiting, func(o *sequence) bool { return o == q })
		return
	}
	s.slots[q.slot] = slot{kept: q.tokens[:q.fed:q.fed], used: s.tick}
	s.running = slices.DeleteFunc(s.running, func(o *sequence) bool { return o == q })
}

// forget makes the state agree with KV cells that were all dropped: what runs is
// computed again from the start, what was kept is gone.
func (s *scheduler) forget(slot int) {
	s.cells.trim(slot, 0)
	if q := s.slots[slot].owner; q != nil {
		q.fed = 0
	}
	s.slots[slot].kept = nil
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

// common returns the length of the longest common beginning.
func common(a, b []Token) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

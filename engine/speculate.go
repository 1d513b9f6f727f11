package engine

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// SpeculationAuto computes guesses of what answers go on with, where that pays.
const SpeculationAuto = "auto"

const (
	// worthDrafting is how much faster, for the mean of the streams, a step's drafts must make them. Below that, what was
	// measured may be noise.
	worthDrafting = 0.08

	// mostDrafting is how many sequences of a step have drafts at most, where not all have equally many.
	mostDrafting = 8

	// plainAfter is after how many steps with drafts one comes without, so that what that takes stays known.
	plainAfter = 64

	// After so many steps in which drafts would pay if they cost what they may cost at least, but not what was measured,
	// they are tried again; and each time that this was in vain, after twice as many.
	tryAfter     = 64
	tryAfterMost = 4096

	// rowCost is what a row more is taken to cost, as a part of a step, where nothing is known.
	rowCost = 0.15
)

// lengths are those that drafts have: few, so that what each costs is soon known.
var lengths = [...]int{1, 2, 3, 4, 5, 7, 9, 12, mostDrafts}

// speculation is what is known of steps with drafts.
type speculation struct {
	on bool

	// cost is what steps take, as multiples of the time of the same without drafts: by the binary digits of how many
	// sequences decode, and by the tokens drafted; 0 if never seen. Uneven ones take more graphs where each sequence has
	// a buffer of its own.
	cost [2][][]float64

	plain   []float64 // seconds of a step without drafts, by how many sequences decode; 0 if never seen
	drafted int       // steps since one without drafts
	trials  []trial   // by the binary digits of how many sequences decode
	trying  bool      // the step is one

	plan   []plannedDraft // of the step
	counts map[DraftKind]DraftCount

	// price is draftCost, other than where tests have drafts whatever they cost.
	price func(s *scheduler, rows, drafts int, uneven bool) float64
}

// trial is when drafts that did not pay are tried again.
type trial struct {
	vain  int // steps in which they did not pay, but might
	after int // so many of which are waited for
}

// DraftCount counts tokens of drafts.
type DraftCount struct {
	Drafted  uint64 // computed in a step as guesses
	Accepted uint64 // and drawn
}

func addDrafts(to *map[DraftKind]DraftCount, from map[DraftKind]DraftCount) {
	if *to == nil {
		*to = map[DraftKind]DraftCount{}
	}
	for kind, o := range from {
		c := (*to)[kind]
		c.Drafted += o.Drafted
		c.Accepted += o.Accepted
		(*to)[kind] = c
	}
}

// plannedDraft is how much of its guess a sequence gets into a step.
type plannedDraft struct {
	q      *sequence
	room   int                       // tokens that it can have
	most   int                       // index of the greatest length of its guess, from 1; 0 for none
	gain   [len(lengths) + 1]float64 // logarithm of how many times as many tokens it is expected to draw, by length
	length int                       // index of its length in lengths, from 1; 0 for none
}

func newSpeculation(l Limits) speculation {
	sp := speculation{
		price:  (*scheduler).draftCost,
		trials: make([]trial, bits.Len(uint(l.Sequences))+1),
		counts: map[DraftKind]DraftCount{DraftNgram: {}, DraftPrediction: {}},
	}
	for i := range sp.trials {
		sp.trials[i].after = tryAfter
	}
	sp.plain = make([]float64, l.Sequences+1)
	for i := range sp.cost {
		sp.cost[i] = make([][]float64, bits.Len(uint(l.Sequences))+1)
		for rows := range sp.cost[i] {
			sp.cost[i][rows] = make([]float64, l.Rows+1)
		}
	}
	return sp
}

// speculate decides how many tokens of what each decoding sequence is guessed to go on with are in the step. They are
// chosen so that the product of the rates of all streams is greatest, also of those that only wait for the step:
// a stream that gains pays for the others that lose, in proportion, and so all together gain. Where the step is as full
// as it can be, or nothing is left to gain, there are none.
func (s *scheduler) speculate() {
	sp := &s.spec
	if !sp.on {
		return
	}
	sp.trying = false
	rows, guesses := s.proposeDrafts()
	room := min(min(s.limits.Rows, s.limits.Batch)-rows, s.cells.room()-s.streams())
	if !guesses || room <= 0 {
		return
	}
	if sp.drafted++; sp.drafted > plainAfter {
		sp.drafted = 0
		return
	}

	known := func(drafts int, uneven bool) float64 { return sp.price(s, rows, drafts, uneven) }
	trial := &sp.trials[bits.Len(uint(rows))]
	if s.chooseDrafts(rows, room, known) {
		trial.after = tryAfter
		return
	}
	if s.spec.plain[rows] == 0 {
		return
	}
	least := func(drafts int, _ bool) float64 { return 1 + s.leastCost(rows)*float64(drafts) }
	if !s.chooseDrafts(rows, room, least) {
		return
	}
	if trial.vain++; trial.vain >= trial.after {
		trial.vain = 0
		trial.after = min(2*trial.after, tryAfterMost)
		sp.trying = true
		return
	}
	s.clearDrafts()
}

// streams counts the sequences that wait for the step.
func (s *scheduler) streams() int {
	n := 0
	for _, q := range s.running {
		if q.decoding() {
			n++
		}
	}
	return n
}

// proposeDrafts has the drafters of the step's decoding sequences guess, and returns how many sequences those are, and
// whether there is a guess. The plan has those with a drafter.
func (s *scheduler) proposeDrafts() (rows int, guesses bool) {
	sp := &s.spec
	sp.plan = sp.plan[:0]
	for i := range s.slots {
		q := s.slots[i].owner
		if q == nil || !s.due(q) || !q.decoding() {
			continue
		}
		rows++
		if q.drafter == nil || q.scoring() {
			continue
		}

		// The token drawn after the last of them must have room, too.
		q.drafter.propose(q.tokens)
		room := s.limits.Context - len(q.tokens) - 1
		most := min(len(q.drafter.draft), room)
		if q.req.MaxTokens > 0 {
			most = min(most, q.req.MaxTokens-(len(q.tokens)-q.prompt)-1)
		}
		guesses = guesses || most > 0
		sp.plan = append(sp.plan, planDraft(q, room, most))
	}
	return rows, guesses
}

func planDraft(q *sequence, room, most int) plannedDraft {
	p := plannedDraft{q: q, room: room}
	chance := q.drafter.chance()
	expected := 1.
	right := 1.
	next := 0
	for n := 1; n <= most; n++ {
		right *= chance
		expected += right
		if n == lengths[next] {
			next++
			p.gain[next] = math.Log(expected)
		}
	}
	p.most = next
	return p
}

// chooseDrafts chooses the drafts of the step by what steps with so many of them cost, as multiples of one without. It
// reports false, and there are none, if none pay.
func (s *scheduler) chooseDrafts(rows, room int, cost func(drafts int, uneven bool) float64) bool {
	sp := &s.spec
	streams := float64(s.streams())
	most := math.Inf(1)
	if streams > 1 {
		most = s.gapTime() / s.spec.plain[rows]
	}

	// What the drafts of a step are worth.
	worth := func(gain float64, drafts int, uneven bool) float64 {
		c := cost(drafts, uneven)
		if drafts > room || c > most {
			return math.Inf(-1)
		}
		return gain - streams*math.Log(c)
	}

	uneven, best := s.chooseUneven(rows, worth)
	if even, value := s.chooseEven(rows, worth); even > 0 && value >= best {
		best = value
		uneven = false
		for i := range sp.plan {
			sp.plan[i].length = even
		}
	}
	if best < worthDrafting*streams {
		s.clearDrafts()
		return false
	}

	s.step.uneven = uneven
	for i := range sp.plan {
		if p := &sp.plan[i]; p.length > 0 {
			p.q.drafter.take(p.tokens(), p.q.tokens[len(p.q.tokens)-1])
		}
	}
	return true
}

func (s *scheduler) clearDrafts() {
	s.step.uneven = false
	for i := range s.spec.plan {
		s.spec.plan[i].length = 0
		s.spec.plan[i].q.drafter.taken = 0
	}
}

// chooseEven finds the best length for drafts of all sequences, which are filled where guesses are shorter: 0 for none.
func (s *scheduler) chooseEven(rows int, worth func(float64, int, bool) float64) (length int, best float64) {
	plan := s.spec.plan
	if len(plan) < rows {
		return 0, 0
	}
	for n := 1; n <= len(lengths); n++ {
		gain := 0.
		for i := range plan {
			if plan[i].room < lengths[n-1] {
				return length, best
			}
			gain += plan[i].gain[min(n, plan[i].most)]
		}
		if value := worth(gain, rows*lengths[n-1], false); value > best {
			length = n
			best = value
		}
	}
	return length, best
}

// chooseUneven chooses a length for each sequence: the one that is worth most is made longer as long as that is worth
// more. Where each sequence has a buffer of its own, one of them alone has drafts.
func (s *scheduler) chooseUneven(rows int, worth func(float64, int, bool) float64) (uneven bool, best float64) {
	plan := s.spec.plan
	most := mostDrafting
	if !s.limits.Shared {
		most = 1 // in a graph of its own
	}
	if len(plan) > most {
		slices.SortStableFunc(plan, func(a, b plannedDraft) int {
			return cmp.Compare(b.gain[b.most], a.gain[a.most])
		})
		plan = plan[:most]
	}

	uneven = rows > 1
	gain := 0.
	drafts := 0
	for {
		at := -1
		to := 0
		for i := range plan {
			p := &plan[i]
			for n := p.length + 1; n <= p.most; n++ {
				more := lengths[n-1] - p.tokens()
				if value := worth(gain+p.gain[n]-p.gain[p.length], drafts+more, uneven); value > best {
					best = value
					at = i
					to = n
				}
			}
		}
		if at < 0 {
			return uneven && drafts > 0, best
		}
		gain += plan[at].gain[to] - plan[at].gain[plan[at].length]
		drafts += lengths[to-1] - plan[at].tokens()
		plan[at].length = to
	}
}

// tokens is how many tokens the draft has.
func (p *plannedDraft) tokens() int {
	if p.length == 0 {
		return 0
	}
	return lengths[p.length-1]
}

// leastCost is what a token more costs a step of so many rows at least, as a part of it: what it costs among many.
func (s *scheduler) leastCost(rows int) float64 {
	least := math.Inf(1)
	for _, p := range s.costs.prefill {
		if p.tokens > 0 {
			least = min(least, p.each()/s.spec.plain[rows])
		}
	}
	if math.IsInf(least, 1) {
		return rowCost
	}
	return least
}

// draftCost is what a step of so many rows with drafts takes, as a multiple of one without: as measured, or on a line
// between what was measured. Where nothing was, a token costs what it costs at least.
func (s *scheduler) draftCost(rows, drafts int, uneven bool) float64 {
	if s.spec.plain[rows] == 0 {
		return math.Inf(1) // not even a step without is known
	}

	costs := s.spec.costs(rows, uneven)
	drafts = min(drafts, len(costs)-1)
	if costs[drafts] > 0 {
		return costs[drafts]
	}

	below := drafts
	for below > 0 && costs[below] == 0 {
		below--
	}
	above := drafts
	for above < len(costs) && costs[above] == 0 {
		above++
	}
	low := 1.
	if below > 0 {
		low = costs[below]
	}
	switch {
	case above < len(costs):
		return low + (costs[above]-low)*float64(drafts-below)/float64(above-below)
	case below > 0:
		return 1 + (low-1)*float64(drafts)/float64(below)
	}
	return 1 + s.leastCost(rows)*float64(drafts)
}

func (sp *speculation) costs(rows int, uneven bool) []float64 {
	which := 0
	if uneven {
		which = 1
	}
	return sp.cost[which][bits.Len(uint(rows))]
}

// learnDrafts learns from what a step with drafts took.
func (s *scheduler) learnDrafts(st *step, took float64) {
	sp := &s.spec
	if sp.plain[st.decode] == 0 {
		return
	}
	cost := &sp.costs(st.decode, st.uneven)[st.drafted]
	times := max(took/sp.plain[st.decode], 1)
	if sp.trying {
		*cost = times
	}
	undisturbed(cost, times)
}

// undisturbed learns what something takes where nothing disturbs it, so that other programs on the machine make neither
// steps with drafts look cheap nor those without: it follows what is less at once, and what is more by small steps.
func undisturbed(value *float64, seen float64) {
	switch {
	case *value == 0:
		*value = seen
	case seen < *value:
		*value += (seen - *value) / 2
	default:
		*value += (min(seen, 1.5**value) - *value) / 16
	}
}

// feedDrafts puts what a sequence's drafter guesses into the batch, after its last token.
func (s *scheduler) feedDrafts(q *sequence, shift int) {
	if q.drafter == nil {
		return
	}
	st := &s.step
	for i, t := range q.drafter.draft[:q.drafter.taken] {
		row := Row{Sampler: q.sampler, Index: st.batch.Len(), Top: -1, Draft: true}
		if q.req.LogProbs {
			row.Top = q.req.Top
		}
		st.drawn = append(st.drawn, q)
		st.rows = appendRow(st.rows, row)
		st.batch.Add(t, shift+len(q.tokens)+i, q.slot, true)
		st.drafted++
	}
}

// countDrafts counts a step's drafts. The cells of those that were right are there before the tokens are.
func (s *scheduler) countDrafts(st *step) {
	n := 0
	for i, q := range st.drawn {
		row := &st.rows[i]
		if !row.Draft {
			n = 0
			continue
		}
		if !row.Refused {
			q.surplus++
		}
		if n++; n > q.drafter.real {
			continue // it only fills the step
		}
		c := s.spec.counts[q.drafter.kind]
		c.Drafted++
		if !row.Refused {
			c.Accepted++
		}
		s.spec.counts[q.drafter.kind] = c
	}
}

// accept gives a sequence the cell of a guess that was right.
func (s *scheduler) accept(q *sequence) {
	if q.ended {
		return // release has dropped it
	}
	q.surplus--
	q.fed++
	q.account.served += answerWeight
	s.cells.grow(q.slot, 1)
}

// dropDrafts ends the guesses for a sequence that leaves its slot, and drops the cells of those that were right and
// come after the end of the answer.
func (s *scheduler) dropDrafts(q *sequence) {
	if q.drafter != nil {
		q.drafter.judge(q.tokens)
	}
	if q.surplus > 0 {
		s.step.ops = append(s.step.ops, kvOp{slot: q.slot, from: position(q.req.spans, q.fed)})
		q.surplus = 0
	}
}

// settleDrafts has the drafters see what came of their guesses.
func (s *scheduler) settleDrafts() {
	if !s.spec.on {
		return
	}
	for _, q := range s.running {
		if q.drafter != nil {
			q.drafter.judge(q.tokens)
		}
	}
}

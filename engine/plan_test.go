package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// add puts a sequence with a prompt of the given tokens into the queue.
func (s *scheduler) add(prompt string) *sequence {
	q := s.newSequence(prompt)
	s.queue.push(q)
	return q
}

func (s *scheduler) newSequence(prompt string) *sequence {
	q := &sequence{req: &request{}, slot: -1, cached: -1, prompt: len(prompt)}
	for _, c := range []byte(prompt) {
		q.tokens = append(q.tokens, Token(c))
	}
	return q
}

// look puts media into a sequence's prompt, at its tokens from at on.
func (q *sequence) look(at, n, positions int, whole bool) {
	m := &Media{ID: -1, Embeddings: make([]float32, n), Len: n, Span: positions, Whole: whole}
	if positions < n {
		m.Grid = make([]int32, 4*n)
	}
	for i := range n {
		q.tokens[at+i] = m.ID
	}
	q.req.spans = append(q.req.spans, span{at, m})
}

// turn plans a step, counts it as computed, and draws an x for every row.
func (s *scheduler) turn() *step {
	st := s.plan()
	s.apply(st)
	for _, q := range st.drawn {
		q.tokens = append(q.tokens, 'x')
	}
	return st
}

// shape writes a batch as slot:tokens pairs, a star where a row is drawn.
func (st *step) shape() string {
	var parts []string
	for i := 0; i < st.batch.Len(); {
		n := 0
		star := ""
		seq := st.batch.Sequences[i]
		for ; i < st.batch.Len() && st.batch.Sequences[i] == seq; i++ {
			n++
			if st.batch.Outputs[i] == 1 {
				star = "*"
			}
		}
		parts = append(parts, fmt.Sprintf("%d:%d%s", seq, n, star))
	}
	return strings.Join(parts, " ")
}

func (st *step) opText() string {
	var parts []string
	for _, op := range st.ops {
		switch {
		case op.copy:
			parts = append(parts, fmt.Sprintf("copy %d to %d", op.src, op.slot))
		case op.save != nil:
			parts = append(parts, fmt.Sprintf("save %d", op.slot))
		case op.restore != nil:
			parts = append(parts, fmt.Sprintf("restore %d", op.slot))
		default:
			parts = append(parts, fmt.Sprintf("drop %d from %d", op.slot, op.from))
		}
	}
	st.ops = st.ops[:0]
	return strings.Join(parts, ", ")
}

func own(sequences, context, batch int) Limits {
	return Limits{Sequences: sequences, Context: context, Cells: sequences * context, Batch: batch, RollsBack: true}
}

func oneBuffer(sequences, context, cells, batch int) Limits {
	return Limits{Sequences: sequences, Context: context, Cells: cells, Batch: batch, RollsBack: true, Shared: true}
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestPlanPrefillThenDecode(t *testing.T) {
	s := newScheduler(own(4, 128, 16), 0)
	s.add(strings.Repeat("a", 20))
	expect(t, "a full batch of prefill", s.turn().shape(), "0:16")
	expect(t, "the rest, and a row", s.turn().shape(), "0:4*")
	expect(t, "decoding", s.turn().shape(), "0:1*")
}

func TestPlanTakesTurnsInBuffersOfTheirOwn(t *testing.T) {
	s := newScheduler(own(4, 128, 64), 0)
	s.add("stream")
	s.turn()
	s.chunk = 10
	s.add(strings.Repeat("b", 30))
	var shapes []string
	for range 6 {
		shapes = append(shapes, s.turn().shape())
	}
	expect(t, "steps", strings.Join(shapes, " | "), "0:1* | 1:10 | 0:1* | 1:10 | 0:1* | 1:10*")
}

func TestPlanMixesInOneBuffer(t *testing.T) {
	s := newScheduler(oneBuffer(4, 128, 512, 64), 0)
	s.add("stream")
	s.turn()
	s.chunk = 10
	s.add(strings.Repeat("b", 15))
	expect(t, "first", s.turn().shape(), "0:1* 1:10")
	expect(t, "second", s.turn().shape(), "0:1* 1:5*")
}

// TestPlanLooksAtImagesBesideStreams says that an image is read in parts, each in a
// step of its own, and that streams get every other step.
func TestPlanLooksAtImagesBesideStreams(t *testing.T) {
	for name, limits := range map[string]Limits{"in one buffer": oneBuffer(2, 64, 100, 16), "in buffers of their " +
		"own": own(2, 64, 16)} {
		s := newScheduler(limits, 0)
		s.chunk = 8
		s.add("hello")
		s.turn()
		s.add("a"+strings.Repeat("?", 20)+"b").look(1, 20, 20, false)
		before := []string{"0:1* 1:1"}
		if !limits.Shared {
			before = []string{"0:1*", "1:1", "0:1*"}
		}

		for _, want := range before {
			expect(t, name+", before", s.turn().shape(), want)
		}

		for _, n := range []int{8, 8, 4} {
			st := s.turn()
			expect(t, name+", the image", st.shape(), fmt.Sprintf("1:%d", n))
			if len(st.batch.Embeddings) != n || len(st.batch.Tokens) != 0 {
				t.Errorf("%s: %d floats and %d tokens for %d embeddings", name, len(st.batch.Embeddings), len(st.batch.Tokens), n)
			}
			if n == 8 {
				expect(t, name+", a stream's turn", s.turn().shape(), "0:1*")
			}
		}

		expect(t, name+", after", s.turn().shape(), "0:1* 1:1*")
	}
}

// TestPlanTakesAnImageWhole says that embeddings that see each other are in one step.
func TestPlanTakesAnImageWhole(t *testing.T) {
	s := newScheduler(oneBuffer(2, 64, 64, 16), 0)
	s.chunk = 8
	s.add("hello")
	s.turn()
	s.add("a"+strings.Repeat("?", 14)+"b").look(1, 14, 3, true)
	s.turn()
	st := s.turn()
	expect(t, "the image", st.shape(), "1:14")
	if !st.batch.Whole {
		t.Error("the batch is not said to be whole")
	}
	st = s.turn()
	expect(t, "after", st.shape(), "0:1* 1:1*")
	if got := st.batch.Positions[1]; got != 4 {
		t.Errorf("the token after an image of 3 positions is at %d, want 4", got)
	}
}

func TestPlanGivesShortPromptsAPartOfTheBatch(t *testing.T) {
	s := newScheduler(own(4, 1024, 32), 0)
	s.add(strings.Repeat("l", 500))
	s.turn()
	s.add("short")
	expect(t, "the first keeps half or more", s.turn().shape(), "0:27 1:5*")
}

func TestPlanWaitsForAPrefillItWillShare(t *testing.T) {
	s := newScheduler(own(4, 256, 32), 0)
	shared := strings.Repeat("s", 100)
	s.add(shared + "one")
	s.turn()
	s.add(shared + "two")
	other := s.add("another")
	s.turn()
	if s.queue.len() != 1 || other.slot < 0 {
		t.Fatalf("%d wait, want the one that will share; another is in slot %d", s.queue.len(), other.slot)
	}
	for range 8 {
		if st := s.turn(); len(st.ops) > 0 {
			expect(t, "copy", st.opText(), "copy 0 to 2, drop 2 from 100")
			return
		}
	}
	t.Error("the shared beginning was never copied")
}

func TestPlanClosesHoles(t *testing.T) {
	s := newScheduler(own(4, 128, 64), 0)
	var all []*sequence
	for i := range 4 {
		all = append(all, s.add(fmt.Sprint("sequence ", i)))
	}
	s.turn()
	s.release(all[1])
	st := s.turn()
	expect(t, "the last moves into the hole", st.opText(), "copy 3 to 1, drop 3 from 0")
	expect(t, "one group", st.shape(), "0:1* 1:1* 2:1*")
}

func TestPlanKeepsBeginningsWhenItClosesHoles(t *testing.T) {
	s := newScheduler(own(4, 1024, 1024), 0)
	long := s.add(strings.Repeat("l", 100))
	old := s.add(strings.Repeat("o", 100))
	third := s.add("third")
	s.turn()
	s.release(old)
	expect(t, "over the other end", s.turn().opText(), "copy 0 to 3, drop 0 from 0")
	if long.slot != 3 || third.slot != 2 || len(s.slots[1].kept) != 100 {
		t.Errorf("long in slot %d, third in slot %d, %d tokens kept", long.slot, third.slot, len(s.slots[1].kept))
	}
	if q := s.add("new"); true {
		s.turn()
		if q.slot == 1 {
			t.Error("a new sequence took the slot that keeps a beginning")
		}
	}
	if q := s.add(strings.Repeat("o", 100) + "again"); true {
		s.turn()
		if q.slot != 1 || q.cached != 100 {
			t.Errorf("the beginning was not used: slot %d, %d cached", q.slot, q.cached)
		}
	}
}

// TestPlanBridgesPrompts: a prompt between streams with buffers of their own takes a token in their steps, so that
// these stay one graph.
func TestPlanBridgesPrompts(t *testing.T) {
	s := newScheduler(own(4, 128, 64), 0)
	var all []*sequence
	for i := range 3 {
		all = append(all, s.add(fmt.Sprint("sequence ", i)))
	}
	s.turn()
	s.release(all[1])
	s.chunk = 4
	s.add(strings.Repeat("b", 10))
	s.add(strings.Repeat("c", 10))
	var shapes []string
	for range 4 {
		shapes = append(shapes, s.turn().shape())
	}
	expect(t, "steps", strings.Join(shapes, " | "), "0:1* 1:1 2:1* | 1:2 3:2 | 0:1* 1:1 2:1* | 1:2 3:2")
}

// TestPlanMovesWhatIsKeptBetweenStreams: where streams are in many groups, what is kept between them is moved out of
// their way, and goes on being kept.
func TestPlanMovesWhatIsKeptBetweenStreams(t *testing.T) {
	s := newScheduler(own(8, 1024, 1024), 0)
	var all []*sequence
	for i := range 7 {
		all = append(all, s.add(strings.Repeat(string(rune('a'+i)), 100)))
	}
	s.turn()
	for _, i := range []int{2, 4} {
		s.release(all[i])
	}
	expect(t, "out of the way", s.turn().opText(), "copy 2 to 7, copy 6 to 2, drop 6 from 0")
	if all[6].slot != 2 || len(s.slots[7].kept) != 100 || s.slots[7].kept[0] != 'c' {
		t.Errorf("the last stream is in slot %d, and slot 7 keeps %d tokens", all[6].slot, len(s.slots[7].kept))
	}
}

// TestPlanMeasuresStreamsAlone: in one buffer, a step beside a prompt is the streams' alone once there are many more of
// them than when such a step was measured last.
func TestPlanMeasuresStreamsAlone(t *testing.T) {
	s := newScheduler(oneBuffer(4, 128, 512, 64), 0)
	s.add("one")
	s.turn()
	s.observe(s.turn(), time.Millisecond)
	s.add("two")
	s.observe(s.turn(), 2*time.Millisecond)
	s.add(strings.Repeat("c", 100))
	expect(t, "alone", s.turn().shape(), "0:1* 1:1*")
}

func TestPlanReusesShortBeginningsWhenAllSlotsAreTaken(t *testing.T) {
	s := newScheduler(own(3, 1024, 1024), 0)
	var first []*sequence
	for i := range 3 {
		first = append(first, s.add(fmt.Sprintf("client %d said one", i)))
	}
	for range 60 {
		s.turn()
	}
	for _, q := range first {
		s.release(q)
	}
	for _, i := range []int{1, 2, 0} {
		s.add(fmt.Sprintf("client %d said two", i))
	}
	s.turn()
	for _, q := range s.running {
		if q.cached != len("client 0 said ") {
			t.Errorf("%d cached in slot %d", q.cached, q.slot)
		}
	}
}

func TestPlanFillsHolesFirst(t *testing.T) {
	s := newScheduler(own(4, 128, 32), 0)
	var all []*sequence
	for i := range 4 {
		all = append(all, s.add(fmt.Sprint(i, " sequence")))
	}
	s.turn()
	s.release(all[3])
	s.release(all[1])
	q := s.add("new")
	s.turn()
	if q.slot != 1 {
		t.Errorf("slot %d, want the hole", q.slot)
	}
}

func TestPlanPreemptsTheNewest(t *testing.T) {
	s := newScheduler(oneBuffer(3, 64, 64, 32), 0)
	old := s.add(strings.Repeat("o", 20))
	young := s.add(strings.Repeat("y", 20))
	for range 100 {
		s.turn()
		if s.preempted > 0 {
			break
		}
	}
	if old.slot < 0 || young.slot >= 0 || !young.waits {
		t.Fatalf("old in slot %d, young in slot %d", old.slot, young.slot)
	}
	generated := len(young.tokens) - young.prompt
	s.release(old)
	for i := 0; young.pending() > 1 || young.slot < 0; i++ {
		if s.turn(); i > 100 {
			t.Fatal("the preempted one never goes on")
		}
	}
	if len(young.tokens)-young.prompt < generated {
		t.Error("it lost what it had generated")
	}
}

func TestPlanNeverOverfills(t *testing.T) {
	s := newScheduler(oneBuffer(8, 64, 100, 32), 0)
	for i := range 20 { // of three clients, in all tiers
		q := s.newSequence(strings.Repeat(string(rune('a'+i%3)), 10+i))
		q.Client = string(rune('x' + i*i%3))
		q.Tier = Tier(i%5%3 - 1)
		s.queue.push(q)
	}

	finished := 0
	for i := 0; finished < 20; i++ {
		if i > 5000 {
			t.Fatal("no progress")
		}
		st := s.turn()
		unique := 0
		for _, refs := range s.cells.refs {
			if refs > 0 {
				unique++
			}
		}
		if unique+len(s.cells.free) != 100 {
			t.Fatalf("%d cells held and %d free of 100", unique, len(s.cells.free))
		}
		for _, q := range slices.Clone(s.running) {
			if len(q.tokens)-q.prompt >= 20 && q.pending() == 1 {
				s.release(q)
				finished++
			}
		}
		for _, a := range s.queue.accounts {
			own := slices.IndexFunc(s.running, func(q *sequence) bool { return q.account == a }) >= 0
			if own != (a.running > 0) ||
				a.running < 0 {
				t.Fatalf("%s has %d running", a.client, a.running)
			}
		}
		st.ops = st.ops[:0]
	}

	if len(s.queue.accounts) > 0 || s.queue.len() > 0 {
		t.Errorf("%d clients and %d in the queue are left", len(s.queue.accounts), s.queue.len())
	}
}

func TestObserveBoundsTheGap(t *testing.T) {
	s := newScheduler(own(2, 8192, 512), 0)
	s.add("stream")
	s.turn()
	s.observe(s.turn(), 10*time.Millisecond)
	s.add(strings.Repeat("p", 6000))
	cost := 0.0
	for i := range 200 {
		st := s.turn()
		if st.prefill == 0 {
			s.observe(st, 10*time.Millisecond)
			continue
		}
		// A token costs more the more come before it.
		cost = float64(st.prefill) * (0.2 + 0.001*float64(s.running[1].fed))
		s.observe(st, time.Duration(cost*float64(time.Millisecond)))
		if i > 20 && cost > 20 {
			t.Fatalf("a step of %.0f ms beside steps of 10 ms", cost)
		}
	}
	if cost < 5 {
		t.Errorf("a step of %.1f ms leaves half of what it may take", cost)
	}
}

func TestPartialRune(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "a": 0, "\u00e9": 0, "\xc3": 1, "a\xe2\x82": 2, "\xf0\x9f\x98": 3, "\u20ac": 0, "\xff": 0, "\x80\x80": 0,
		"\xe2a": 0,
	} {
		if got := partialRune([]byte(text)); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

// FuzzAnswerText: however a text is cut into pieces, what is shown is the text
// up to the first stop string, and a character is never cut.
func FuzzAnswerText(f *testing.F) {
	f.Add("one two three", "two", "e", uint8(3))
	f.Add("\u20ac\u20acSTOSTOP", "STOP", "", uint8(1))
	f.Add("aaaaab", "aab", "ab", uint8(2))
	f.Fuzz(func(t *testing.T, text, stop1, stop2 string, cut uint8) {
		a := answerText{}
		want := text
		for _, s := range []string{stop1, stop2} {
			if s != "" {
				a.stops = append(a.stops, s)
			}
		}

		size := int(cut%5) + 1
		var got strings.Builder
		stopped := false
		for i := 0; i < len(text) && !stopped; i += size {
			var show []byte
			show, stopped = a.add([]byte(text[i:min(i+size, len(text))]), true)
			got.Write(show)
		}

		if !stopped {
			got.Write(a.rest())
		}

		// The stop string whose end comes first ends the answer, at piece precision:
		// nothing shown may hold any stop string.
		for _, s := range a.stops {
			if strings.Contains(got.String(), s) {
				t.Errorf("%q shows the stop string %q", got.String(), s)
			}
		}

		if !strings.HasPrefix(want, got.String()) {
			t.Errorf("%q is no beginning of %q", got.String(), want)
		}
		if !stopped && got.String() != want {
			t.Errorf("got %q, want all of %q", got.String(), want)
		}
		// What is said to have ended the answer did.
		if stopped != (a.matched != "") || !strings.HasPrefix(want[got.Len():], a.matched) {
			t.Errorf("%q stopped (%v) after %q, by %q", want, stopped, got.String(), a.matched)
		}
	})
}

package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// job is a piece of work for a queue.
type job struct {
	ticket[*job]
	name string
}

func newJobs() *queue[*job] { return newQueue(func(j *job) *ticket[*job] { return &j.ticket }) }

// put queues jobs, "client/name" each, with a + before a priority and a - before flex.
func put(q *queue[*job], names ...string) (jobs []*job) {
	for _, name := range names {
		j := &job{name: name}
		switch name[0] {
		case '+':
			j.Tier = TierPriority
		case '-':
			j.Tier = TierFlex
		}
		j.Client, _, _ = strings.Cut(strings.TrimLeft(name, "+-"), "/")
		q.push(j)
		jobs = append(jobs, j)
	}
	return jobs
}

// run takes everything out, each costing so much work.
func run(q *queue[*job], cost float64) string {
	var order []string
	for q.len() > 0 {
		q.admitting()
		j, _ := q.next()
		q.take(j)
		j.account.served += cost
		order = append(order, j.name)
	}
	return strings.Join(order, " ")
}

func TestQueueTakesTurns(t *testing.T) {
	for _, c := range []struct{ name, put, want string }{
		{"one client", "a/1 a/2 a/3", "a/1 a/2 a/3"},
		{"one behind a flood", "a/1 a/2 a/3 a/4 b/1", "b/1 a/1 a/2 a/3 a/4"},
		{"two floods", "a/1 a/2 a/3 b/1 b/2 b/3", "b/1 b/2 a/1 b/3 a/2 a/3"},
		{"priority is one's own", "a/1 a/2 +a/3 b/1 b/2", "b/1 b/2 +a/3 a/1 a/2"},
		{"flex waits for all", "-a/1 a/2 b/1 -b/2", "b/1 a/2 -b/2 -a/1"},
	} {
		q := newJobs()
		put(q, strings.Fields(c.put)...)
		if got := run(q, credit/2); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestQueuePassesAndPutsBack(t *testing.T) {
	q := newJobs()
	jobs := put(q, "a/1", "a/2", "a/3")
	q.admitting()
	q.pass(jobs[0])
	if j, _ := q.next(); j != jobs[1] {
		t.Errorf("%s is next, want the second", j.name)
	}
	q.admitting()
	q.take(jobs[0])
	q.take(jobs[1])
	q.push(jobs[0]) // preempted
	if got := run(q, 1); got != "a/1 a/3" {
		t.Errorf("%s, want what was preempted first", got)
	}
	for _, j := range jobs {
		q.leave(j)
	}
	if len(q.accounts) != 0 {
		t.Error("a client is kept of which nothing is left")
	}
}

func TestQueueGivesNobodyCreditTwice(t *testing.T) {
	q := newJobs()
	flood := put(q, "a/0")[0]
	q.take(flood)
	flood.account.served = 10 * credit
	q.push(flood)
	q.take(flood)
	// Who comes and goes has a credit each time, but it adds to nothing.
	for range 3 {
		j := put(q, "b/x")[0]
		if want := 9.0 * credit; j.account.served != want {
			t.Fatalf("it begins at %g, want %g", j.account.served, want)
		}
		q.take(j)
		q.leave(j)
	}
}

func TestYields(t *testing.T) {
	q := newJobs()
	running := put(q, "a/1", "a/2", "a/3", "-c/1")
	for _, j := range running {
		q.take(j)
		j.account.served += 2 * credit
	}

	waits := put(q, "b/1", "-b/2", "a/4")
	for _, c := range []struct {
		running, waits *job
		want           bool
	}{
		{running[0], waits[0], true},  // three against none
		{running[0], waits[2], false}, // its own
		{running[3], waits[2], true},  // flex to anybody's
		{running[3], waits[1], false}, // but not to flex
		{running[0], waits[1], false},
	} {
		if got := q.yields(c.running, c.waits); got != c.want {
			t.Errorf("%s yields to %s: %v", c.running.name, c.waits.name, got)
		}
	}

	more := put(q, "b/3", "b/4")
	q.take(waits[0])
	q.take(more[0])
	if q.yields(running[0], more[1]) {
		t.Error("three against two: it would only turn them around")
	}
}

func TestPlanGivesAClientItsShare(t *testing.T) {
	s := newScheduler(own(4, 256, 64), 0)
	add := func(client, prompt string) *sequence {
		q := s.newSequence(prompt)
		q.Client = client
		s.queue.push(q)
		return q
	}

	var flood []*sequence
	for i := range 8 {
		flood = append(flood, add("flood", fmt.Sprintf("%d%s", i, strings.Repeat("f", 9))))
	}

	for range 4 {
		s.turn()
	}

	quiet := add("quiet", strings.Repeat("q", 40))
	st := s.turn()
	if quiet.slot < 0 || s.preempted != 1 {
		t.Fatalf("slot %d after %d preemptions", quiet.slot, s.preempted)
	}
	if got, want := st.shape(), fmt.Sprintf("%d:40*", quiet.slot); got != want {
		t.Errorf("the step is %s, want %s, the quiet one's prompt alone and whole", got, want)
	}

	other := add("other", "o")
	s.turn()
	if other.slot < 0 || s.preempted != 2 {
		t.Fatalf("another: slot %d after %d preemptions", other.slot, s.preempted)
	}

	second := add("quiet", "again")
	s.turn()
	if second.slot >= 0 || s.preempted != 2 {
		t.Errorf("two of four slots, where three clients want some: slot %d after %d preemptions", second.slot, s.preempted)
	}

	// What was preempted comes back before what never ran.
	for _, q := range []*sequence{quiet, other} {
		s.release(q)
	}

	s.queue.leave(second)
	s.turn()
	for i, q := range flood {
		if got, want := q.slot >= 0, i < 4; got != want {
			t.Errorf("flood %d runs: %v", i, got)
		}
	}
}

func TestPlanPutsFlexLast(t *testing.T) {
	s := newScheduler(own(2, 256, 64), 0)
	var flex []*sequence
	for i := range 2 {
		q := s.newSequence(fmt.Sprintf("%dflex", i))
		q.Tier = TierFlex
		s.queue.push(q)
		flex = append(flex, q)
	}
	s.turn()
	q := s.add("urgent")
	s.turn()
	if q.slot < 0 || flex[0].slot < 0 == (flex[1].slot < 0) {
		t.Fatalf("slots %d, and of flex %d and %d", q.slot, flex[0].slot, flex[1].slot)
	}
	for range 10 {
		s.turn()
	}
	if s.preempted != 1 {
		t.Errorf("%d preemptions", s.preempted)
	}
}

// TestPlanSharesWork has two clients flood with requests of other sizes: what is computed
// for each stays alike, as far as what one has in its slots makes it differ.
func TestPlanSharesWork(t *testing.T) {
	const answer = 40
	s := newScheduler(own(4, 256, 64), 0)
	sizes := map[string]struct{ prompt, answer int }{"short": {10, 5}, "long": {120, answer}}
	n := 0
	add := func(client string) {
		n++
		q := s.newSequence(fmt.Sprintf("%04d%s", n, strings.Repeat("p", sizes[client].prompt)))
		q.Client = client
		s.queue.push(q)
	}

	for client := range sizes {
		for range 8 {
			add(client)
		}
	}

	finished := map[string]int{}
	for range 5000 {
		s.turn()
		for _, q := range slices.Clone(s.running) {
			if len(q.tokens)-q.prompt >= sizes[q.Client].answer {
				finished[q.Client]++
				add(q.Client)
				s.release(q)
			}
		}
	}

	var least, most float64
	for i, a := range s.queue.accounts {
		if i == 0 {
			least = a.served
			most = a.served
		}
		least = min(least, a.served)
		most = max(most, a.served)
	}

	bound := float64(4 * (124 + answerWeight*answer))
	if most-least > bound || finished["short"] == 0 ||
		finished["long"] == 0 {
		t.Errorf("%g and %g work, where %g may lie between; %v answers", least, most, bound, finished)
	}
	if rate := float64(finished["short"]) / float64(finished["long"]); rate < 5 {
		t.Errorf("%.1f short answers for a long one, which is ten times the work", rate)
	}
}

// TestQueueLooksAtFew has a client with very much in the queue: each round looks at few pieces of it, also if they let
// others pass, and at another client's.
func TestQueueLooksAtFew(t *testing.T) {
	type job struct{ ticket[*job] }
	looked := 0
	q := newQueue(func(j *job) *ticket[*job] {
		looked++
		return &j.ticket
	})
	const many = 1 << 14
	for range many {
		q.push(&job{ticket[*job]{Caller: Caller{Client: "much"}}})
	}
	little := &job{ticket[*job]{Caller: Caller{Client: "little"}}}
	q.push(little)

	looked = 0
	q.admitting()
	found := false
	for {
		j, ok := q.next()
		if !ok {
			break
		}
		found = found || j == little
		q.pass(j)
	}
	if !found || looked > 10*lookahead {
		t.Errorf("looked %d times at work; found the other client's: %v", looked, found)
	}

	looked = 0
	for range many + 1 {
		j, ok := q.next()
		if !ok {
			q.admitting()
			j, _ = q.next()
		}
		q.take(j)
		q.leave(j)
	}
	if q.len() > 0 || looked > 64*many {
		t.Errorf("%d are left after %d looks", q.len(), looked)
	}
}

package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
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

func TestOwes(t *testing.T) {
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
		if got := q.owes(c.running, c.waits); got != c.want {
			t.Errorf("%s owes %s: %v", c.running.name, c.waits.name, got)
		}
	}
	more := put(q, "b/3", "b/4")
	q.take(waits[0])
	q.take(more[0])
	if q.owes(running[0], more[1]) {
		t.Error("three against two: it would only turn them around")
	}
}

func TestPlanGivesAClientItsShare(t *testing.T) {
	s := newScheduler(own(4, 256, 64))
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
	s := newScheduler(own(2, 256, 64))
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

func TestDoor(t *testing.T) {
	now := time.Unix(0, 0)
	d := &door{maxRequests: 10, maxTokens: 1000, maxWait: time.Minute, clients: map[string]*line{}}
	enter := func(client string, tier Tier, tokens int, patience time.Duration) (*entry, error) {
		e := &entry{Caller: Caller{client, tier}, tokens: tokens, waiting: 1}
		return e, d.enter(e, patience, true)
	}
	var inside []*entry
	must := func(client string, tier Tier, tokens, position int) {
		t.Helper()
		e, err := enter(client, tier, tokens, 0)
		if err != nil || e.position != position {
			t.Fatalf("%s: position %d, %v; want %d", client, e.position, err, position)
		}
		inside = append(inside, e)
	}
	refused := func(client string, tokens int, patience time.Duration, reason error) *BusyError {
		t.Helper()
		_, err := enter(client, TierDefault, tokens, patience)
		var busy *BusyError
		if !errors.Is(err, reason) || !errors.As(err, &busy) {
			t.Fatalf("%s: %v, want %v", client, err, reason)
		}
		return busy
	}
	must("a", TierDefault, 10, 0)
	must("a", TierDefault, 10, 1)
	must("a", TierPriority, 10, 0)
	must("a", TierFlex, 10, 3)
	must("b", TierDefault, 10, 0)
	must("b", TierDefault, 10, 2) // its own first, and one of the three of a
	must("a", TierDefault, 10, 5)
	must("a", TierDefault, 10, 6)
	refused("b", 2000, 0, ErrQueueFull)
	must("a", TierFlex, 10, 8)
	refused("a", 10, 0, ErrShare)
	must("c", TierDefault, 10, 0)
	refused("d", 10, 0, ErrQueueFull)

	// One leaves every two seconds.
	for _, e := range inside {
		d.leave(e, now, true)
		now = now.Add(2 * time.Second)
	}
	if d.requests != 0 || d.tokens != 0 || len(d.clients) != 0 {
		t.Fatalf("%d requests of %d tokens are left", d.requests, d.tokens)
	}
	must("a", TierDefault, 400, 0)
	must("a", TierDefault, 10, 1)
	if e := inside[len(inside)-1]; e.expected != 4*time.Second {
		t.Errorf("it expects %s, want a slot and one before it", e.expected)
	}
	if busy := refused("a", 10, 5*time.Second, ErrWait); busy.Expected != 6*time.Second || busy.Retry != 2*time.Second || busy.Position != 2 {
		t.Errorf("%+v", busy)
	}
	refused("a", 500, 0, ErrShare)
	refused("b", 600, 0, ErrQueueFull)
	d.maxWait = 5 * time.Second
	refused("a", 10, 0, ErrWait)
	must("b", TierDefault, 10, 0)

	// More work of a request that is there, or was, takes no place.
	e := inside[len(inside)-1]
	d.join(e, 2, 90)
	if d.requests != 3 || d.tokens != 510 {
		t.Errorf("%d requests of %d tokens", d.requests, d.tokens)
	}
	for range 3 {
		d.leave(e, now, true)
	}
	if d.requests != 2 || d.tokens != 410 {
		t.Errorf("%d requests of %d tokens", d.requests, d.tokens)
	}
}

func TestDoorTakesALongPromptAlone(t *testing.T) {
	d := &door{maxRequests: 10, maxTokens: 100, clients: map[string]*line{}}
	if err := d.enter(&entry{tokens: 1000, waiting: 1}, 0, false); err != nil {
		t.Errorf("one that is longer than the bound, with nobody else: %v", err)
	}
	if err := d.enter(&entry{tokens: 1, waiting: 1}, 0, false); !errors.Is(err, ErrQueueFull) {
		t.Errorf("behind it: %v", err)
	}
}

package engine

import (
	"cmp"
	"iter"
	"slices"
)

// Tier says how a request stands to others.
type Tier int8

// The tiers. Only TierFlex counts between clients, since it gives and takes nothing.
const (
	TierFlex     Tier = iota - 1 // takes what the others leave, and gives its slot back when they need it
	TierDefault                  // in order of arrival
	TierPriority                 // before the client's own others
)

// credit is how many tokens' work a client that comes anew has before the others: a
// chat's next turn is not made to wait for somebody's batch.
const credit = 4096

// answerWeight is what a generated token counts for where one of a prompt counts for
// one: it is computed with few others.
const answerWeight = 2

// queue is who comes next: the client that has had the least work done of late, and of
// its requests the one of the highest tier that came first. (Virtual token counters:
// Sheng et al., Fairness in Serving Large Language Models, OSDI 2024; but a client that
// comes anew is given a credit.) It is pure, and the loop's.
type queue[T any] struct {
	ticket   func(T) *ticket[T]
	accounts []*account[T] // of clients with something in the queue or running
	n        int
	number   uint64
	round    uint64
	virtual  float64 // the most work that a client had had when it was next
}

// account is what a client has in the queue, and has had.
type account[T any] struct {
	client  clientKey
	waiting []T // in the order in which they are next
	running int
	served  float64 // work, in tokens of a prompt

	// Of the round with this number: all that wait before at have let others pass.
	round uint64
	at    int
}

// lookahead is how many pieces of a client's work may let others pass in a round. What comes after them waits, too:
// to look at all that a client has sent would take everybody's time.
const lookahead = 32

// ticket is what a queue knows of a piece of work.
type ticket[T any] struct {
	Caller
	number  uint64      // in order of arrival, from 1
	account *account[T] // nil before the first push and after leave
	passed  uint64      // the last round in which it let others pass
	waits   bool        // is in the queue, and does not run
}

func newQueue[T any](of func(T) *ticket[T]) *queue[T] { return &queue[T]{ticket: of, round: 1} }

func (q *queue[T]) len() int { return q.n }

// all gives everything in the queue, in no order. The queue must stay as it is.
func (q *queue[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, a := range q.accounts {
			for _, work := range a.waiting {
				if !yield(work) {
					return
				}
			}
		}
	}
}

// push puts work into the queue: what comes anew, or what ran, which keeps its number
// and so is before what came later.
func (q *queue[T]) push(work T) {
	t := q.ticket(work)
	if t.number == 0 {
		q.number++
		t.number = q.number
	}
	if t.account == nil {
		t.account = q.open(t.key())
	} else {
		t.account.running--
	}
	t.waits = true
	i := q.find(t)
	t.account.waiting = slices.Insert(t.account.waiting, i, work)
	t.account.at = min(t.account.at, i)
	q.n++
}

// find returns where work is among its client's that waits, or belongs.
func (q *queue[T]) find(t *ticket[T]) int {
	i, _ := slices.BinarySearchFunc(t.account.waiting, t, func(o T, t *ticket[T]) int {
		return cmp.Or(cmp.Compare(t.Tier, q.ticket(o).Tier), cmp.Compare(q.ticket(o).number, t.number))
	})
	return i
}

// open returns a client's account.
func (q *queue[T]) open(client clientKey) *account[T] {
	for _, a := range q.accounts {
		if a.client == client {
			return a
		}
	}
	a := &account[T]{client: client, served: q.virtual - credit}
	if len(q.accounts) == 0 {
		a.served = q.virtual
	}
	q.accounts = append(q.accounts, a)
	return a
}

// admitting begins a round: nobody has let others pass in it.
func (q *queue[T]) admitting() { q.round++ }

// pass lets others go before work in this round.
func (q *queue[T]) pass(work T) { q.ticket(work).passed = q.round }

// next returns what is next, of what has not let others pass.
func (q *queue[T]) next() (best T, ok bool) {
	for _, a := range q.accounts {
		if first, any := q.first(a); any && (!ok || q.before(first, best)) {
			best = first
			ok = true
		}
	}
	return best, ok
}

// first returns what is next of a client, of what has not let others pass.
func (q *queue[T]) first(a *account[T]) (work T, ok bool) {
	if a.round != q.round {
		a.round = q.round
		a.at = 0
	}
	for a.at < len(a.waiting) && q.ticket(a.waiting[a.at]).passed == q.round {
		a.at++
	}
	if a.at >= min(len(a.waiting), lookahead) {
		return work, false
	}
	return a.waiting[a.at], true
}

// before reports whether one client's work comes before another's.
func (q *queue[T]) before(a, b T) bool {
	ta := q.ticket(a)
	tb := q.ticket(b)
	flexA := ta.Tier == TierFlex
	flexB := tb.Tier == TierFlex
	switch {
	case flexA != flexB:
		return flexB
	case ta.account != tb.account && ta.account.served != tb.account.served:
		return ta.account.served < tb.account.served
	}
	return ta.number < tb.number
}

// take takes work out of the queue, to run.
func (q *queue[T]) take(work T) {
	t := q.ticket(work)
	q.remove(work)
	t.account.running++
	q.virtual = max(q.virtual, t.account.served)
}

// leave forgets work that has ended, wherever it was.
func (q *queue[T]) leave(work T) {
	t := q.ticket(work)
	if t.waits {
		q.remove(work)
	} else {
		t.account.running--
	}
	if t.account.running == 0 && len(t.account.waiting) == 0 {
		q.accounts = slices.DeleteFunc(q.accounts, func(a *account[T]) bool { return a == t.account })
	}
	t.account = nil
}

func (q *queue[T]) remove(work T) {
	t := q.ticket(work)
	i := q.find(t)
	t.account.waiting = slices.Delete(t.account.waiting, i, i+1)
	if i < t.account.at {
		t.account.at--
	}
	t.waits = false
	q.n--
}

// yields reports whether a running piece of work has to make way for one that waits: it
// is flex and the other is not, or its client has had more than the other's and would
// still run as many.
func (q *queue[T]) yields(running, waits T) bool {
	r := q.ticket(running)
	w := q.ticket(waits)
	if r.Tier == TierFlex || w.Tier == TierFlex {
		return r.Tier == TierFlex && w.Tier != TierFlex
	}
	return r.account.running > w.account.running+1 && r.account.served > w.account.served
}

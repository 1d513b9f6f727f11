package engine

import (
	"errors"
	"testing"
	"time"
)

func TestAdmission(t *testing.T) {
	now := time.Unix(0, 0)
	d := &admission{maxRequests: 10, maxTokens: 1000, maxWait: time.Minute}
	enter := func(client string, tier Tier, tokens int, patience time.Duration) (*queueEntry, error) {
		e := &queueEntry{Caller: Caller{Client: client, Tier: tier}, tokens: tokens, waiting: 1}
		return e, d.admit(e, patience, true)
	}
	var inside []*queueEntry
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
	busy := refused("a", 10, 5*time.Second, ErrWait)
	if busy.Expected != 6*time.Second || busy.Retry != 2*time.Second ||
		busy.Position != 2 {
		t.Errorf("%+v", busy)
	}
	refused("a", 500, 0, ErrShare)
	refused("b", 600, 0, ErrQueueFull)
	d.maxWait = 5 * time.Second
	refused("a", 10, 0, ErrWait)
	must("b", TierDefault, 10, 0)

	// More work of a request that is there, or was, takes no place.
	e := inside[len(inside)-1]
	d.extend(e, 2)
	if d.requests != 3 || d.tokens != 420 {
		t.Errorf("%d requests of %d tokens", d.requests, d.tokens)
	}
	for range 3 {
		d.leave(e, now, true)
	}
	if d.requests != 2 || d.tokens != 410 {
		t.Errorf("%d requests of %d tokens", d.requests, d.tokens)
	}
}

// TestLongRequestLeavesRoom admits a request that has more tokens than the queue: it takes no more of it than a
// client may have.
func TestLongRequestLeavesRoom(t *testing.T) {
	d := &admission{maxRequests: 10, maxTokens: 100}
	long := &queueEntry{Caller: Caller{Client: "long"}, tokens: 1000, waiting: 1}
	if err := d.admit(long, 0, false); err != nil {
		t.Errorf("one that is longer than the bound, with nobody else: %v", err)
	}

	again := &queueEntry{Caller: Caller{Client: "long"}, tokens: 1, waiting: 1}
	if err := d.admit(again, 0, false); !errors.Is(err, ErrShare) {
		t.Errorf("another one of its client: %v", err)
	}

	other := &queueEntry{Caller: Caller{Client: "other"}, tokens: 20, waiting: 1}
	if err := d.admit(other, 0, false); err != nil {
		t.Errorf("another client: %v", err)
	}

	now := time.Unix(0, 0)
	for _, e := range []*queueEntry{long, other} {
		d.leave(e, now, true)
	}
	if d.requests != 0 || d.tokens != 0 || len(d.clients) != 0 {
		t.Errorf("%d requests of %d tokens are left", d.requests, d.tokens)
	}
}

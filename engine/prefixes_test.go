package engine

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
)

// saved returns a prefix of a tenant's text, of so many units of memory.
func savedOf(tenant, text string, units int64) *prefix {
	p := &prefix{scope: scope{tenant: tenant}, saved: Saved{Region: Region{Size: units*regionUnit - 7}}}
	for _, c := range []byte(text) {
		p.tokens = append(p.tokens, Token(c))
	}
	return p
}

// put reserves room for a prefix and adds it. It returns the texts of those that had to go.
func (c *prefixes) put(t *testing.T, p *prefix, now uint64) (gone []string, ok bool) {
	t.Helper()
	at, out, ok := c.reserve(p, p.saved.Size, now)
	if !ok {
		return nil, false
	}
	p.saved.At = at.At
	p.used = now
	for _, old := range append(out, c.add(p)...) {
		var text strings.Builder
		for _, token := range old.tokens {
			text.WriteByte(byte(token))
		}
		gone = append(gone, text.String())
	}
	return gone, true
}

// TestEvicted chooses which prefix goes first.
func TestEvicted(t *testing.T) {
	for _, c := range []struct {
		name  string
		there []*prefix // saved one after the other, in a memory of 6 units
		found int       // which of them was used last; -1 for none
		pin   int
		comes *prefix
		want  string
	}{
		{"there is room", []*prefix{savedOf("A", "aaa", 5)}, -1, -1, savedOf("A", "bbb", 1), ""},
		{
			"the oldest", []*prefix{savedOf("A", "aaa", 2), savedOf("A", "bbb", 2), savedOf("A", "ccc", 2)}, -1, -1,
			savedOf("A", "ddd", 2), "aaa",
		},
		{
			"not the one that was used", []*prefix{savedOf("A", "aaa", 2), savedOf("A", "bbb", 2), savedOf("A", "ccc", 2)}, 0, -1,
			savedOf("A", "ddd", 2), "bbb",
		},
		{
			"the one that spares the least for its size",
			[]*prefix{savedOf("A", strings.Repeat("a", 90), 3), savedOf("A", "bbb", 3)}, -1, -1, savedOf("A", "ccc", 1), "bbb",
		},
		{
			"of the tenant that has the most",
			[]*prefix{savedOf("A", "aaa", 1), savedOf("B", "bbb", 3), savedOf("B", "ccc", 2)}, -1, -1, savedOf("C", "ddd", 1), "bbb",
		},
		{
			"of the tenant that will have the most",
			[]*prefix{savedOf("A", "aaa", 3), savedOf("B", "bbb", 3)}, -1, -1, savedOf("B", "ccc", 1), "bbb",
		},
		{
			"what the new one replaces", []*prefix{savedOf("A", "aaa", 2), savedOf("A", "bbb", 4)}, -1, -1,
			savedOf("A", "bbbc", 2), "bbb",
		},
		{
			"what it replaces, though there is room", []*prefix{savedOf("A", "aaa", 1)}, -1, -1, savedOf("A", "aaac", 1), "aaa",
		},
		{
			"not another's that begins alike", []*prefix{savedOf("A", "aaa", 1)}, -1, -1, savedOf("B", "aaac", 1), "",
		},
		{
			"not the one that is about to be restored", []*prefix{savedOf("A", "aaa", 3), savedOf("A", "bbb", 3)}, -1, 0,
			savedOf("A", "ccc", 3), "bbb",
		},
		{"several", []*prefix{savedOf("A", "aaa", 3), savedOf("A", "bbb", 3)}, -1, -1, savedOf("A", "ccc", 5), "aaa bbb"},
		{"none for what never fits", []*prefix{savedOf("A", "aaa", 3)}, -1, -1, savedOf("A", "ccc", 7), "no"},
		{"none that could go", []*prefix{savedOf("A", "aaa", 5)}, -1, 0, savedOf("A", "ccc", 2), "no"},
	} {
		index := prefixes{size: 6 * regionUnit}
		for i, p := range c.there {
			if _, ok := index.put(t, p, uint64(i)); !ok {
				t.Fatalf("%s: no room for %d", c.name, i)
			}
		}
		if c.found >= 0 {
			c.there[c.found].used = 5
		}
		if c.pin >= 0 {
			c.there[c.pin].pinned = true
		}

		before := len(index.list)
		gone, ok := index.put(t, c.comes, 6)
		if !ok {
			gone = []string{"no"}
			if len(index.list) != before {
				t.Errorf("%s: %d of %d are left", c.name, len(index.list), before)
			}
		}
		if got := strings.Join(gone, " "); got != c.want {
			t.Errorf("%s: %q went, want %q", c.name, got, c.want)
		}
	}
}

// TestRegionsNeverOverlap saves and drops at random, and counts.
func TestRegionsNeverOverlap(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	index := prefixes{size: 40 * regionUnit}
	evictions := 0
	for i := range 3000 {
		p := savedOf(string(rune('A'+rng.Intn(3))), fmt.Sprintf("%d of %d", rng.Intn(200), i), 1+rng.Int63n(12))
		p.pinned = rng.Intn(20) == 0
		gone, _ := index.put(t, p, uint64(i))
		evictions += len(gone)
		if rng.Intn(4) == 0 && len(index.list) > 0 {
			index.drop(index.list[rng.Intn(len(index.list))])
		}
		for _, old := range index.list {
			old.pinned = old.pinned && rng.Intn(3) > 0
		}

		var end, used int64
		tokens := 0
		for _, old := range index.list {
			if old.saved.At < end {
				t.Fatalf("step %d: a region begins at %d, and the one before it ends at %d", i, old.saved.At, end)
			}
			end = old.saved.At + old.held()
			used += old.held()
			tokens += len(old.tokens)
		}
		if end > index.size || used != index.used || tokens != index.held {
			t.Fatalf("step %d: regions end at %d of %d; %d bytes of %d, %d tokens of %d",
				i, end, index.size, used, index.used, tokens, index.held)
		}
	}
	if evictions < 500 {
		t.Errorf("%d had to go: the test is too easy", evictions)
	}
}

// TestFindsTheLongest looks for what a prompt begins with.
func TestFindsTheLongest(t *testing.T) {
	s := newScheduler(own(1, 256, 64), 0)
	list := []*prefix{savedOf("", "abcd", 1), savedOf("", "abcdefgh", 1), savedOf("", "abxyz", 1), savedOf("B", "abcdefghij", 1)}
	for _, c := range []struct {
		prompt string
		whole  bool
		want   int // -1 for none
		keep   int
	}{
		{"abcdefghijkl", false, 1, 8},
		{"abcdefghijkl", true, 1, 8},
		{"abcdefgh", false, 1, 7}, // the last token must be computed
		{"abcdefgh", true, 0, 4},
		{"abcdxxx", true, 0, 4},
		{"abxyzz", true, 2, 5},
		{"abx", true, -1, 0},
		{"nothing", false, -1, 0},
	} {
		index := prefixes{list: list, whole: c.whole}
		found, keep := index.find(s.newSequence(c.prompt))
		if slices.Index(list, found) != c.want || keep != c.keep {
			t.Errorf("%s, whole %t: prefix %d, %d tokens, want %d, %d",
				c.prompt, c.whole, slices.Index(list, found), keep, c.want, c.keep)
		}
	}
}

// TestSavesWhatIsWorthIt plans what is saved of a slot that is given to another prompt, by what it costs.
func TestSavesWhatIsWorthIt(t *testing.T) {
	long := strings.Repeat("a", 100)
	for _, c := range []struct {
		name   string
		prompt string
		change func(*scheduler)
		want   string
	}{
		{"costs unknown", long, func(*scheduler) {}, "save 0, drop 0 from 0"},
		{"short", long[:20], func(*scheduler) {}, "drop 0 from 0"},
		{"no memory", long, func(s *scheduler) { s.saving.size = 0 }, "drop 0 from 0"},
		{"cheap to compute", long, func(s *scheduler) {
			s.saving.prefill.add(3e9, 100)
			s.saving.save.add(1e9, 100)
		}, "drop 0 from 0"},
		{"dear to compute", long, func(s *scheduler) {
			s.saving.prefill.add(5e9, 100)
			s.saving.save.add(1e9, 100)
		}, "save 0, drop 0 from 0"},
		{"saved before", long, func(s *scheduler) {
			s.saving.list = []*prefix{savedOf("", long+"xyz", 1)}
		}, "drop 0 from 0"},
		{"reproducible, restored as a whole", long, func(s *scheduler) {
			s.slots[0].scope.reproducible = true
			s.saving.whole = true
		}, "drop 0 from 0"},
	} {
		s := newScheduler(own(1, 256, 256), 0)
		s.saving.size = 1 << 20
		s.finished(c.prompt)
		c.change(s)
		s.step.ops = nil
		s.add("something else")
		expect(t, c.name, s.plan().opText(), c.want)
	}
}

// TestStreamsDoNotWaitForSaving saves nothing that would keep streams waiting for longer than they may.
func TestStreamsDoNotWaitForSaving(t *testing.T) {
	for gap, want := range map[float64]string{0.1: "drop 1 from 0", 0.3: "save 1, drop 1 from 0"} {
		s := newScheduler(own(2, 256, 256), 0)
		s.saving.size = 1 << 20
		s.gap = gap
		stream := s.add("a stream")
		for len(stream.tokens) < 20 {
			s.turn()
		}
		s.finished(strings.Repeat("a", 100))
		s.saving.save.add(1e9, 100)
		s.step.ops = nil
		s.add("something else")
		expect(t, fmt.Sprint(gap), s.plan().opText(), want)
	}
}

// TestWithout cuts regions at both ends, at one, in the middle, and not at all.
func TestWithout(t *testing.T) {
	all := Region{At: 10, Size: 10}
	for _, c := range []struct {
		other Region
		want  []Region
	}{
		{Region{}, []Region{all}},
		{Region{At: 0, Size: 10}, []Region{all}},
		{Region{At: 20, Size: 5}, []Region{all}},
		{Region{At: 5, Size: 20}, nil},
		{all, nil},
		{Region{At: 5, Size: 8}, []Region{{13, 7}}},
		{Region{At: 15, Size: 8}, []Region{{10, 5}}},
		{Region{At: 12, Size: 3}, []Region{{10, 2}, {15, 5}}},
	} {
		if got := all.Without(c.other); !slices.Equal(got, c.want) {
			t.Errorf("without %v: %v, want %v", c.other, got, c.want)
		}
	}
}

// TestNext is the hole that the next prefix of this size gets.
func TestNext(t *testing.T) {
	c := prefixes{size: 4 * regionUnit}
	c.put(t, savedOf("a", "one", 1), 1)
	c.put(t, savedOf("a", "two", 1), 2)
	if got, want := c.next(regionUnit+1), (Region{2 * regionUnit, 2 * regionUnit}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if got := c.next(3 * regionUnit); got != (Region{}) {
		t.Errorf("%v where there is no room", got)
	}
}

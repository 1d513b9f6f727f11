package engine

import "testing"

// TestCacheSalt shares cells between prompts of one salt alone: those that are kept, those of prefills under way,
// and what is said of those that are gone.
func TestCacheSalt(t *testing.T) {
	const prompt = "a prompt that is long enough to be worth copying, whatever the size of the context is"
	for _, tt := range []struct {
		first, second string
		want          Reuse
	}{
		{"", "", ReuseHit},
		{"a", "a", ReuseHit},
		{"", "a", ReuseNew},
		{"a", "", ReuseNew},
		{"a", "b", ReuseNew},
	} {
		for _, gone := range []bool{false, true} {
			s := newScheduler(own(2, 256, 64), 0)
			first := s.newSequence(prompt)
			first.req.CacheSalt = tt.first
			s.queue.push(first)
			for len(first.tokens) == first.prompt {
				s.turn()
			}
			s.release(first)
			if gone {
				s.forgetAll()
			}

			second := s.newSequence(prompt + "!")
			second.req.CacheSalt = tt.second
			s.queue.push(second)
			s.turn()
			want := tt.want
			if gone && want == ReuseHit {
				want = ReuseRestarted
			}
			if second.reuse != want || second.cached > 0 != (want == ReuseHit) {
				t.Errorf("%q after %q, gone %v: %s, %d tokens", tt.second, tt.first, gone, second.reuse, second.cached)
			}
		}
	}

	for salt, waits := range map[string]bool{"": false, "a": true} {
		s := newScheduler(own(2, 256, 64), 0)
		first := s.newSequence(prompt)
		first.req.CacheSalt = "a"
		s.queue.push(first)
		s.turn()
		second := s.newSequence(prompt + "!")
		second.req.CacheSalt = salt
		if p, _ := s.place(second); p.later != waits {
			t.Errorf("salt %q waits for another's prefill: %v", salt, p.later)
		}
	}
}

package engine

import (
	"strings"
	"testing"
)

func TestReuseIsExplained(t *testing.T) {
	long := func(c string) string { return strings.Repeat(c, 50) }
	for _, c := range []struct {
		name    string
		limits  func(*Limits)
		prepare func(*scheduler)
		second  string
		score   bool
		want    Reuse
	}{
		{"begins alike", nil, nil, long("a") + "b", false, ReuseHit},
		{"the same, short", nil, func(s *scheduler) { s.finished("abcdef") }, "abcdef!", false, ReuseHit},
		{"another", nil, nil, long("b"), false, ReuseNew},
		{"probabilities", nil, nil, long("a") + "b", true, ReuseScored},
		{"recurrent", func(l *Limits) { l.RollsBack = false }, nil, long("a")[:40] + "b", false, ReuseFixed},
		{"dropped since", nil, func(s *scheduler) {
			for i := range 4 {
				s.finished(long(string(rune('m' + i))))
			}
		}, long("a") + "b", false, ReuseDropped},
		{"restarted since", nil, func(s *scheduler) { s.forgetAll() }, long("a") + "b", false, ReuseRestarted},
	} {
		l := own(2, 256, 64)
		if c.limits != nil {
			c.limits(&l)
		}

		s := newScheduler(l, 0)
		s.finished(long("a"))
		if c.prepare != nil {
			c.prepare(s)
		}

		q := s.newSequence(c.second)
		if c.score {
			q.toScore = len(c.second) - 1
		}

		s.queue.push(q)
		s.turn()
		if q.reuse != c.want {
			t.Errorf("%s: %s, want %s", c.name, q.reuse, c.want)
		}
	}
}

// finished runs a prompt to its first token, and ends it.
func (s *scheduler) finished(prompt string) {
	q := s.add(prompt)
	for len(q.tokens) == q.prompt {
		s.turn()
	}
	s.release(q)
}

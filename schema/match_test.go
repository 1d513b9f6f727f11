package schema

import "slices"

// matcher says what texts a grammar matches, by trying all ways at once. It reads
// the rules themselves, so it knows nothing of how they were made.
type matcher struct {
	rules map[string]expr
	text  []rune
	known map[place][]int
}

type place struct {
	rule string
	at   int
}

// accepts says whether a grammar matches a whole text.
func (g *grammar) accepts(root, text string) bool {
	m := &matcher{rules: g.rules, text: []rune(text), known: map[place][]int{}}
	return slices.Contains(m.ends(ref(root), 0), len(m.text))
}

// ends returns where a match of e that begins at a place may end.
func (m *matcher) ends(e expr, at int) []int {
	switch e := e.(type) {
	case literal:
		for _, r := range string(e) {
			if at >= len(m.text) || m.text[at] != r {
				return nil
			}
			at++
		}
		return []int{at}

	case class:
		for _, s := range e {
			if at < len(m.text) && s.lo <= m.text[at] && m.text[at] <= s.hi {
				return []int{at + 1}
			}
		}
		return nil

	case ref:
		p := place{string(e), at}
		found, ok := m.known[p]
		if !ok {
			m.known[p] = nil
			found = m.ends(m.rules[string(e)], at)
			m.known[p] = found
		}
		return found

	case seq:
		places := []int{at}
		for _, part := range e {
			var next []int
			for _, p := range places {
				next = append(next, m.ends(part, p)...)
			}
			slices.Sort(next)
			places = slices.Compact(next)
		}
		return places

	case alt:
		var all []int
		for _, part := range e {
			all = append(all, m.ends(part, at)...)
		}
		slices.Sort(all)
		return slices.Compact(all)

	case repeat:
		return m.repeated(e, at)
	}

	panic("unknown expression")
}

func (m *matcher) repeated(e repeat, at int) []int {
	places := []int{at}
	var all []int
	if e.low == 0 {
		all = places
	}

	for n := 1; (e.high < 0 || n <= e.high) && len(places) > 0; n++ {
		var next []int
		for _, p := range places {
			for _, end := range m.ends(e.e, p) {
				if end > p || n <= e.low {
					next = append(next, end)
				}
			}
		}
		slices.Sort(next)
		places = slices.Compact(next)
		if n >= e.low {
			all = append(all, places...)
		}
		if n > len(m.text)+e.low {
			break
		}
	}

	slices.Sort(all)
	return slices.Compact(all)
}

package schema

import (
	"fmt"
	"strconv"
)

// CompilePattern compiles an ECMAScript regular expression that a whole text must match: not a string of JSON, but
// the text itself. The prefix is that of Options. The error says why the expression cannot be enforced.
func CompilePattern(expression, prefix string) (*Compiled, error) {
	d, err := pattern("^(?:" + expression + ")$")
	if err != nil {
		return nil, err
	}
	return compileText(d, prefix)
}

// CompileChoices compiles a list of texts, of which one is to be written.
func CompileChoices(list []string, prefix string) (*Compiled, error) {
	return compileText(words(list), prefix)
}

func compileText(d *dfa, prefix string) (*Compiled, error) {
	g, rules, err := textRules(d, prefix)
	if err != nil {
		return nil, err
	}
	g.Rules = rules.String()
	return g, nil
}

// textRules writes an automaton's strings as rules, one a state.
func textRules(d *dfa, prefix string) (*Compiled, *grammar, error) {
	if !plainName.MatchString(prefix) {
		return nil, nil, fmt.Errorf("the prefix %q is no rule's name", prefix)
	}
	if d.isEmpty() {
		return nil, nil, ErrNever
	}

	rules := &grammar{prefix: prefix, rules: map[string]expr{}}
	name := func(state int) string { return prefix + "t" + strconv.Itoa(state) }
	for s := range d.edges {
		var out alt
		for _, e := range d.edges[s] {
			if chars := writable(e.span); len(chars) > 0 {
				out = append(out, seq{chars, ref(name(e.to))})
			}
		}
		if d.accept[s] {
			out = append(out, empty)
		}
		rules.rules[name(s)] = out
	}

	root := prefix + "root"
	rules.rules[root] = ref(name(0))
	if !rules.prune(root) {
		return nil, nil, ErrNever
	}
	return &Compiled{Root: root, text: d}, rules, nil
}

// writable returns the characters of a span that a text can have: no NUL, and no halves of surrogate pairs.
func writable(s span) (chars class) {
	for _, part := range []span{{1, 0xd7ff}, {0xe000, maxRune}} {
		lo := max(s.lo, part.lo)
		hi := min(s.hi, part.hi)
		if lo <= hi {
			chars = append(chars, span{lo, hi})
		}
	}
	return chars
}

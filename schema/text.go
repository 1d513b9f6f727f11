package schema

import (
	"cmp"
	"fmt"
	"strconv"
)

// CompilePattern compiles an ECMAScript regular expression that a whole text must match: not a string of JSON, but
// the text itself. Of the options it takes the prefix and the budget. The error says why the expression cannot be
// enforced; it is steps.ErrSpent or the context's if the budget has ended.
func CompilePattern(expression string, o Options) (*Compiled, error) {
	d, err := pattern("^(?:"+expression+")$", o.Budget)
	if err != nil {
		return nil, err
	}
	return compileText(d, o)
}

// CompileChoices compiles a list of texts, of which one is to be written. It is like CompilePattern otherwise.
func CompileChoices(list []string, o Options) (*Compiled, error) {
	d, err := words(list, o.Budget)
	if err != nil {
		return nil, err
	}
	return compileText(d, o)
}

func compileText(d *dfa, o Options) (*Compiled, error) {
	if len(d.edges) > maxRules {
		return nil, errTooLarge
	}
	g, rules, err := textRules(d, o)
	if err != nil {
		return nil, err
	}
	g.Rules = rules.String()
	return g, nil
}

// textRules writes an automaton's strings as rules, one a state.
func textRules(d *dfa, o Options) (*Compiled, *grammar, error) {
	prefix := o.Prefix
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
	if ok, err := rules.prune(root, o.Budget); err != nil || !ok {
		return nil, nil, cmp.Or(err, ErrNever)
	}
	if err := rules.charge(o.Budget); err != nil {
		return nil, nil, err
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

package prompt

import (
	"slices"
	"strings"
)

// gbnf is a grammar in llama.cpp's notation. It has one rule per line, as written by llama.cpp and by
// package schema.
type gbnf []rule

// rule is a line "name ::= body". A line that is not a rule has no name.
type rule struct {
	name string
	body []string // tokens: names, literals, character classes, bounds; everything else byte by byte
}

const defines = " ::= "

func parseGBNF(text string) gbnf {
	var g gbnf
	for line := range strings.SplitSeq(text, "\n") {
		name, body, ok := strings.Cut(line, defines)
		if !ok || name == "" {
			name = ""
			body = line
		}
		g = append(g, rule{name, tokens(body)})
	}
	return g
}

// String returns the text of the grammar. Parsing and String are inverse.
func (g gbnf) String() string {
	var b strings.Builder
	for i := range g {
		if i > 0 {
			b.WriteByte('\n')
		}
		if g[i].name != "" {
			b.WriteString(g[i].name + defines)
		}
		for _, t := range g[i].body {
			b.WriteString(t)
		}
	}
	return b.String()
}

// tokens splits the body of a rule into tokens, including spaces.
func tokens(body string) []string {
	var list []string
	for len(body) > 0 {
		n := tokenEnd(body)
		list = append(list, body[:n])
		body = body[n:]
	}
	return list
}

// tokenEnd returns the length of the first token. An unterminated token extends to the end.
func tokenEnd(s string) int {
	switch c := s[0]; {
	case c == '"':
		return quotedEnd(s, '"')
	case c == '[':
		return quotedEnd(s, ']')
	case c == '{':
		if n := strings.IndexByte(s, '}'); n >= 0 {
			return n + 1
		}
		return len(s)
	case isLetter(c):
		n := 1
		for n < len(s) && (isLetter(s[n]) || s[n] == '-' || s[n] >= '0' && s[n] <= '9') {
			n++
		}
		return n
	}
	return 1
}

func quotedEnd(s string, end byte) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case end:
			return i + 1
		}
	}
	return len(s)
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// quoted returns a text as a literal.
func quoted(text string) string { return `"` + literalEscapes.Replace(text) + `"` }

var literalEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`)

// define replaces the body of a rule. It returns false if there is no such rule.
func (g gbnf) define(name, body string) bool {
	found := false
	for i := range g {
		if g[i].name == name {
			g[i].body = tokens(body)
			found = true
		}
	}
	return found
}

// byName returns where the rules are, by their names.
func (g gbnf) byName() map[string][]int {
	places := make(map[string][]int, len(g))
	for i := range g {
		places[g[i].name] = append(places[g[i].name], i)
	}
	return places
}

// replace replaces all occurrences of a sequence of tokens in all rules.
func (g gbnf) replace(old, with string) {
	from := tokens(old)
	to := tokens(with)
	for i := range g {
		body := g[i].body
		for at := 0; at+len(from) <= len(body); at++ {
			if slices.Equal(body[at:at+len(from)], from) {
				body = slices.Replace(body, at, at+len(from), to...)
				at += len(to) - 1
			}
		}
		g[i].body = body
	}
}

// prefixed returns the grammar with a prefix before the name of every rule.
func (g gbnf) prefixed(prefix string) gbnf {
	out := make(gbnf, len(g))
	for i := range g {
		if g[i].name != "" {
			out[i].name = prefix + g[i].name
		}
		for _, t := range g[i].body {
			if isLetter(t[0]) {
				t = prefix + t
			}
			out[i].body = append(out[i].body, t)
		}
	}
	return out
}

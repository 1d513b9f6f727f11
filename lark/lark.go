// Package lark reads grammars in Lark's notation and writes those without recursion as regular
// expressions. Clients of OpenAI's API send such grammars for the input of custom tools.
package lark

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Limits on grammars and on what becomes of them, in bytes.
const (
	maxGrammar = 64 << 10
	maxRegexp  = 8 << 10
	maxDepth   = 100
	maxRepeat  = 1000
)

// ErrRecursive says that a grammar is not regular, as written.
var ErrRecursive = errors.New("the grammar is recursive")

// Regexp returns an ECMAScript regular expression for the texts of the grammar's rule start. The error
// says what the grammar has that a regular expression cannot have, or that it is not a grammar; the two
// are told apart by SyntaxError.
func Regexp(grammar string) (string, error) {
	if len(grammar) > maxGrammar {
		return "", fmt.Errorf("the grammar has more than %d bytes", maxGrammar)
	}
	tokens, err := scan(grammar)
	if err != nil {
		return "", err
	}

	g := &converter{rules: map[string][]token{}, done: map[string]string{}}
	if err := g.statements(tokens); err != nil {
		return "", err
	}
	if _, ok := g.rules["start"]; !ok {
		return "", SyntaxError("there is no rule named start")
	}

	text, err := g.rule("start")
	if err != nil {
		return "", err
	}
	return "^" + text + "$", nil
}

var errTooLong = fmt.Errorf("the grammar's regular expression has more than %d bytes", maxRegexp)

// SyntaxError is an error in the text of a grammar.
type SyntaxError string

// Error implements error.
func (e SyntaxError) Error() string { return string(e) }

// common are the terminals of Lark's library.
var common = map[string]string{
	"CR":             `\r`,
	"LF":             `\n`,
	"NEWLINE":        `(?:\r?\n)+`,
	"WS":             `[ \t\f\r\n]+`,
	"WS_INLINE":      `[ \t]+`,
	"DIGIT":          `[0-9]`,
	"HEXDIGIT":       `[0-9a-fA-F]`,
	"INT":            `[0-9]+`,
	"SIGNED_INT":     `[+-]?[0-9]+`,
	"DECIMAL":        `(?:[0-9]+\.[0-9]*|\.[0-9]+)`,
	"FLOAT":          float,
	"SIGNED_FLOAT":   `[+-]?` + float,
	"NUMBER":         `(?:` + float + `|[0-9]+)`,
	"SIGNED_NUMBER":  `[+-]?(?:` + float + `|[0-9]+)`,
	"LETTER":         `[a-zA-Z]`,
	"UCASE_LETTER":   `[A-Z]`,
	"LCASE_LETTER":   `[a-z]`,
	"WORD":           `[a-zA-Z]+`,
	"CNAME":          `[a-zA-Z_][a-zA-Z0-9_]*`,
	"ESCAPED_STRING": `"(?:[^"\\\n]|\\[^\n])*"`,
	"SH_COMMENT":     `#[^\n]*`,
	"CPP_COMMENT":    `//[^\n]*`,
}

const float = `(?:[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)`

// converter writes rules as regular expressions.
type converter struct {
	rules map[string][]token
	done  map[string]string // the expressions of rules; empty while one is being written
	depth int
}

// statements splits a grammar into its rules.
func (g *converter) statements(tokens []token) error {
	for len(tokens) > 0 {
		n := statementEnd(tokens)
		if err := g.statement(tokens[:n]); err != nil {
			return err
		}
		tokens = tokens[n:]
		for len(tokens) > 0 && tokens[0].kind == lineEnd {
			tokens = tokens[1:]
		}
	}
	return nil
}

// statementEnd returns the length of the first statement. It goes on over a line that begins with |,
// and inside of parentheses.
func statementEnd(tokens []token) int {
	open := 0
	for i, t := range tokens {
		switch {
		case t.is("(") || t.is("["):
			open++
		case t.is(")") || t.is("]"):
			open--
		case t.kind == lineEnd && open <= 0:
			if i+1 == len(tokens) || !tokens[i+1].is("|") {
				return i
			}
		}
	}
	return len(tokens)
}

// statement reads a rule or a directive.
func (g *converter) statement(all []token) error {
	var t []token
	for _, each := range all {
		if each.kind != lineEnd {
			t = append(t, each)
		}
	}
	if len(t) == 0 {
		return nil
	}

	if t[0].kind == directive {
		if t[0].text != "%import" {
			return fmt.Errorf("%s is not supported", t[0].text)
		}
		return g.imports(t[1:])
	}

	for len(t) > 0 && (t[0].is("?") || t[0].is("!")) {
		t = t[1:] // about the tree, not the text
	}
	if len(t) > 2 && t[1].is(".") {
		t = append(t[:1:1], t[3:]...) // a priority
	}
	if len(t) < 2 || t[0].kind != name {
		return SyntaxError("a line is neither a rule nor a directive")
	}
	if !t[1].is(":") {
		return SyntaxError(fmt.Sprintf("there is no colon after %s", t[0].text))
	}
	if _, twice := g.rules[t[0].text]; twice {
		return SyntaxError(fmt.Sprintf("%s is defined twice", t[0].text))
	}
	g.rules[t[0].text] = t[2:]
	return nil
}

// imports reads "common.A", "common.A -> B" and "common (A, B)".
func (g *converter) imports(t []token) error {
	if len(t) < 3 || t[0].text != "common" {
		return errors.New("only Lark's common terminals can be imported")
	}

	names := map[string]string{} // what they are called here
	switch {
	case t[1].is(".") && len(t) == 3:
		names[t[2].text] = t[2].text
	case t[1].is(".") && len(t) == 5 && t[3].is("->"):
		names[t[2].text] = t[4].text
	case t[1].is("("):
		for _, each := range t[2:] {
			if each.kind == name {
				names[each.text] = each.text
			}
		}
	default:
		return SyntaxError("an %import cannot be read")
	}

	for terminal, called := range names {
		text, ok := common[terminal]
		if !ok {
			return fmt.Errorf("the terminal common.%s is not known", terminal)
		}
		g.rules[called] = []token{{kind: expression, text: text}}
	}
	return nil
}

// rule returns the expression of a rule, in a group.
func (g *converter) rule(called string) (string, error) {
	if text, begun := g.done[called]; begun {
		if text == "" {
			return "", ErrRecursive
		}
		return text, nil
	}
	body, ok := g.rules[called]
	if !ok {
		return "", SyntaxError(fmt.Sprintf("%s is not defined", called))
	}

	g.done[called] = ""
	p := &parser{converter: g, rest: body}
	text, err := p.alternatives()
	if err == nil && len(p.rest) > 0 {
		err = SyntaxError(fmt.Sprintf("%s has an unexpected %q", called, p.rest[0].text))
	}
	if err != nil {
		return "", err
	}
	g.done[called] = "(?:" + text + ")"
	return g.done[called], nil
}

// parser reads the body of a rule.
type parser struct {
	*converter
	rest []token
}

// take removes the next token if it is the given one.
func (p *parser) take(text string) bool {
	if len(p.rest) == 0 || !p.rest[0].is(text) {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) alternatives() (string, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxDepth {
		return "", fmt.Errorf("the grammar is nested more than %d levels deep", maxDepth)
	}

	var all []string
	size := 0
	for {
		text, err := p.sequence()
		if err != nil {
			return "", err
		}
		all = append(all, text)
		if size += len(text) + 1; size > maxRegexp {
			return "", errTooLong
		}
		if !p.take("|") {
			return strings.Join(all, "|"), nil
		}
	}
}

func (p *parser) sequence() (string, error) {
	var b strings.Builder
	for len(p.rest) > 0 && !p.rest[0].is("|") && !p.rest[0].is(")") && !p.rest[0].is("]") {
		if p.take("->") {
			if len(p.rest) == 0 || p.rest[0].kind != name {
				return "", SyntaxError("there is no name after ->")
			}
			p.rest = p.rest[1:] // about the tree
			continue
		}

		text, err := p.item()
		if err != nil {
			return "", err
		}
		b.WriteString(text)
		if b.Len() > maxRegexp {
			return "", errTooLong
		}
	}
	return b.String(), nil
}

// item reads an atom and how often it comes.
func (p *parser) item() (string, error) {
	text, err := p.atom()
	if err != nil {
		return "", err
	}

	for _, each := range []string{"?", "*", "+"} {
		if p.take(each) {
			return text + each, nil
		}
	}
	if !p.take("~") {
		return text, nil
	}

	low, err := p.count()
	if err != nil {
		return "", err
	}
	high := low
	if p.take("..") {
		if high, err = p.count(); err != nil {
			return "", err
		}
	}
	if high < low {
		return "", SyntaxError("the maximum of a repetition is less than its minimum")
	}
	return fmt.Sprintf("%s{%d,%d}", text, low, high), nil
}

func (p *parser) count() (int, error) {
	if len(p.rest) == 0 || p.rest[0].kind != number {
		return 0, SyntaxError("there is no number after ~ or ..")
	}
	n, err := strconv.Atoi(p.rest[0].text)
	if err != nil || n > maxRepeat {
		return 0, fmt.Errorf("more than %d repetitions", maxRepeat)
	}
	p.rest = p.rest[1:]
	return n, nil
}

// atom returns an expression that a quantifier can follow.
func (p *parser) atom() (string, error) {
	for open, shut := range map[string]string{"(": ")", "[": "]"} {
		if !p.take(open) {
			continue
		}
		text, err := p.alternatives()
		if err != nil {
			return "", err
		}
		if !p.take(shut) {
			return "", SyntaxError("a parenthesis is not closed")
		}
		text = "(?:" + text + ")"
		if open == "[" {
			text = "(?:" + text + "?)"
		}
		return text, nil
	}

	t := p.rest[0]
	p.rest = p.rest[1:]
	switch t.kind {
	case name:
		return p.rule(t.text)
	case expression:
		return "(?:" + t.text + ")", nil
	case literal:
		if p.take("..") {
			return p.charRange(t.text)
		}
		return "(?:" + regexp.QuoteMeta(t.text) + ")", nil
	case caseless:
		return caselessText(t.text), nil
	}
	return "", SyntaxError(fmt.Sprintf("an unexpected %q", t.text))
}

// charRange reads the end of "a".."z".
func (p *parser) charRange(low string) (string, error) {
	if len(p.rest) == 0 || p.rest[0].kind != literal {
		return "", SyntaxError("there is no string after ..")
	}
	high := p.rest[0].text
	p.rest = p.rest[1:]
	from := []rune(low)
	to := []rune(high)
	if len(from) != 1 || len(to) != 1 || from[0] > to[0] {
		return "", SyntaxError("a range must be between two single characters")
	}
	return "[" + inClass(from[0]) + "-" + inClass(to[0]) + "]", nil
}

func inClass(r rune) string {
	if strings.ContainsRune(`\]^-[`, r) {
		return `\` + string(r)
	}
	return string(r)
}

// caselessText matches a text whatever the case of its letters is.
func caselessText(text string) string {
	var b strings.Builder
	for _, r := range text {
		lower := strings.ToLower(string(r))
		upper := strings.ToUpper(string(r))
		if lower == upper {
			b.WriteString(regexp.QuoteMeta(lower))
		} else {
			b.WriteString("(?:" + lower + "|" + upper + ")")
		}
	}
	return "(?:" + b.String() + ")"
}

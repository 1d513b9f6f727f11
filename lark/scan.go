package lark

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

type kind uint8

const (
	symbol kind = iota
	name
	number
	literal    // a string, unescaped
	caseless   // a string whose letters may have either case
	expression // a regular expression, without its slashes
	directive
	lineEnd
)

type token struct {
	kind kind
	text string
}

// is reports whether the token is a symbol.
func (t token) is(text string) bool { return t.kind == symbol && t.text == text }

// forms are the tokens besides line ends, the first that matches being the one.
var forms = []struct {
	kind kind
	form *regexp.Regexp
}{
	{name, regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*`)},
	{number, regexp.MustCompile(`^[0-9]+`)},
	{caseless, regexp.MustCompile(`^"(?:[^"\\\n]|\\.)*"i`)},
	{literal, regexp.MustCompile(`^"(?:[^"\\\n]|\\.)*"`)},
	{expression, regexp.MustCompile(`^/(?:[^/\\\n]|\\.)+/[a-z]*`)},
	{directive, regexp.MustCompile(`^%[a-z]+`)},
	{symbol, regexp.MustCompile(`^(?:->|\.\.|[:|()\[\]?*+~!.,{}-])`)},
}

// scan splits a grammar into tokens.
func scan(text string) (list []token, err error) {
	for len(text) > 0 {
		switch {
		case text[0] == '\n':
			// Empty lines mean nothing.
			if n := len(list); n == 0 || list[n-1].kind != lineEnd {
				list = append(list, token{kind: lineEnd})
			}
			text = text[1:]
			continue
		case strings.ContainsRune(" \t\r", rune(text[0])):
			text = text[1:]
			continue
		case strings.HasPrefix(text, "//"):
			n := strings.IndexByte(text, '\n')
			if n < 0 {
				n = len(text)
			}
			text = text[n:]
			continue
		}

		t, n, err := scanToken(text)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
		text = text[n:]
	}
	return list, nil
}

func scanToken(text string) (token, int, error) {
	for _, f := range forms {
		found := f.form.FindString(text)
		if found == "" {
			continue
		}
		t := token{f.kind, found}
		var err error
		switch f.kind {
		case literal:
			t.text, err = unquote(found)
		case caseless:
			t.text, err = unquote(found[:len(found)-1])
		case expression:
			t.text, err = unslash(found)
		}
		return t, len(found), err
	}
	return token{}, 0, SyntaxError(fmt.Sprintf("an unexpected %q", []rune(text)[:1]))
}

// hexEscape is Python's escape of a byte, which JSON does not have.
var hexEscape = regexp.MustCompile(`\\x([0-9a-fA-F]{2})`)

func unquote(quoted string) (text string, err error) {
	quoted = hexEscape.ReplaceAllString(quoted, `\u00$1`)
	quoted = strings.ReplaceAll(quoted, "\t", `\t`)
	if json.Unmarshal([]byte(quoted), &text) != nil {
		return "", SyntaxError(fmt.Sprintf("the string %.40s cannot be read", quoted))
	}
	return text, nil
}

// unslash returns the expression between slashes.
func unslash(slashed string) (string, error) {
	end := strings.LastIndexByte(slashed, '/')
	if flags := slashed[end+1:]; flags != "" {
		return "", fmt.Errorf("flags of regular expressions are not supported: %s", flags)
	}
	return strings.ReplaceAll(slashed[1:end], `\/`, `/`), nil
}

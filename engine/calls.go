package engine

import (
	"encoding/json"
	"strings"
)

// PlainCalls is a Request.Parser of the engine's own, for models whose chat format
// knows no tools: an answer that begins with {"tool_calls":[ is calls, each
// {"name":…,"arguments":{…}}, and any other is text. After a colon the name of a
// Runner's parser may follow; it reads the answer first.
const PlainCalls = "plain-calls"

// parser returns the function that reads an answer, of which the prompt has begun some.
// The Runner's parsers give that back.
func (e *Engine) parser(spec, begun string) (ParseFunc, error) {
	inner, own := strings.CutPrefix(spec, PlainCalls)
	if !own {
		parse, err := e.runner.Parser(spec)
		return without(begun, parse), err
	}
	if inner = strings.TrimPrefix(inner, ":"); inner == "" {
		return func(text string, partial bool) (Message, error) { return plainCalls(text, partial), nil }, nil
	}
	first, err := e.runner.Parser(inner)
	if err != nil {
		return nil, err
	}
	first = without(begun, first)
	return func(text string, partial bool) (Message, error) {
		m, err := first(text, partial)
		if err != nil {
			return m, err
		}
		read := plainCalls(m.Content, partial)
		read.Reasoning = m.Reasoning
		return read, nil
	}, nil
}

// without takes off the content what an answer had begun with. Parsers may leave out
// white space at its end.
func without(begun string, parse ParseFunc) ParseFunc {
	if begun == "" {
		return parse
	}
	words := strings.TrimRight(begun, " \t\r\n")
	space := begun[len(words):]
	return func(text string, partial bool) (Message, error) {
		m, err := parse(text, partial)
		if rest, ok := strings.CutPrefix(m.Content, words); ok {
			m.Content = rest[len(commonStart(rest, space)):]
		} else if strings.HasPrefix(words, m.Content) {
			m.Content = "" // not all of the beginning yet
		}
		return m, err
	}
}

func commonStart(a, b string) string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// plainCalls reads an answer, as far as it has come.
func plainCalls(text string, partial bool) Message {
	rest, found := text, whole
	for _, token := range []string{"{", `"tool_calls"`, ":", "["} {
		if rest, found = readToken(rest, token); found != whole {
			break
		}
	}
	if found == other || found == begun && !partial {
		return Message{Content: text}
	}
	var m Message
	for found == whole {
		var call ToolCall
		call, rest, found = plainCall(rest)
		if call.Name != "" {
			m.ToolCalls = append(m.ToolCalls, call)
		}
		if found == whole {
			rest, found = readToken(rest, ",")
		}
	}
	return m
}

// match is how much of what is expected is there.
type match int

const (
	other match = iota // something else is
	begun              // the text ends before it
	whole
)

// readToken reads a token, after any white space.
func readToken(text, token string) (rest string, m match) {
	text = strings.TrimLeft(text, " \t\r\n")
	switch {
	case strings.HasPrefix(text, token):
		return text[len(token):], whole
	case strings.HasPrefix(token, text):
		return text, begun
	}
	return text, other
}

// plainCall reads one call, as far as it has come: its name once that is whole.
func plainCall(text string) (call ToolCall, rest string, m match) {
	for _, token := range []string{"{", `"name"`, ":"} {
		if text, m = readToken(text, token); m != whole {
			return call, text, m
		}
	}
	text = strings.TrimLeft(text, " \t\r\n")
	n, ended := valueEnd(text)
	if !ended || json.Unmarshal([]byte(text[:n]), &call.Name) != nil {
		return ToolCall{}, text, begun
	}
	text = text[n:]
	for _, token := range []string{",", `"arguments"`, ":"} {
		if text, m = readToken(text, token); m != whole {
			return call, text, m
		}
	}
	text = strings.TrimLeft(text, " \t\r\n")
	n, ended = valueEnd(text)
	call.Arguments, text = text[:n], text[n:]
	if !ended {
		return call, text, begun
	}
	text, m = readToken(text, "}")
	return call, text, m
}

// valueEnd returns the length of the string or object that a text begins with, and
// whether it has an end.
func valueEnd(text string) (n int, ended bool) {
	depth, quoted, escaped := 0, false, false
	for i := range len(text) {
		switch c := text[i]; {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if depth <= 0 && !quoted && !escaped {
			return i + 1, true
		}
	}
	return len(text), false
}

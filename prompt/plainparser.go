package prompt

import (
	"encoding/json"
	"strings"

	"serve/engine"
)

// plainSyntax is the plain format of calls token by token. The tokens from plainFirstCall on repeat.
var plainSyntax = []string{
	"{",
	`"tool_calls"`,
	":",
	"[",
	"{",
	`"name"`,
	":",
	plainName,
	",",
	`"arguments"`,
	":",
	plainValue,
	"}",
	",",
}

const (
	plainFirstCall = 4
	plainName      = "name"      // in the place of a token: a string
	plainValue     = "arguments" // in the place of a token: the arguments
)

// plainParser parses answers in the plain format of calls: one that begins like calls is calls, any other is
// text. It reads the content that another parser, if any, returns.
type plainParser struct {
	inner engine.Parser // nil if the text is the content

	text  bool   // the answer is text
	ended bool   // nothing that follows belongs to a call
	begun string // content before it is known to be calls
	rest  string // content that has not been read
	next  int    // the token of plainSyntax that comes next
	calls int    // begun so far
	named bool   // the current call has a name
	value jsonScanner
}

func newPlainParser(inner engine.Parser) engine.Parser { return &plainParser{inner: inner} }

// Close closes the inner parser.
func (p *plainParser) Close() {
	if p.inner != nil {
		p.inner.Close()
	}
}

// Append implements engine.Parser.
func (p *plainParser) Append(text string, last bool) (engine.Delta, error) {
	d := engine.Delta{Content: text}
	if p.inner != nil {
		var err error
		if d, err = p.inner.Append(text, last); err != nil {
			return d, err
		}
	}
	if p.text {
		return d, nil
	}

	if len(d.ToolCalls) > 0 {
		p.text = true // calls in the model's own format
		d.Content = p.begun + d.Content
		return d, nil
	}

	added := d.Content
	d.Content = ""
	p.rest += added
	if p.next < plainFirstCall {
		p.begun += added
	}
	p.read(&d)

	if p.next < plainFirstCall && last {
		p.text = true
	}
	if p.text {
		d.Content = p.begun
	}
	return d, nil
}

// read reads as many tokens as there are, and adds what is new of calls.
func (p *plainParser) read(d *engine.Delta) {
	for !p.text && !p.ended {
		if p.next == len(plainSyntax) {
			p.next = plainFirstCall
		}
		if !p.value.begun {
			p.rest = strings.TrimLeft(p.rest, " \t\r\n")
		}

		read := false
		switch token := plainSyntax[p.next]; token {
		case plainName:
			read = p.readName(d)
		case plainValue:
			read = p.readValue(d)
		default:
			read = p.readToken(token)
		}
		if !read {
			return
		}
		p.next++
	}
}

func (p *plainParser) readToken(token string) bool {
	rest, ok := strings.CutPrefix(p.rest, token)
	switch {
	case ok:
		p.rest = rest
	case strings.HasPrefix(token, p.rest): // not all of it yet
	case p.next < plainFirstCall:
		p.text = true
	default:
		p.ended = true
	}
	return ok
}

// readName reads the name of a call once it is complete.
func (p *plainParser) readName(d *engine.Delta) bool {
	var s jsonScanner
	n, complete := s.scan(p.rest)
	if !complete {
		return false
	}

	var name string
	if json.Unmarshal([]byte(p.rest[:n]), &name) != nil {
		p.ended = true
		return false
	}

	p.rest = p.rest[n:]
	p.named = name != ""
	if p.named {
		d.ToolCalls = append(d.ToolCalls, engine.ToolCallDelta{Index: p.calls, Name: name})
		p.calls++
	}
	return true
}

// readValue passes on arguments as they come.
func (p *plainParser) readValue(d *engine.Delta) bool {
	n, complete := p.value.scan(p.rest)
	if p.named && n > 0 {
		d.ToolCalls = append(d.ToolCalls, engine.ToolCallDelta{Index: p.calls - 1, Arguments: p.rest[:n]})
	}
	p.rest = p.rest[n:]
	if complete {
		p.value = jsonScanner{}
	}
	return complete
}

// jsonScanner finds the end of a JSON string, object or array that comes in pieces.
type jsonScanner struct {
	depth                  int
	begun, quoted, escaped bool
}

// scan reads a piece. It returns how many bytes of it belong to the value, and whether the value is complete.
func (s *jsonScanner) scan(text string) (n int, complete bool) {
	for i := range len(text) {
		s.begun = true
		switch c := text[i]; {
		case s.escaped:
			s.escaped = false
		case s.quoted && c == '\\':
			s.escaped = true
		case c == '"':
			s.quoted = !s.quoted
		case s.quoted:
		case c == '{' || c == '[':
			s.depth++
		case c == '}' || c == ']':
			s.depth--
		}
		if s.depth <= 0 && !s.quoted && !s.escaped {
			return i + 1, true
		}
	}
	return len(text), false
}

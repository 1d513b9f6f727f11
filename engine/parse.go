package engine

import (
	"context"
	"strings"
)

// answerParser parses the text of one choice.
type answerParser struct {
	parser Parser

	// All that the choice said, and what of it went out as content: a model may break its
	// own format, which is known at the end only.
	raw     strings.Builder
	content strings.Builder

	called bool // calls went out
	read   int  // bytes of raw when something of it went out last
}

// parsers makes a parser for each choice of a request, none if the text is the content.
func (e *Engine) parsers(ctx context.Context, r *Request) ([]answerParser, error) {
	if r.Parser == "" && r.Format == nil {
		return nil, nil
	}

	parsers := make([]answerParser, r.Choices)
	for i := range parsers {
		p, err := e.parser(ctx, r)
		if err != nil {
			closeAll(parsers[:i])
			return nil, err
		}
		parsers[i].parser = p
	}
	return parsers, nil
}

func (e *Engine) parser(ctx context.Context, r *Request) (p Parser, err error) {
	if r.Parser != "" {
		if p, err = e.text.Parser(ctx, r.Parser); err != nil {
			return nil, ended(err)
		}
		if r.Begun != "" {
			p = &continuation{Parser: p, begun: r.Begun}
		}
	}
	if r.Format != nil {
		p = r.Format(p)
	}
	return p, nil
}

func closeAll(parsers []answerParser) {
	for i := range parsers {
		parsers[i].parser.Close()
	}
}

// parse turns the text of events into content, reasoning and tool calls, on the
// reader's goroutine. Events that say nothing new disappear.
func (s *Stream) parse(events []Event) []Event {
	s.parsing.Lock()
	kept := events[:0]
	for _, e := range events {
		if s.closed.Load() {
			e.Text = ""
		} else {
			s.parsers[e.Choice].parse(&e)
		}
		if e.Text != "" || e.Reasoning != "" || len(e.ToolCalls) > 0 || len(e.Tokens) > 0 || e.Finish != "" {
			kept = append(kept, e)
		}
	}
	s.parsing.Unlock()

	if s.closed.Load() {
		s.closeParsers()
	}
	return kept
}

// closeParsers closes the parsers now, or, if they are in use, when they are not any
// more. It never waits.
func (s *Stream) closeParsers() {
	s.closed.Store(true)
	if s.parsing.TryLock() {
		closeAll(s.parsers)
		s.parsers = s.parsers[:0]
		s.parsing.Unlock()
	}
}

// parse replaces an event's raw text by what is new in the parsed answer.
func (p *answerParser) parse(e *Event) {
	p.raw.WriteString(e.Text)
	d, err := p.parser.Append(e.Text, e.Finish != "")
	if err != nil {
		d = Delta{}
		if e.Finish != "" {
			d.Content = p.rest()
		}
	}

	p.content.WriteString(d.Content)
	p.called = p.called || len(d.ToolCalls) > 0
	if d.Content != "" || d.Reasoning != "" || len(d.ToolCalls) > 0 {
		p.read = p.raw.Len()
	}
	e.Text = d.Content
	e.Reasoning = d.Reasoning
	e.ToolCalls = d.ToolCalls
}

// rest returns the part of an answer, which is not in the format, that was not passed on: what the model said is not
// lost, but a call that went out is not text as well.
func (p *answerParser) rest() string {
	raw := p.raw.String()
	if !p.called {
		return strings.TrimPrefix(raw, p.content.String())
	}
	if rest := raw[p.read:]; strings.TrimSpace(rest) != "" {
		return rest
	}
	return ""
}

// continuation takes off the content what the answer had begun with in the prompt.
// Parsers may leave out white space at the end of that.
type continuation struct {
	Parser

	begun   string
	content string // as far as it may be that
	passed  int    // bytes of what is left of content that were passed on
	over    bool   // what follows is passed on as it is
}

func (c *continuation) Append(text string, last bool) (Delta, error) {
	d, err := c.Parser.Append(text, last)
	if err != nil || c.over || d.Content == "" {
		return d, err
	}

	c.content += d.Content
	rest := without(c.begun, c.content)
	d.Content = rest[c.passed:]
	c.passed = len(rest)
	c.over = len(c.content) >= len(c.begun)
	return d, nil
}

// without returns what follows the beginning of an answer in its content so far.
func without(begun, content string) string {
	words := strings.TrimRight(begun, " \t\r\n")
	space := begun[len(words):]
	rest, ok := strings.CutPrefix(content, words)
	switch {
	case ok:
		return rest[len(commonStart(rest, space)):]
	case strings.HasPrefix(words, content):
		return "" // not all of the beginning yet
	}
	return content
}

func commonStart(a, b string) string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

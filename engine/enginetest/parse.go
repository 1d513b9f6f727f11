package enginetest

import (
	"strings"

	"serve/engine"
)

// Message is a parsed answer.
type Message struct {
	Content   string
	Reasoning string
	ToolCalls []ToolCall
}

// ToolCall is a call in a Message; Arguments is JSON.
type ToolCall struct{ ID, Name, Arguments string }

// A ParseFunc parses all of an answer's text so far. Partial says that more may come.
type ParseFunc func(text string, partial bool) (Message, error)

var _ engine.Parser = (*Parser)(nil)

// Parser is an engine.Parser made of a function that parses the whole text each time.
type Parser struct {
	parse ParseFunc
	text  strings.Builder
	sent  Message
}

// NewParser returns a parser of an answer. Without a function the text is the content.
func NewParser(parse ParseFunc) *Parser {
	if parse == nil {
		parse = func(text string, _ bool) (Message, error) { return Message{Content: text}, nil }
	}
	return &Parser{parse: parse}
}

// Close does nothing.
func (p *Parser) Close() {}

// Append parses again and returns the difference.
func (p *Parser) Append(text string, last bool) (d engine.Delta, err error) {
	p.text.WriteString(text)
	now, err := p.parse(p.text.String(), !last)
	if err != nil {
		return d, err
	}

	d.Content = extend(&p.sent.Content, now.Content)
	d.Reasoning = extend(&p.sent.Reasoning, now.Reasoning)
	for i, call := range now.ToolCalls {
		if i == len(p.sent.ToolCalls) {
			p.sent.ToolCalls = append(p.sent.ToolCalls, ToolCall{})
		}
		sent := &p.sent.ToolCalls[i]
		c := engine.ToolCallDelta{Index: i, Arguments: extend(&sent.Arguments, call.Arguments)}
		if sent.Name == "" {
			sent.ID = call.ID
			sent.Name = call.Name
			c.ID = call.ID
			c.Name = call.Name
		}
		if c.Name != "" || c.Arguments != "" {
			d.ToolCalls = append(d.ToolCalls, c)
		}
	}
	return d, nil
}

// extend makes sent what it is now, if it only grew, and returns what is new.
func extend(sent *string, now string) string {
	rest, ok := strings.CutPrefix(now, *sent)
	if !ok || rest == "" {
		return ""
	}
	*sent = now
	return rest
}

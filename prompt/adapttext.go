package prompt

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// text writes calls and results as text, in the format in which models without tools call.
func (a *adapter) text() {
	a.results()
	for i := range a.messages {
		m := &a.messages[i]
		switch {
		case len(m.Calls) > 0:
			*m = callsText(*m)
		case m.Role == ToolRole:
			*m = resultText(*m)
		default:
			continue
		}
		a.note(NoteCallsText)
	}
}

// arguments makes what is no JSON object one, as far as the template needs that.
func (a *adapter) arguments() {
	for i := range a.messages {
		m := &a.messages[i]
		m.Calls = slices.Clone(m.Calls)
		for k := range m.Calls {
			c := &m.Calls[k]
			c.Arguments = mendSurrogates(c.Arguments)
			if text := a.argument(c.Arguments); text != c.Arguments {
				c.Arguments = text
				a.note(NoteArgumentsText)
			}
		}
	}
}

func (a *adapter) argument(text string) string {
	trimmed := strings.TrimSpace(text)
	switch {
	case trimmed == "":
		return "{}"
	case !readable(text):
		if a.takes(argumentsText) {
			return text
		}
		if quoted := quoteJSON(text); a.takes(argumentsQuote) {
			return quoted
		}
	case trimmed[0] == '{' || a.takes(argumentsValue):
		return text
	}
	return `{"arguments":` + quoteJSON(text) + `}`
}

func quoteJSON(text string) string {
	quoted, _ := json.Marshal(text) // a string cannot fail
	return string(quoted)
}

// callsText returns a message with its calls as text, in the format that the model uses.
func callsText(m Message) Message {
	type written struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	}
	list := make([]written, len(m.Calls))
	for i, c := range m.Calls {
		if !readable(c.Arguments) {
			c.Arguments = quoteJSON(c.Arguments)
		}
		list[i] = written{c.Name, json.RawMessage(c.Arguments)}
	}

	text, _ := json.Marshal(map[string]any{"tool_calls": list}) // all of it is JSON
	if m.Content != "" {
		m.Content += "\n\n"
	}
	m.Content += string(text)
	m.Calls = nil
	return m
}

// resultText returns a result as a message of the user's.
func resultText(m Message) Message {
	name := m.CallName
	if name == "" {
		name = m.CallID
	}
	return Message{Role: User, Content: fmt.Sprintf("The result of %s: %s", name, m.Content), Images: m.Images}
}

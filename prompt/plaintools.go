package prompt

import (
	"encoding/json"
	"fmt"
	"strings"

	"serve/engine"
)

// For chat templates without support for tools, everything is plain text: the functions are in the
// system message, and calls and results are messages. Calls have a format of our own. Its grammar is
// here, its parser in plainparser.go.

// The format of calls, and its parts. The parser also allows white space between them.
const (
	plainForm      = plainBegin + plainCallBegin + "..." + plainArguments + "{...}" + plainCallEnd + plainEnd
	plainBegin     = `{"tool_calls":[`
	plainCallBegin = `{"name":"`
	plainArguments = `","arguments":`
	plainCallEnd   = `}`
	plainEnd       = `]}`
)

// renderPlain renders a chat with tools for a template without support for tools.
func (c *Conversation) renderPlain(m Model, chat engine.Chat, messages []Message) (*engine.Rendered, error) {
	chat.Tools = nil
	chat.ToolChoice = ""
	plain, err := c.Tools.describe(messages)
	if err != nil {
		return nil, err
	}

	rendered, err := renderMessages(m, chat, plain)
	if err != nil {
		return nil, err
	}

	must := c.Tools.Choice == ChoiceRequired
	rendered.Format = newPlainParser
	prompt, thinks := strings.CutSuffix(strings.TrimRight(rendered.Prompt, "\n"), "<think>")
	if thinks && must {
		// The template has begun a thinking block, but a call is required: close it.
		rendered.Prompt = prompt + "<think>\n\n</think>\n\n"
		rendered.Parser = ""
	}

	rendered.Grammar = engine.Grammar{Text: c.plainGrammar()}
	if _, begun := c.begun(); begun && c.Format.asked() && !must {
		// The client has begun an answer, so there is no call.
		rendered.Grammar = c.onlySchema()
	}

	return rendered, nil
}

// describe returns the messages with the functions, calls and results as text.
func (t *Tools) describe(messages []Message) ([]Message, error) {
	text, err := t.instruction()
	if err != nil {
		return nil, err
	}

	names := map[string]string{} // of the calls, by id
	plain := instruct(messages, text)
	for i := range plain {
		m := &plain[i]
		switch {
		case len(m.Calls) > 0:
			if err := writeCalls(m, names); err != nil {
				return nil, err
			}
		case m.Role == ToolRole:
			name := m.CallID
			if known, ok := names[name]; ok {
				name = known
			}
			*m = Message{Role: User, Content: fmt.Sprintf("The result of %s: %s", name, m.Content)}
		}
	}

	return plain, nil
}

// instruction describes the functions and the format of calls.
func (t *Tools) instruction() (string, error) {
	var b strings.Builder
	b.WriteString("You can call these functions:\n")
	for i := range t.List {
		text, err := json.Marshal(t.List[i].template())
		if err != nil {
			return "", err
		}
		b.Write(text)
		b.WriteByte('\n')
	}

	b.WriteString("To call functions, answer with this JSON and nothing else:\n" + plainForm + "\n")
	if t.Choice == ChoiceRequired {
		b.WriteString("You must call a function now.")
	} else {
		b.WriteString("If no function helps, answer in plain text.")
	}
	return b.String(), nil
}

// writeCalls converts the calls of a message to text, in the format that the model uses.
func writeCalls(m *Message, names map[string]string) error {
	type written struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	}
	list := make([]written, len(m.Calls))
	for i, c := range m.Calls {
		names[c.ID] = c.Name
		list[i] = written{c.Name, json.RawMessage(c.Arguments)}
	}

	text, err := json.Marshal(map[string]any{"tool_calls": list})
	if m.Content != "" {
		m.Content += "\n\n"
	}
	m.Content += string(text)
	m.Calls = nil
	return err
}

// plainGrammar returns the grammar for calls. Unless a call is required, it also allows an answer by
// the format, or any text that does not begin with a brace.
func (c *Conversation) plainGrammar() string {
	t := &c.Tools
	var names []string
	var rules strings.Builder
	for i := range t.List {
		tool := &t.List[i]
		name := fmt.Sprintf("call-%d", i)
		names = append(names, name)
		begin := fmt.Sprintf("%q", plainCallBegin+tool.Name+plainArguments)
		fmt.Fprintf(&rules, "%s ::= %s %s %q\n%s", name, begin, tool.arguments.Root, plainCallEnd, tool.arguments.Rules)
	}

	more := ""
	if t.Parallel {
		more = ` ("," call)*`
	}

	root := "calls"
	switch {
	case t.Choice == ChoiceRequired:
	case c.Format.asked():
		root += " | " + c.Format.answer.Root
		rules.WriteString(c.Format.answer.Rules)
	default:
		root += " | [^{] [^\\x00]*"
	}

	return strings.Join([]string{
		rootRule + defines + root,
		fmt.Sprintf("calls ::= %q call%s %q", plainBegin, more, plainEnd),
		"call ::= " + strings.Join(names, " | "),
		rules.String(),
	}, "\n")
}

package prompt

import (
	"encoding/json"
	"fmt"
	"strings"

	"serve/engine"
)

// A chat template that knows no tools gets them in words: the functions in the system's
// message, calls and their results as text, and a form for calls that engine.PlainCalls reads.
// The grammar is ours alone.

// The form, and its pieces.
const (
	plainForm      = plainBegin + plainCallBegin + "..." + plainArguments + "{...}" + plainCallEnd + plainEnd
	plainBegin     = `{"tool_calls":[`
	plainCallBegin = `{"name":"`
	plainArguments = `","arguments":`
	plainCallEnd   = `}`
	plainEnd       = `]}`
)

// renderPlain renders a chat with tools for a template that knows none.
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
	rendered.Parser = engine.PlainCalls + ":" + rendered.Parser
	prompt, thinks := strings.CutSuffix(strings.TrimRight(rendered.Prompt, "\n"), "<think>")
	if thinks && must {
		// The template has begun to think; what must come at once is a call.
		rendered.Prompt = prompt + "<think>\n\n</think>\n\n"
		rendered.Parser = engine.PlainCalls
	}

	rendered.Grammar = engine.Grammar{Text: c.plainGrammar()}
	if _, begun := c.begun(); begun && c.Format.Asked() && !must {
		// What has begun as an answer is no call.
		rendered.Grammar = c.onlySchema()
	}

	return rendered, nil
}

// describe puts the functions, the calls and their results into words.
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

// instruction says what can be called, and how.
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

// writeCalls writes an earlier message's calls as the model would have.
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

// plainGrammar holds calls to their form and their arguments to their schemas. An answer that
// does not begin with a brace is free, or by the answer's own schema.
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
	case c.Format.Asked():
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

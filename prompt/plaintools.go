package prompt

import (
	"encoding/json"
	"fmt"
	"slices"
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

// plain renders a chat with tools for a template without support for tools.
func (r *renderer) plain(chat engine.Chat, messages []Message) (*engine.Rendered, error) {
	chat.Tools = nil
	chat.ToolChoice = ""
	r.loose = nil
	text, err := r.Tools.instruction()
	if err != nil {
		return nil, err
	}

	written := adapter{messages: slices.Clone(messages)}
	written.text()
	rendered, err := r.messages(chat, instruct(written.messages, text))
	if err != nil {
		return nil, err
	}
	r.notes = append(r.notes, written.notes...)

	must := r.Tools.Choice == ChoiceRequired
	rendered.Format = newPlainParser
	prompt, thinks := strings.CutSuffix(strings.TrimRight(rendered.Prompt, "\n"), "<think>")
	if thinks && must {
		// The template has begun a thinking block, but a call is required: close it.
		rendered.Prompt = prompt + "<think>\n\n</think>\n\n"
		rendered.Quoted = within(rendered.Quoted, 0, len(prompt+"<think>"))
		rendered.Parser = ""
	}

	rendered.Grammar = engine.Grammar{Text: r.plainGrammar()}
	if _, begun := r.begun(); begun && r.Format.asked() && !must {
		// The client has begun an answer, so there is no call.
		rendered.Grammar = r.onlySchema()
	}

	return rendered, nil
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

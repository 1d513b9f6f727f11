package server

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"serve/engine"
	"serve/pool"
)

// A chat template that knows no tools gets them in words: the functions in the
// system's message, calls and their results as text, and a form for calls that
// engine.PlainCalls reads. The grammar is ours alone.

// renderPlain renders a chat with tools for a template that knows none.
func (r *chatRequest) renderPlain(e pool.Engine, chat engine.Chat, messages []message) (*engine.Rendered, error) {
	chat.Tools, chat.ToolChoice = nil, ""
	plain, err := r.tools.tell(messages)
	if err != nil {
		return nil, err
	}
	rendered, err := renderMessages(e, chat, plain)
	if err != nil {
		return nil, err
	}
	rendered.Parser = engine.PlainCalls + ":" + rendered.Parser
	if prompt, thinks := strings.CutSuffix(strings.TrimRight(rendered.Prompt, "\n"), "<think>"); thinks && r.tools.choice.mode == "required" {
		// The template has begun to think; what must come at once is a call.
		rendered.Prompt, rendered.Parser = prompt+"<think>\n\n</think>\n\n", engine.PlainCalls
	}
	rendered.Grammar = engine.Grammar{Text: r.plainGrammar()}
	if _, begun := r.begun(); begun && r.format.asked() && r.tools.choice.mode != "required" {
		// What has begun as an answer is no call.
		rendered.Grammar = r.onlySchema()
	}
	return rendered, nil
}

// tell puts the functions, the calls and their results into words.
func (t *tools) tell(messages []message) ([]message, error) {
	var b strings.Builder
	b.WriteString("You can call these functions:\n")
	for _, tool := range t.list {
		text, err := json.Marshal(tool.Function)
		if err != nil {
			return nil, err
		}
		b.Write(text)
		b.WriteByte('\n')
	}
	b.WriteString("To call functions, answer with this JSON and nothing else:\n" + `{"tool_calls":[{"name":"...","arguments":{...}}]}` + "\n")
	if t.choice.mode == "required" {
		b.WriteString("You must call a function now.")
	} else {
		b.WriteString("If no function helps, answer in plain text.")
	}
	names := map[string]string{} // of the calls, by id
	plain := instruct(messages, b.String())
	for i := range plain {
		m := &plain[i]
		switch {
		case len(m.ToolCalls) > 0:
			if err := sayCalls(m, names); err != nil {
				return nil, err
			}
		case m.Role == "tool":
			name := m.ToolCallID
			if known, ok := names[name]; ok {
				name = known
			}
			*m = message{Role: "user", Content: fmt.Sprintf("The result of %s: %s", name, m.Content)}
		}
	}
	return plain, nil
}

// sayCalls writes an earlier message's calls as the model would have.
func sayCalls(m *message, names map[string]string) error {
	var calls []toolCall
	if err := json.Unmarshal(m.ToolCalls, &calls); err != nil {
		return err
	}
	type said struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
	}
	list := make([]said, len(calls))
	for i, c := range calls {
		names[c.ID] = c.Function.Name
		list[i] = said{c.Function.Name, json.RawMessage(c.Function.Arguments)}
	}
	text, err := json.Marshal(map[string]any{"tool_calls": list})
	if m.Content != "" {
		m.Content += "\n\n"
	}
	m.Content, m.ToolCalls = m.Content+string(text), nil
	return err
}

// plainGrammar holds calls to their form and their arguments to their schemas. An
// answer that does not begin with a brace is free, or by the answer's own schema.
func (r *chatRequest) plainGrammar() string {
	t := &r.tools
	var names []string
	var rules strings.Builder
	for i, tool := range t.list {
		name := fmt.Sprintf("call-%d", i)
		names = append(names, name)
		fmt.Fprintf(&rules, "%s ::= %q %s \"}\"\n%s", name, `{"name":"`+tool.Function.Name+`","arguments":`, tool.grammar.Root, tool.grammar.Rules)
	}
	more := ` ("," call)*`
	if !t.parallel || t.legacy {
		more = ""
	}
	root := "calls"
	switch {
	case t.choice.mode == "required":
	case r.format.asked():
		root += " | " + r.format.grammar.Root
		rules.WriteString(r.format.grammar.Rules)
	default:
		root += " | [^{] [^\\x00]*"
	}
	return strings.Join(slices.Concat([]string{"root ::= " + root, fmt.Sprintf("calls ::= %q call%s \"]}\"", `{"tool_calls":[`, more), "call ::= " + strings.Join(names, " | ")},
		[]string{rules.String()}), "\n")
}

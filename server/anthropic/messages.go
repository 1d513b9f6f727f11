package anthropic

import (
	"regexp"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

// Limits on a conversation.
const (
	maxMessages = 16384
	maxBlocks   = 4096
)

// readMessages reads the conversation. A message with results of tools becomes several.
func (rd *reader) readMessages(v wire.Value) ([]prompt.Message, *fault.Error) {
	list, e := v.Array(maxMessages)
	if e != nil {
		return nil, e
	}
	if len(list) == 0 {
		return nil, v.Empty()
	}

	messages := make([]prompt.Message, 0, len(list))
	for _, item := range list {
		if messages, e = rd.readMessage(messages, item); e != nil {
			return nil, e
		}
	}
	if len(messages) == 0 {
		return nil, v.Empty() // there is nothing that a model can read
	}
	return messages, nil
}

// readMessage appends one message to the conversation.
func (rd *reader) readMessage(to []prompt.Message, v wire.Value) ([]prompt.Message, *fault.Error) {
	object, e := rd.object(v, "role", "content")
	if e != nil {
		return nil, e
	}
	field, e := v.Required(object, "role")
	if e != nil {
		return nil, e
	}
	role, e := field.OneOf("user", "assistant", "system")
	if e != nil {
		return nil, e
	}
	content, e := v.Required(object, "content")
	if e != nil {
		return nil, e
	}

	switch prompt.Role(role) {
	case prompt.User:
		return rd.readUser(to, content)
	case prompt.Assistant:
		m, e := rd.readAssistant(content)
		return append(to, m), e
	}

	text, e := rd.readSystem(content)
	if text == "" {
		return to, e // only changes of tools
	}
	return append(to, prompt.Message{Role: prompt.System, Content: text}), e
}

// readUser appends a user's message: the results of tools as messages of their own, in the order of
// the blocks.
func (rd *reader) readUser(to []prompt.Message, v wire.Value) ([]prompt.Message, *fault.Error) {
	blocks, e := rd.blocks(v)
	if e != nil {
		return nil, e
	}

	before := len(to)
	body := content{reader: rd}
	flush := func() {
		to = append(to, prompt.Message{Role: prompt.User, Content: body.text(), Images: body.images})
		body = content{reader: rd}
	}
	for _, b := range blocks {
		if b.kind != "tool_result" {
			if e := body.add(b); e != nil {
				return nil, e
			}
			continue
		}

		if !body.empty() {
			flush()
		}
		result, e := rd.readResult(b)
		if e != nil {
			return nil, e
		}
		to = append(to, result)
	}

	if !body.empty() || len(to) == before {
		flush()
	}
	return to, nil
}

// readResult reads the result of a tool. That it is an error is in its text, or nowhere: templates
// have no place for it.
func (rd *reader) readResult(b block) (m prompt.Message, e *fault.Error) {
	m.Role = prompt.ToolRole
	b.known(rd, "tool_use_id", "content", "is_error", "toolset_name")
	if m.CallID, e = b.RequiredText(b.fields, "tool_use_id"); e != nil {
		return m, e
	}
	if field, ok := b.fields["is_error"]; ok {
		if e := wire.IsBool(field); e != nil {
			return m, e
		}
	}

	inner, ok := b.fields["content"]
	if !ok {
		return m, nil
	}
	body, e := rd.readContent(inner)
	m.Content = body.text()
	m.Images = body.images
	return m, e
}

// readAssistant reads an assistant's message: reasoning, text and calls.
func (rd *reader) readAssistant(v wire.Value) (m prompt.Message, e *fault.Error) {
	m.Role = prompt.Assistant
	blocks, e := rd.blocks(v)
	if e != nil {
		return m, e
	}

	var reasoning paragraphs
	body := content{reader: rd, textOnly: true}
	for _, b := range blocks {
		switch b.kind {
		case "thinking":
			b.known(rd, "thinking", "signature")
			text, e := b.RequiredText(b.fields, "thinking")
			if e != nil {
				return m, e
			}
			signature, e := wire.OptionalText(b.fields, "signature")
			if e != nil {
				return m, e
			}
			reasoning.add(thoughts(text, signature))
		case "redacted_thinking":
			// Nobody but Anthropic can read it.
		case "tool_use":
			call, e := rd.readCall(b)
			if e != nil {
				return m, e
			}
			m.Calls = append(m.Calls, call)
		default:
			if e := body.add(b); e != nil {
				return m, e
			}
		}
	}

	m.Reasoning = reasoning.String()
	m.Content = body.text()
	return m, nil
}

// readCall reads a call that the assistant has made.
func (rd *reader) readCall(b block) (c prompt.ToolCall, e *fault.Error) {
	b.known(rd, "id", "name", "input", "caller", "toolset_name")
	if c.ID, e = b.RequiredText(b.fields, "id"); e != nil {
		return c, e
	}
	if c.Name, e = b.RequiredText(b.fields, "name"); e != nil {
		return c, e
	}

	c.Arguments = "{}"
	if input, ok := b.fields["input"]; ok {
		c.Arguments = string(input.Raw)
		return c, wire.IsObject(input)
	}
	return c, nil
}

// billing is what Claude Code begins its system text with: a line with five characters that change
// with every request.
var billing = regexp.MustCompile(`^(x-anthropic-billing-header:[^\n]*?\bcch=)[^;\s]*`)

// readSystem reads a system text: a string, or blocks. What changes in it with every request and
// means nothing is replaced, or no prompt would begin like the one before, and nothing of it could
// be reused.
func (rd *reader) readSystem(v wire.Value) (string, *fault.Error) {
	blocks, e := rd.blocks(v)
	if e != nil {
		return "", e
	}

	body := content{reader: rd, textOnly: true, plain: func(text string) string {
		return billing.ReplaceAllString(text, "${1}00000")
	}}
	for _, b := range blocks {
		if e := body.add(b); e != nil {
			return "", e
		}
	}
	return body.text(), nil
}

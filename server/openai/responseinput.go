package openai

import (
	"encoding/json"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

// readInput returns the items of the input. A string becomes a single item.
func readInput(v wire.Value) ([]wire.Value, *fault.Error) {
	if v.Raw[0] == '"' {
		if _, e := v.Text(); e != nil {
			return nil, e
		}
		raw, err := json.Marshal(map[string]any{"type": "message", "role": "user", "content": v.Raw})
		if err != nil {
			return nil, service.Fault(err, v.Name)
		}
		return []wire.Value{{Name: v.Name, Raw: raw}}, nil
	}

	items, e := v.Array(maxMessages)
	if e == nil && len(items) == 0 {
		e = v.Empty()
	}
	return items, e
}

// readItems converts items to a conversation.
func readItems(items []wire.Value) (messages []prompt.Message, e *fault.Error) {
	for _, item := range items {
		if messages, e = addItem(messages, item); e != nil {
			return nil, e
		}
	}
	return messages, nil
}

// addItem adds an item to the conversation. Consecutive reasoning, text and calls of an assistant
// become one message.
func addItem(messages []prompt.Message, v wire.Value) ([]prompt.Message, *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return nil, e
	}

	kind := "message"
	if t, ok := object["type"]; ok {
		if kind, e = t.Text(); e != nil {
			return nil, e
		}
	}

	switch kind {
	case "message":
		m, e := readItemMessage(v, object)
		if e != nil {
			return nil, e
		}
		return addMessage(messages, m), nil
	case "reasoning":
		text, e := readReasoningItem(object)
		if text != "" {
			messages = openAssistant(messages)
			messages[len(messages)-1].Reasoning += text
		}
		return messages, e
	case "function_call":
		call, e := readItemCall(v, object)
		messages = openAssistant(messages)
		last := &messages[len(messages)-1]
		last.Calls = append(last.Calls, call)
		return messages, e
	case "function_call_output":
		m, e := readOutput(v, object)
		return append(messages, m), e
	}

	return nil, fault.New(fault.Unsupported, v.Name+".type", "Items of the type '%s' are not supported.", kind)
}

// openAssistant makes sure that the last message is an assistant's.
func openAssistant(messages []prompt.Message) []prompt.Message {
	if n := len(messages); n == 0 || messages[n-1].Role != prompt.Assistant {
		return append(messages, prompt.Message{Role: prompt.Assistant})
	}
	return messages
}

// addMessage adds a message. An assistant's text is merged into a message with only reasoning.
func addMessage(messages []prompt.Message, m prompt.Message) []prompt.Message {
	if n := len(messages); n > 0 && m.Role == prompt.Assistant {
		last := &messages[n-1]
		if last.Role == prompt.Assistant && last.Content == "" && last.Calls == nil {
			last.Content = m.Content
			return messages
		}
	}
	return append(messages, m)
}

func readItemMessage(v wire.Value, object map[string]wire.Value) (m prompt.Message, e *fault.Error) {
	field, e := v.Required(object, "role")
	if e != nil {
		return m, e
	}
	role, e := field.OneOf("developer", "system", "user", "assistant")
	if e != nil {
		return m, e
	}
	m.Role = prompt.Role(role)

	content, e := v.Required(object, "content")
	if e != nil {
		return m, e
	}
	parts := outputParts
	if m.Role != prompt.Assistant {
		parts = inputParts
	}
	e = readContent(&m, content, parts)
	return m, e
}

// The types of content parts in the Responses API.
var (
	outputParts = partTypes{text: map[string]string{
		"input_text":     "text",
		"output_text":    "text",
		"text":           "text",
		"summary_text":   "text",
		"reasoning_text": "text",
		"refusal":        "refusal",
	}}
	inputParts = partTypes{text: outputParts.text, image: "input_image"}
)

func readReasoningItem(object map[string]wire.Value) (string, *fault.Error) {
	for _, name := range []string{"content", "summary"} {
		if list, ok := object[name]; ok {
			var m prompt.Message
			if e := readContent(&m, list, outputParts); e != nil || m.Content != "" {
				return m.Content, e
			}
		}
	}
	return "", nil // encrypted, by another server
}

func readItemCall(v wire.Value, object map[string]wire.Value) (prompt.Call, *fault.Error) {
	id, e := v.RequiredText(object, "call_id")
	if e != nil {
		return prompt.Call{}, e
	}
	call, e := readCall(v)
	call.ID = id
	return call, e
}

func readOutput(v wire.Value, object map[string]wire.Value) (m prompt.Message, e *fault.Error) {
	m.Role = prompt.ToolRole
	if m.CallID, e = v.RequiredText(object, "call_id"); e != nil {
		return m, e
	}
	output, e := v.Required(object, "output")
	if e != nil {
		return m, e
	}
	e = readContent(&m, output, inputParts)
	return m, e
}

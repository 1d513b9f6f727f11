package openai

import (
	"encoding/json"
	"slices"
	"strings"

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

	return v.Array(maxMessages)
}

// The types of items that are read.
const (
	typeMessage      = "message"
	typeReasoning    = "reasoning"
	typeFunctionCall = "function_call"
	typeOutput       = "function_call_output"
	typeCustomCall   = "custom_tool_call"
	typeCustomOutput = "custom_tool_call_output"
	typeSearchCall   = "tool_search_call"
	typeSearchOutput = "tool_search_output"
	typeCompaction   = "compaction"
	typeTrigger      = "compaction_trigger"
)

// itemReader converts items to a conversation.
type itemReader struct {
	messages []prompt.Message
	found    []wire.Value // lists of tools that a search has found
	skipped  []string     // types of items that the model does not see

	thoughts   strings.Builder // the reasoning of the message that is begun
	thoughtsOf int             // the number of messages with it
}

// converse makes the conversation of items. A trigger at the end is a request for a summary of them.
func (r *responsesRequest) converse(items []wire.Value) *fault.Error {
	var reader itemReader
	r.triggered = len(items) > 0 && kindOf(items[len(items)-1]).Type == typeTrigger
	if r.triggered {
		items = items[:len(items)-1]
	}
	for _, item := range items {
		if e := reader.add(item); e != nil {
			return e
		}
	}
	r.all = items
	r.messages = reader.messages
	r.found = reader.found
	r.unread = reader.skipped
	return nil
}

// add adds an item to the conversation. Consecutive reasoning, text and calls of an assistant become one
// message.
func (r *itemReader) add(v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}

	kind := typeMessage
	if t, ok := object["type"]; ok {
		if kind, e = t.Text(); e != nil {
			return e
		}
	} else if _, ok := referenceOf(v); ok {
		kind = typeReference
	}

	switch kind {
	case typeMessage:
		m, e := readItemMessage(v, object)
		if e != nil {
			return e
		}
		r.messages = addMessage(r.messages, m)
		return nil
	case typeReasoning:
		text, e := readReasoningItem(object)
		if text != "" {
			r.think(text)
		}
		return e
	case typeReference:
		return nil // what is in its place is read later
	}
	return r.addOther(v, object, kind)
}

// think adds to the reasoning of the assistant's last message.
func (r *itemReader) think(text string) {
	r.messages = openAssistant(r.messages)
	last := &r.messages[len(r.messages)-1]
	if r.thoughtsOf != len(r.messages) {
		r.thoughtsOf = len(r.messages)
		r.thoughts = strings.Builder{}
		r.thoughts.WriteString(last.Reasoning)
	}
	r.thoughts.WriteString(text)
	last.Reasoning = r.thoughts.String()
}

// addOther adds a call, a result or something that only OpenAI makes.
func (r *itemReader) addOther(v wire.Value, object map[string]wire.Value, kind string) *fault.Error {
	switch kind {
	case typeFunctionCall:
		return r.addCall(v, object, readCall)
	case typeCustomCall:
		return r.addCall(v, object, readCustomCall)
	case typeSearchCall:
		return r.addCall(v, object, readSearchCall)
	case typeOutput, typeCustomOutput:
		m, e := readOutput(v, object)
		r.messages = append(r.messages, m)
		return e
	case typeSearchOutput:
		return r.addFound(v, object)
	case typeCompaction, "compaction_summary":
		if told, e := r.addCompaction(v, object); told || e != nil {
			return e
		}
	default:
		if told, e := r.addHosted(v, object, kind); told || e != nil {
			return e
		}
	}

	if !slices.Contains(r.skipped, kind) {
		r.skipped = append(r.skipped, kind)
	}
	return nil
}

// addCall adds a call to the assistant's last message.
func (r *itemReader) addCall(
	v wire.Value, object map[string]wire.Value, read func(wire.Value) (prompt.ToolCall, *fault.Error),
) *fault.Error {
	id, e := v.RequiredText(object, "call_id")
	if e != nil {
		return e
	}
	call, e := read(v)
	if e != nil {
		return e
	}
	call.ID = id
	r.call(call)
	return nil
}

func (r *itemReader) call(call prompt.ToolCall) {
	r.messages = openAssistant(r.messages)
	last := &r.messages[len(r.messages)-1]
	last.Calls = append(last.Calls, call)
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
	sealed, e := wire.OptionalText(object, "encrypted_content")
	if e != nil {
		return "", e
	}
	if text, ok := unseal(sealed); ok {
		return text, nil
	}

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

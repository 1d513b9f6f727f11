package openai

import (
	"strings"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

// Limits on a conversation.
const (
	maxMessages = 16384
	maxParts    = 4096
)

// readMessages reads the conversation.
func readMessages(v wire.Value) ([]prompt.Message, *fault.Error) {
	list, e := v.Array(maxMessages)
	if e != nil {
		return nil, e
	}
	if len(list) == 0 {
		return nil, v.Empty()
	}

	messages := make([]prompt.Message, len(list))
	for i, item := range list {
		if messages[i], e = readMessage(item); e != nil {
			return nil, e
		}
	}
	return messages, nil
}

var messageFields = []string{
	"role", "content", "name", "refusal", "reasoning_content", "reasoning", "tool_calls", "tool_call_id",
	"audio", "function_call", "annotations",
}

// messagesSchema describes the conversation of a chat.
var messagesSchema = wire.ListOf(wire.Closed(map[string]wire.Schema{
	"role":              wire.Enum("developer", "system", "user", "assistant", "tool", roleFunction),
	"content":           wire.AnyOf(wire.String, wire.ListOf(partSchema, maxParts)),
	"name":              wire.String,
	"refusal":           wire.String,
	"reasoning_content": wire.String,
	"reasoning":         wire.String,
	"tool_calls":        wire.ListOf(wire.Open(nil, "id", "function"), maxParts),
	"tool_call_id":      wire.String,
	"function_call":     wire.Open(nil, "name"),
	"annotations":       {},
}, "role"), maxMessages).NonEmpty().Examples(`[{"role":"user","content":"Hello"}]`)

// partSchema describes a part of a message's content.
var partSchema = wire.Open(map[string]wire.Schema{"type": wire.String}, "type")

// roleFunction is the deprecated name of the role tool.
const roleFunction = "function"

func readMessage(v wire.Value) (m prompt.Message, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return m, e
	}
	if e := wire.Only(object, messageFields...); e != nil {
		return m, e
	}

	field, e := v.Required(object, "role")
	if e != nil {
		return m, e
	}

	role, e := field.OneOf("developer", "system", "user", "assistant", "tool", roleFunction)
	if e != nil {
		return m, e
	}

	m.Role = prompt.Role(role)
	if field, ok := object["audio"]; ok {
		return m, fault.New(fault.Unsupported, field.Name, "Unsupported parameter: '%s'.", field.Name)
	}

	if e := readMessageContent(&m, v, object); e != nil {
		return m, e
	}

	switch role {
	case "assistant":
		e = readAssistant(&m, object)
	case roleFunction:
		// Calls are identified by name.
		m.Role = prompt.ToolRole
		m.CallID, e = v.RequiredText(object, "name")
	case "tool":
		m.CallID, e = v.RequiredText(object, "tool_call_id")
	default:
		m.CallID, e = wire.OptionalText(object, "tool_call_id")
	}

	return m, e
}

// readMessageContent reads the content. It is optional only for assistants with a refusal or calls.
func readMessageContent(m *prompt.Message, v wire.Value, object map[string]wire.Value) (e *fault.Error) {
	if content, ok := object["content"]; ok {
		parts := textParts
		if m.Role == prompt.User {
			parts = chatParts
		}
		return readContent(m, content, parts)
	}

	assistant := m.Role == prompt.Assistant
	if _, ok := object["refusal"]; ok && assistant {
		m.Content, e = wire.OptionalText(object, "refusal")
		return e
	}
	_, called := object["tool_calls"]
	_, calledOnce := object["function_call"]
	if !assistant || !called && !calledOnce {
		_, e = v.Required(object, "content")
	}
	return e
}

// readAssistant reads the fields of an assistant's message: reasoning and calls, each by either of its
// names.
func readAssistant(m *prompt.Message, object map[string]wire.Value) (e *fault.Error) {
	for _, name := range []string{"reasoning", "reasoning_content"} {
		if field, ok := object[name]; ok {
			if m.Reasoning, e = field.Text(); e != nil {
				return e
			}
		}
	}

	if calls, ok := object["tool_calls"]; ok {
		if m.Calls, e = readCalls(calls); e != nil {
			return e
		}
	}

	if field, ok := object["function_call"]; ok {
		call, e := readCall(field)
		if e != nil {
			return e
		}
		call.ID = call.Name
		m.Calls = []prompt.Call{call}
	}

	m.CallID, e = wire.OptionalText(object, "tool_call_id")
	return e
}

// readContent reads a message's text and images: a string, or parts.
func readContent(m *prompt.Message, v wire.Value, parts partTypes) (e *fault.Error) {
	switch v.Raw[0] {
	case '[':
		m.Content, m.Images, e = readParts(v, parts)
		return e
	case '"':
		m.Content, e = v.Text()
		return e
	}
	return v.WrongType("a string or an array of content parts")
}

// partTypes are the allowed types of content parts: those with text, by the field that contains it,
// and the one for images, if any.
type partTypes struct {
	text  map[string]string
	image string
}

var (
	textParts = partTypes{text: map[string]string{"text": "text", "refusal": "refusal"}}
	chatParts = partTypes{text: textParts.text, image: "image_url"}
)

// readParts reads content parts. Consecutive texts become paragraphs. Images are replaced by their
// marks.
func readParts(v wire.Value, types partTypes) (string, []prompt.Image, *fault.Error) {
	parts, e := v.Array(maxParts)
	if e != nil {
		return "", nil, e
	}

	var text strings.Builder
	var images []prompt.Image
	afterText := false
	for _, part := range parts {
		paragraph, image, e := readPart(part, types)
		if e != nil {
			return "", nil, e
		}
		if image != nil {
			images = append(images, *image)
			text.WriteString(image.Mark)
			afterText = false
			continue
		}

		if afterText {
			text.WriteByte('\n')
		}
		text.WriteString(paragraph)
		afterText = true
	}

	return text.String(), images, nil
}

// readPart reads one part: a text, or an image.
func readPart(part wire.Value, types partTypes) (text string, image *prompt.Image, e *fault.Error) {
	object, e := part.Object()
	if e != nil {
		return "", nil, e
	}

	kind, e := part.Required(object, "type")
	if e != nil {
		return "", nil, e
	}

	name, e := kind.Text()
	if e != nil {
		return "", nil, e
	}

	if name == types.image && name != "" {
		image, e := readImage(part, object)
		return "", image, e
	}

	field, known := types.text[name]
	if !known {
		return "", nil, fault.New(fault.Unsupported, kind.Name, "Content of type '%s' is not supported here.", name)
	}

	text, e = part.RequiredText(object, field)
	return text, nil, e
}

// readImage reads an image as chat completions have it, {"image_url":{"url":…}}, and as
// responses do, {"image_url":…}.
func readImage(part wire.Value, object map[string]wire.Value) (*prompt.Image, *fault.Error) {
	if id, ok := object["file_id"]; ok {
		return nil, fault.New(fault.Unsupported, id.Name,
			"Unsupported parameter: '%s'. There are no files here; give the image as a data URL.", id.Name)
	}

	field, e := part.Required(object, "image_url")
	if e != nil {
		return nil, e
	}

	if field.Raw[0] == '{' {
		if object, e = field.Object(); e != nil {
			return nil, e
		}
		if e := wire.Only(object, "url", "detail"); e != nil {
			return nil, e
		}
		if field, e = field.Required(object, "url"); e != nil {
			return nil, e
		}
	}

	image := &prompt.Image{Field: field.Name, Mark: prompt.NewMark()}
	if image.URL, e = field.Text(); e != nil {
		return nil, e
	}

	if detail, ok := object["detail"]; ok {
		// The model chooses the detail itself, except for "low".
		level, e := detail.OneOf("auto", "low", "high", "original")
		image.LowDetail = level == "low"
		return image, e
	}

	return image, nil
}

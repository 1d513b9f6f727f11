package openai

import (
	"cmp"
	"maps"
	"slices"
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
	before := called{ids: map[string]bool{}, last: map[string]string{}}
	for i, item := range list {
		if messages[i], e = readMessage(item); e != nil {
			return nil, e
		}
		m := &messages[i]
		if m.Role == prompt.ToolRole {
			m.CallID = before.id(m.CallID)
		}
		for _, call := range m.Calls {
			before.ids[call.ID] = true
			before.last[call.Name] = call.ID
		}
	}
	return messages, nil
}

// called are the calls of a conversation so far.
type called struct {
	ids  map[string]bool
	last map[string]string // the ID of the last call of a function
}

// id returns the ID of the last call of a function, for a result that has the function's name in the place of an ID.
func (c *called) id(given string) string {
	if c.ids[given] {
		return given
	}
	return cmp.Or(c.last[given], given)
}

var messageFields = []string{
	"role", "content", "name", "refusal", "reasoning_content", "reasoning", "tool_calls", "tool_call_id",
	"audio", "function_call", "annotations",
}

// messagesSchema describes the conversation of a chat.
var messagesSchema = wire.ListOf(wire.Open(map[string]wire.Schema{
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
	wire.Others(object, messageFields...)

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
		field := "tool_call_id"
		if _, hasID := object[field]; !hasID && object["name"].Raw != nil {
			field = "name"
		}
		m.CallID, e = v.RequiredText(object, field)
	default:
		m.CallID, e = wire.OptionalText(object, "tool_call_id")
	}

	return m, e
}

// readMessageContent reads the content. It is optional only for assistants with a refusal or calls.
func readMessageContent(m *prompt.Message, v wire.Value, object map[string]wire.Value) (e *fault.Error) {
	if content, ok := object["content"]; ok {
		parts := textParts
		if m.Role == prompt.User || m.Role == prompt.ToolRole {
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
		m.Calls = []prompt.ToolCall{call}
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
// and the one for images, if any. With images there may be files of text.
type partTypes struct {
	text  map[string]string
	image string
}

// Clients send parts in the form of either API.
var (
	textParts = partTypes{text: map[string]string{
		"text":        "text",
		"input_text":  "text",
		"output_text": "text",
		"refusal":     "refusal",
	}}
	chatParts = partTypes{text: textParts.text, image: "image_url"}
)

// Fields of parts that have no effect, and are not news to anybody.
var partNotes = []string{"annotations", "logprobs"}

// names lists the types.
func (t partTypes) names() string {
	names := slices.Sorted(maps.Keys(t.text))
	if t.image != "" {
		names = append(names, t.image, "file")
	}
	return strings.Join(names, ", ")
}

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

	if types.image != "" {
		switch name {
		case "image_url", "input_image":
			image, e := readImage(part, object)
			return "", image, e
		case "file", "input_file":
			text, e := readFile(part, object)
			return text, nil, e
		}
	}

	field, known := types.text[name]
	if !known {
		return "", nil, fault.New(fault.Unsupported, kind.Name,
			"Content of type '%s' is not supported here; supported types: %s.", name, types.names())
	}

	wire.Others(object, slices.Concat(partNotes, []string{"type", field})...)
	text, e = part.RequiredText(object, field)
	return text, nil, e
}

// readImage reads an image as chat completions have it, {"image_url":{"url":…}}, and as
// responses do, {"image_url":…}.
func readImage(part wire.Value, object map[string]wire.Value) (*prompt.Image, *fault.Error) {
	if id, ok := object["file_id"]; ok {
		return nil, fault.New(fault.Unsupported, id.Name,
			"Unsupported parameter: '%s'. File uploads are not supported; send the image as a data URL.", id.Name)
	}

	field, e := part.Required(object, "image_url")
	if e != nil {
		return nil, e
	}
	wire.Others(object, "type", "image_url", "detail")

	if field.Raw[0] == '{' {
		if object, e = field.Object(); e != nil {
			return nil, e
		}
		wire.Others(object, "url", "detail")
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

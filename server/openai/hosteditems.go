package openai

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

// hostedCalls are the types of items with calls of tools that OpenAI hosts or defines, and the field
// that says what was asked. The model reads them as calls of functions.
var hostedCalls = map[string]string{
	"local_shell_call":      "action",
	"shell_call":            "action",
	"apply_patch_call":      "operation",
	"code_interpreter_call": "code",
	"mcp_call":              "arguments",
}

// hostedOutputs are the types of items with the results of such calls.
var hostedOutputs = map[string]bool{
	"local_shell_call_output": true,
	"shell_call_output":       true,
	"apply_patch_call_output": true,
}

// addHosted adds an item about a tool that OpenAI hosts or defines, as text. It returns false if that
// cannot be done.
func (r *itemReader) addHosted(v wire.Value, object map[string]wire.Value, kind string) (bool, *fault.Error) {
	if hostedOutputs[kind] {
		id, e := hostedID(v, object)
		r.messages = append(r.messages, prompt.Message{
			Role:    prompt.ToolRole,
			Content: plainText(object["output"]),
			CallID:  id,
		})
		return true, e
	}

	field, ok := hostedCalls[kind]
	if !ok {
		return false, nil
	}
	id, e := hostedID(v, object)
	if e != nil {
		return false, e
	}
	call := prompt.ToolCall{ID: id, Name: strings.TrimSuffix(kind, "_call")}
	if call.Arguments, e = hostedArguments(object, field); e != nil {
		return false, e
	}
	if kind != "mcp_call" && kind != "code_interpreter_call" {
		r.call(call)
		return true, nil
	}

	// Its result is in the same item.
	result := "output"
	if kind == "mcp_call" {
		server, e := wire.OptionalText(object, "server_label")
		if e != nil {
			return false, e
		}
		name, e := v.RequiredText(object, "name")
		if e != nil {
			return false, e
		}
		call.Name = qualified(server, name)
	} else {
		result = "outputs"
	}
	r.call(call)
	text := plainText(object[result])
	if text == "" {
		text = plainText(object["error"])
	}
	r.messages = append(r.messages, prompt.Message{Role: prompt.ToolRole, Content: text, CallID: id})
	return true, nil
}

// hostedID returns the id of a call. Some types have only that of the item.
func hostedID(v wire.Value, object map[string]wire.Value) (string, *fault.Error) {
	if _, ok := object["call_id"]; ok {
		return v.RequiredText(object, "call_id")
	}
	return v.RequiredText(object, "id")
}

// hostedArguments returns what was asked of a tool as the arguments of a function.
func hostedArguments(object map[string]wire.Value, field string) (string, *fault.Error) {
	asked, ok := object[field]
	if !ok {
		return "{}", nil
	}
	if asked.Raw[0] == '{' {
		return string(asked.Raw), nil
	}
	text, e := asked.Text()
	if e != nil {
		return "", e
	}
	if strings.HasPrefix(text, "{") && json.Valid([]byte(text)) {
		return text, nil
	}
	return string(wire.AppendString([]byte(`{"`+field+`":`), text)) + "}", nil
}

// plainText returns a string, or the JSON of anything else.
func plainText(v wire.Value) string {
	if wire.IsNull(v.Raw) {
		return ""
	}
	if text, e := v.Text(); e == nil {
		return text
	}
	var b bytes.Buffer
	if json.Compact(&b, v.Raw) != nil {
		return string(v.Raw)
	}
	return b.String()
}

// readSearchCall reads a search for tools. Its arguments are an object, or JSON in a string.
func readSearchCall(v wire.Value) (c prompt.ToolCall, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return c, e
	}
	c.Name = toolSearch
	c.Arguments, e = hostedArguments(object, "arguments")
	return c, e
}

// addFound adds the tools that a search has found. They are offered, and the model is told of them.
func (r *itemReader) addFound(v wire.Value, object map[string]wire.Value) *fault.Error {
	id, e := v.RequiredText(object, "call_id")
	if e != nil {
		return e
	}
	list, e := v.Required(object, "tools")
	if e != nil {
		return e
	}
	var found tools
	if e := found.readFlatTools(list); e != nil {
		return e
	}

	r.found = append(r.found, list)
	names := make([]string, len(found.list))
	for i := range found.list {
		names[i] = found.list[i].Name
	}
	text := "No tool was found."
	if len(names) > 0 {
		text = "These tools can be called now: " + strings.Join(names, ", ")
	}
	r.messages = append(r.messages, prompt.Message{Role: prompt.ToolRole, Content: text, CallID: id})
	return nil
}

// offerFound offers the tools of lists that searches have found, unless they are offered already.
func (t *tools) offerFound(lists []wire.Value) *fault.Error {
	for _, list := range lists {
		var found tools
		if e := found.readFlatTools(list); e != nil {
			return e
		}
		for _, tool := range found.list {
			if t.offers(tool.Name) {
				continue
			}
			if len(t.list) == prompt.MaxTools {
				return list.Invalid("too many tools (maximum %d).", prompt.MaxTools)
			}
			if o, ok := found.kinds.origins[tool.Name]; ok {
				t.kinds.set(tool.Name, o)
			}
			if e := t.add(tool, list); e != nil {
				return e
			}
		}
	}
	return nil
}

// sealPrefix marks texts that are sent back to us. They are not encrypted: their client is the one who
// may read them.
const sealPrefix = "serve1."

// seal writes a text as encrypted_content, for a client that keeps it and sends it back.
func seal(text string) string {
	return sealPrefix + base64.RawURLEncoding.EncodeToString([]byte(text))
}

// unseal returns the text of seal. It returns false for anything else, such as what other servers have
// encrypted.
func unseal(sealed string) (text string, ok bool) {
	encoded, ours := strings.CutPrefix(sealed, sealPrefix)
	if !ours {
		return "", false
	}
	b, err := base64.RawURLEncoding.DecodeString(encoded)
	return strings.ToValidUTF8(string(b), "\uFFFD"), err == nil
}

package openai

import (
	"encoding/json"
	"errors"
	"slices"

	"serve/fault"
	"serve/lark"
	"serve/prompt"
	"serve/server/wire"
)

// The types of tools. Any other is of a tool that OpenAI hosts, or is unknown: it is not offered to the
// model, and a header names it.
const (
	toolFunction  = "function"
	toolCustom    = "custom"      // takes a text rather than arguments
	toolNamespace = "namespace"   // a group of tools
	toolSearch    = "tool_search" // finds tools that have not been offered
	toolAllowed   = "allowed_tools"
)

// toolKinds are the tools that are not plain functions at the wire. The model knows functions only.
type toolKinds struct {
	origins map[string]origin // by the name that the model knows
	skipped []string          // types of tools that are not offered
	loose   []string          // formats of inputs that are not enforced
}

// origin says what a tool is at the wire.
type origin struct {
	kind      string
	namespace string
	name      string
}

// origin returns what the tool of a name is.
func (k *toolKinds) origin(name string) origin {
	if o, ok := k.origins[name]; ok {
		return o
	}
	return origin{kind: toolFunction, name: name}
}

func (k *toolKinds) set(name string, o origin) {
	if k.origins == nil {
		k.origins = map[string]origin{}
	}
	k.origins[name] = o
}

// skip notes a type of tools that are not offered, once.
func (k *toolKinds) skip(kind string) {
	if !slices.Contains(k.skipped, kind) {
		k.skipped = append(k.skipped, kind)
	}
}

// qualified returns the name that the model knows: "namespace.name".
func qualified(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "." + name
}

// readCalledName reads the name of a tool that is called or chosen, with its namespace if it has one.
func readCalledName(v wire.Value, object map[string]wire.Value) (string, *fault.Error) {
	name, e := v.RequiredText(object, "name")
	if e != nil {
		return "", e
	}
	namespace, e := wire.OptionalText(object, "namespace")
	return qualified(namespace, name), e
}

// readNestedTools reads tools as chat completions have them: {"type":"function","function":{…}}.
func (t *tools) readNestedTools(v wire.Value) *fault.Error {
	return t.readEach(v, func(item wire.Value, object map[string]wire.Value, kind string) *fault.Error {
		if kind != toolFunction && kind != toolCustom {
			t.kinds.skip(kind)
			return nil
		}
		wire.Others(object, "type", kind)
		inner, e := item.Required(object, kind)
		if e != nil {
			return e
		}
		if kind == toolCustom {
			return t.addCustom(inner, "", chatNames)
		}
		f, e := readFunction(inner, chatNames)
		if e != nil {
			return e
		}
		return t.add(f, inner)
	})
}

// readFlatTools reads tools as responses have them: {"type":"function","name":…}.
func (t *tools) readFlatTools(v wire.Value) *fault.Error { return t.readFlat(v, "") }

func (t *tools) readFlat(v wire.Value, namespace string) *fault.Error {
	return t.readEach(v, func(item wire.Value, object map[string]wire.Value, kind string) *fault.Error {
		switch kind {
		case toolFunction:
			return t.addFlat(item, namespace)
		case toolCustom:
			return t.addCustom(item, namespace, responseNames, "type", "defer_loading")
		case toolNamespace:
			if namespace == "" {
				return t.addNamespace(item, object)
			}
		case toolSearch:
			if ok, e := t.addSearch(item, object); ok || e != nil {
				return e
			}
		}
		t.kinds.skip(kind)
		return nil
	})
}

// readEach calls read for each tool of a list.
func (t *tools) readEach(
	v wire.Value, read func(item wire.Value, object map[string]wire.Value, kind string) *fault.Error,
) *fault.Error {
	items, e := v.Array(prompt.MaxTools)
	if e != nil {
		return e
	}

	for _, item := range items {
		object, e := item.Object()
		if e != nil {
			return e
		}
		kind, e := item.RequiredText(object, "type")
		if e != nil {
			return e
		}
		if e := read(item, object, kind); e != nil {
			return e
		}
		if len(t.list) > prompt.MaxTools {
			return v.Invalid("too many tools (maximum %d).", prompt.MaxTools)
		}
	}
	return nil
}

// add adds a tool to those that are offered.
func (t *tools) add(tool prompt.Tool, v wire.Value) *fault.Error {
	e := addTool(&tool, t.list, v)
	t.list = append(t.list, tool)
	return e
}

// addFlat adds a function. Whether it is to be found by a search does not matter: it is offered at once.
func (t *tools) addFlat(v wire.Value, namespace string) *fault.Error {
	f, e := readFunction(v, responseNames, "type", "defer_loading")
	if e != nil {
		return e
	}
	if namespace != "" {
		o := origin{kind: toolFunction, namespace: namespace, name: f.Name}
		f.Name = qualified(namespace, f.Name)
		t.kinds.set(f.Name, o)
	}
	return t.add(f, v)
}

// addNamespace adds the tools of a namespace. What is said of all of them, the first one says.
func (t *tools) addNamespace(v wire.Value, object map[string]wire.Value) *fault.Error {
	name, e := readToolName(v, object, responseNames)
	if e != nil {
		return e
	}
	about, e := wire.OptionalText(object, "description")
	if e != nil {
		return e
	}
	list, e := v.Required(object, "tools")
	if e != nil {
		return e
	}

	first := len(t.list)
	if e := t.readFlat(list, name); e != nil {
		return e
	}
	if about != "" && len(t.list) > first {
		tool := &t.list[first]
		tool.Description += "\n\n" + name + ": " + about
	}
	return nil
}

// addSearch adds the search for tools, if it is the client that searches.
func (t *tools) addSearch(v wire.Value, object map[string]wire.Value) (ok bool, e *fault.Error) {
	execution, e := wire.OptionalText(object, "execution")
	if execution != "client" || e != nil {
		return false, e
	}

	tool := prompt.Tool{
		Name:       toolSearch,
		Parameters: noParameters,
		Field:      v.Name + ".parameters",
	}
	if tool.Description, e = wire.OptionalText(object, "description"); e != nil {
		return false, e
	}
	if parameters, given := object["parameters"]; given {
		if e := wire.IsObject(parameters); e != nil {
			return false, e
		}
		tool.Parameters = parameters.Raw
	}
	t.kinds.set(tool.Name, origin{kind: toolSearch, name: tool.Name})
	return true, t.add(tool, v)
}

// addCustom adds a custom tool: a function of one text. The names of additional allowed fields may be
// given.
func (t *tools) addCustom(v wire.Value, namespace string, nameLimit int, also ...string) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	wire.Others(object, append(also, "name", "description", "format")...)

	name, e := readToolName(v, object, nameLimit)
	if e != nil {
		return e
	}
	tool := prompt.Tool{Name: qualified(namespace, name), Field: v.Name + ".format"}
	if tool.Description, e = wire.OptionalText(object, "description"); e != nil {
		return e
	}

	pattern := ""
	if format, ok := object["format"]; ok {
		if pattern, e = t.readFormat(format, &tool); e != nil {
			return e
		}
	}
	tool.Parameters = textParameters(pattern)
	t.kinds.set(tool.Name, origin{kind: toolCustom, namespace: namespace, name: name})
	return t.add(tool, v)
}

// textParameters is the schema of a custom tool's arguments. The pattern may be empty.
func textParameters(pattern string) json.RawMessage {
	b := []byte(`{"type":"object","properties":{"` + customInput + `":{"type":"string"`)
	if pattern != "" {
		b = wire.AppendString(append(b, `,"pattern":`...), pattern)
	}
	return append(b, `}},"required":["`+customInput+`"],"additionalProperties":false}`...)
}

// readFormat reads what the input of a custom tool must be, and returns a pattern for it. The model
// reads a grammar in the tool's description.
func (t *tools) readFormat(v wire.Value, tool *prompt.Tool) (pattern string, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return "", e
	}
	field, e := v.Required(object, "type")
	if e != nil {
		return "", e
	}
	kind, e := field.OneOf("text", "grammar")
	if e != nil || kind == "text" {
		return "", e
	}

	if inner, ok := object["grammar"]; ok { // as in chat completions
		v = inner
		if object, e = inner.Object(); e != nil {
			return "", e
		}
	}
	field, e = v.Required(object, "syntax")
	if e != nil {
		return "", e
	}
	syntax, e := field.OneOf("lark", "regex")
	if e != nil {
		return "", e
	}
	definition, e := v.RequiredText(object, "definition")
	if e != nil {
		return "", e
	}

	tool.Description += "\n\nThe input has this format (" + syntax + "):\n" + definition
	if syntax == "regex" {
		return "^(?:" + definition + ")$", nil
	}

	pattern, err := lark.Regexp(definition)
	var wrong lark.SyntaxError
	if errors.As(err, &wrong) {
		return "", fault.New(fault.InvalidValue, v.Name+".definition", "Invalid '%s.definition': %s.", v.Name, wrong)
	}
	if err != nil {
		t.kinds.loose = append(t.kinds.loose, v.Name+": "+err.Error())
	}
	return pattern, nil
}

package openai

import (
	"encoding/json"
	"regexp"
	"slices"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

// tools are the fields about tools.
type tools struct {
	list     []prompt.Tool
	parallel bool // allows several calls in one answer
	choice   toolChoice
	legacy   bool // requested by the deprecated fields functions and function_call
	kinds    toolKinds
}

// toolChoice is tool_choice. The zero value means auto if there are tools.
type toolChoice struct {
	field string // its name in errors
	mode  prompt.ToolChoice
	names []string // the allowed tools; nil for all
	named bool     // a single tool was named, which affects finish_reason
	// hosted is the type of a tool that OpenAI hosts, of which the choice is a call. Without the tool it
	// is no choice.
	hosted string
}

// The schemas of the fields about tools.
var (
	nameSchema = wire.Schema{"type": "string", "pattern": toolName.String(), "maxLength": chatNames}

	functionProperties = map[string]wire.Schema{
		"name":        nameSchema,
		"description": wire.String,
		"parameters":  wire.Object,
		"strict":      wire.Bool,
	}
	functionSchema = wire.Open(functionProperties, "name")

	toolsSchema = wire.ListOf(anyTool, prompt.MaxTools).Examples(`[{"type":"function","function":{"name":"f"}}]`,
		`[{"type":"custom","custom":{"name":"f"}}]`, `[{"type":"retrieval"}]`)

	// anyTool describes a tool. Those of a type that is not known are not offered to the model.
	anyTool = wire.Open(map[string]wire.Schema{"type": wire.String}, "type")

	toolChoiceSchema = wire.AnyOf(
		wire.Enum(string(prompt.ChoiceNone), string(prompt.ChoiceAuto), string(prompt.ChoiceRequired)),
		anyTool,
	).Examples(`"auto"`, `{"type":"function","function":{"name":"f"}}`, `{"type":"custom","custom":{"name":"f"}}`)

	functionCallSchema = wire.AnyOf(
		wire.Enum(string(prompt.ChoiceNone), string(prompt.ChoiceAuto)),
		wire.Open(map[string]wire.Schema{"name": wire.String}, "name"),
	).Examples(`"auto"`, `{"name":"f"}`)
)

var toolName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// Limits on the names of tools, in bytes.
const (
	chatNames     = 64
	responseNames = 128
)

// readToolName reads the name of a tool, which has at most so many bytes.
func readToolName(v wire.Value, object map[string]wire.Value, limit int) (string, *fault.Error) {
	field, e := v.Required(object, "name")
	if e != nil {
		return "", e
	}
	name, e := field.Text()
	if e != nil {
		return "", e
	}
	if len(name) > limit || !toolName.MatchString(name) {
		return "", field.Invalid("a function's name must have 1 to %d letters, digits, underscores and dashes.", limit)
	}
	return name, nil
}

// noParameters is the schema of a function without parameters.
var noParameters = json.RawMessage(`{"type":"object","properties":{}}`)

// offered returns the tools that the model may call.
func (t *tools) offered() prompt.Tools {
	return prompt.Tools{List: t.list, Choice: t.choice.mode, Parallel: t.parallel && !t.legacy}
}

// offers reports whether there is a tool of a name.
func (t *tools) offers(name string) bool {
	return slices.ContainsFunc(t.list, func(o prompt.Tool) bool { return o.Name == name })
}

// check resolves the choice to tools.
func (t *tools) check() *fault.Error {
	c := &t.choice
	if c.hosted != "" {
		t.kinds.skip(c.hosted)
	}
	if len(t.list) == 0 {
		if len(t.kinds.skipped) > 0 && !c.named {
			*c = toolChoice{} // among tools that are not offered
			return nil
		}
		if c.mode == prompt.ChoiceAuto || c.mode == prompt.ChoiceRequired || c.names != nil {
			return fault.New(fault.InvalidValue, c.field, "Invalid '%s': it requires 'tools'.", c.field)
		}
		return nil
	}

	if c.mode == "" {
		c.mode = prompt.ChoiceAuto
	}

	if c.names == nil {
		return nil
	}

	var allowed []prompt.Tool
	for _, name := range c.names {
		i := slices.IndexFunc(t.list, func(o prompt.Tool) bool { return o.Name == name })
		if i < 0 {
			return fault.New(fault.InvalidValue, c.field, "Invalid '%s': there is no tool '%s'.", c.field, name)
		}
		allowed = append(allowed, t.list[i])
	}

	t.list = allowed
	if len(allowed) == 0 {
		c.mode = prompt.ChoiceNone
	}

	return nil
}

// finish returns the finish_reason of an answer. With calls it is tool_calls, but stop if a single
// tool was named, and function_call for the deprecated fields.
func (t *tools) finish(f engine.Finish, called bool) engine.Finish {
	switch {
	case !called || f != engine.FinishStop || t.choice.named && !t.legacy:
		return f
	case t.legacy:
		return "function_call"
	}
	return "tool_calls"
}

// readFunctions reads the deprecated field functions.
func readFunctions(v wire.Value) ([]prompt.Tool, *fault.Error) {
	items, e := v.Array(prompt.MaxTools)
	if e != nil {
		return nil, e
	}
	list := make([]prompt.Tool, len(items))
	for i, item := range items {
		if list[i], e = readFunction(item, chatNames); e != nil {
			return nil, e
		}
		if e := addTool(&list[i], list[:i], item); e != nil {
			return nil, e
		}
	}
	return list, nil
}

// addTool checks that a tool's name differs from those before it, and compiles its schema.
func addTool(t *prompt.Tool, before []prompt.Tool, v wire.Value) *fault.Error {
	if slices.ContainsFunc(before, func(o prompt.Tool) bool { return o.Name == t.Name }) {
		return fault.New(fault.InvalidValue, v.Name+".name",
			"Invalid '%s.name': two functions are named '%s'.", v.Name, t.Name)
	}
	return t.Compile(len(before), v.Budget())
}

// readFunction reads a function, whose name has at most so many bytes. The names of additional allowed
// fields may be given. The function must be compiled.
func readFunction(v wire.Value, nameLimit int, also ...string) (t prompt.Tool, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return t, e
	}
	wire.Others(object, append(also, "name", "description", "parameters", "strict")...)

	if t.Name, e = readToolName(v, object, nameLimit); e != nil {
		return t, e
	}

	if t.Description, e = wire.OptionalText(object, "description"); e != nil {
		return t, e
	}

	if strict, ok := object["strict"]; ok {
		if t.Strict, e = strict.Bool(); e != nil {
			return t, e
		}
	}

	parameters, ok := object["parameters"]
	if !ok {
		parameters = wire.Value{Name: v.Name + ".parameters", Raw: noParameters}
	}

	if e := wire.IsObject(parameters); e != nil {
		return t, e
	}

	t.Parameters = parameters.Raw
	t.Field = parameters.Name
	return t, nil
}

func readNestedToolChoice(v wire.Value) (toolChoice, *fault.Error) { return readToolChoice(v, false) }

// readToolChoice reads tool_choice: a word, one function, or a list of allowed functions. In the
// Responses API they are flat, without a nested object.
func readToolChoice(v wire.Value, flat bool) (c toolChoice, e *fault.Error) {
	c.field = v.Name
	if v.Raw[0] == '"' {
		c.mode, e = readMode(v, prompt.ChoiceNone, prompt.ChoiceAuto, prompt.ChoiceRequired)
		return c, e
	}

	object, e := v.Object()
	if e != nil {
		return c, v.WrongType("a string or an object")
	}

	kind, e := v.Required(object, "type")
	if e != nil {
		return c, e
	}

	name, e := kind.Text()
	if e != nil {
		return c, e
	}

	switch name {
	case toolFunction, toolCustom:
		name, e := readChosen(v, object, name, flat)
		c.choose(name)
		return c, e
	case toolAllowed:
	default:
		c.hosted = name
		return c, nil
	}

	if !flat {
		if v, e = v.Required(object, "allowed_tools"); e != nil {
			return c, e
		}
		if object, e = v.Object(); e != nil {
			return c, e
		}
	}

	mode, e := v.Required(object, "mode")
	if e != nil {
		return c, e
	}
	if c.mode, e = readMode(mode, prompt.ChoiceAuto, prompt.ChoiceRequired); e != nil {
		return c, e
	}

	list, e := v.Required(object, "tools")
	if e != nil {
		return c, e
	}

	c.names, e = readAllowed(list, flat)
	return c, e
}

// choose requires a call of one tool.
func (c *toolChoice) choose(name string) {
	c.mode = prompt.ChoiceRequired
	c.named = true
	c.names = []string{name}
}

func readMode(v wire.Value, of ...prompt.ToolChoice) (prompt.ToolChoice, *fault.Error) {
	words := make([]string, len(of))
	for i, c := range of {
		words[i] = string(c)
	}
	word, e := v.OneOf(words...)
	return prompt.ToolChoice(word), e
}

// readChosen reads the name of {"function":{"name":...}} or {"custom":{"name":...}}, or of {"name":...}.
// It returns the name that the model knows.
func readChosen(v wire.Value, object map[string]wire.Value, kind string, flat bool) (string, *fault.Error) {
	if !flat {
		inner, e := v.Required(object, kind)
		if e != nil {
			return "", e
		}
		if object, e = inner.Object(); e != nil {
			return "", e
		}
		v = inner
	}
	return readCalledName(v, object)
}

// readAllowed reads the tools of a choice. Those of other types than these are not offered anyway.
func readAllowed(v wire.Value, flat bool) ([]string, *fault.Error) {
	items, e := v.Array(prompt.MaxTools)
	if e != nil {
		return nil, e
	}

	names := []string{}
	for _, item := range items {
		object, e := item.Object()
		if e != nil {
			return nil, e
		}
		kind := toolFunction
		if field, ok := object["type"]; ok {
			if kind, e = field.Text(); e != nil {
				return nil, e
			}
		}
		if kind != toolFunction && kind != toolCustom {
			continue
		}
		name, e := readChosen(item, object, kind, flat)
		if e != nil {
			return nil, e
		}
		names = append(names, name)
	}
	return names, nil
}

// readFunctionCall reads the deprecated field function_call.
func readFunctionCall(v wire.Value) (c toolChoice, e *fault.Error) {
	c.field = v.Name
	if v.Raw[0] == '"' {
		c.mode, e = readMode(v, prompt.ChoiceNone, prompt.ChoiceAuto)
		return c, e
	}
	object, e := v.Object()
	if e != nil {
		return c, v.WrongType("a string or an object")
	}
	name, e := v.RequiredText(object, "name")
	if e != nil {
		return c, e
	}
	c.choose(name)
	return c, nil
}

// readCalls reads the calls of an assistant's message.
func readCalls(v wire.Value) ([]prompt.ToolCall, *fault.Error) {
	items, e := v.Array(maxParts)
	if e != nil {
		return nil, e
	}

	var calls []prompt.ToolCall
	for _, item := range items {
		object, e := item.Object()
		if e != nil {
			return nil, e
		}

		kind := toolFunction
		if field, ok := object["type"]; ok {
			if kind, e = field.OneOf(toolFunction, toolCustom); e != nil {
				return nil, e
			}
		}
		wire.Others(object, "id", "type", kind, "index")
		id, e := item.RequiredText(object, "id")
		if e != nil {
			return nil, e
		}

		inner, e := item.Required(object, kind)
		if e != nil {
			return nil, e
		}
		read := readNestedCall
		if kind == toolCustom {
			read = readCustomCall
		}
		call, e := read(inner)
		if e != nil {
			return nil, e
		}
		call.ID = id
		calls = append(calls, call)
	}

	return calls, nil
}

// readNestedCall is readCall for an object that contains nothing else.
func readNestedCall(v wire.Value) (c prompt.ToolCall, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return c, e
	}
	wire.Others(object, "name", "arguments")
	return readCall(v)
}

// readCall reads {"name":...,"arguments":...}; arguments is a string. It should be JSON, but may be whatever a model
// has written, as an answer that was cut.
func readCall(v wire.Value) (c prompt.ToolCall, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return c, e
	}
	if c.Name, e = readCalledName(v, object); e != nil {
		return c, e
	}

	arguments, ok := object["arguments"]
	if !ok {
		c.Arguments = "{}"
		return c, nil
	}

	if arguments.Raw[0] == '{' {
		c.Arguments = string(arguments.Raw) // some clients send an object
		return c, nil
	}

	c.Arguments, e = arguments.Text()
	return c, e
}

package anthropic

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/steps"
)

// tools are the fields about tools.
type tools struct {
	list     []prompt.Tool
	choice   prompt.ToolChoice
	named    string // the only tool that may be called; empty for all
	parallel bool   // allows several calls in one answer
}

var toolName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)

// offered returns the tools that the model may call.
func (t *tools) offered() prompt.Tools {
	return prompt.Tools{List: t.list, Choice: t.choice, Parallel: t.parallel}
}

// check resolves the choice to tools.
func (t *tools) check() *fault.Error {
	const field = "tool_choice"
	if len(t.list) == 0 {
		if t.choice == prompt.ChoiceRequired {
			return fault.New(fault.InvalidValue, field, "Invalid '%s': it requires 'tools'.", field)
		}
		t.choice = ""
		return nil
	}
	if t.choice == "" {
		t.choice = prompt.ChoiceAuto
	}
	if t.named == "" {
		return nil
	}

	i := slices.IndexFunc(t.list, func(o prompt.Tool) bool { return o.Name == t.named })
	if i < 0 {
		return fault.New(fault.InvalidValue, field+".name",
			"Invalid '%s.name': there is no tool '%s'.", field, t.named)
	}
	t.list = t.list[i : i+1]
	return nil
}

// choices are the types of tool_choice.
var choices = map[string]prompt.ToolChoice{
	"auto": prompt.ChoiceAuto,
	"any":  prompt.ChoiceRequired,
	"tool": prompt.ChoiceRequired,
	"none": prompt.ChoiceNone,
}

func setToolChoice(r *request, v wire.Value) *fault.Error {
	object, e := r.object(v, "type", "name", "disable_parallel_tool_use")
	if e != nil {
		return e
	}
	field, e := v.Required(object, "type")
	if e != nil {
		return e
	}
	kind, e := field.OneOf("auto", "any", "tool", "none")
	if e != nil {
		return e
	}

	t := &r.tools
	t.choice = choices[kind]
	if kind == "tool" {
		if t.named, e = v.RequiredText(object, "name"); e != nil {
			return e
		}
	}
	if field, ok := object["disable_parallel_tool_use"]; ok {
		one, e := field.Bool()
		t.parallel = !one
		return e
	}
	return nil
}

// readTools reads the field tools, without compiling their schemas.
func (rd *reader) readTools(v wire.Value) ([]prompt.Tool, *fault.Error) {
	items, e := v.Array(prompt.MaxTools)
	if e != nil {
		return nil, e
	}
	list := make([]prompt.Tool, len(items))
	for i, item := range items {
		if list[i], e = rd.readTool(item); e != nil {
			return nil, e
		}
		if slices.ContainsFunc(list[:i], func(o prompt.Tool) bool { return o.Name == list[i].Name }) {
			return nil, item.Invalid("two tools are named '%s'.", list[i].Name)
		}
	}
	return list, nil
}

// toolFields are known in tools. Those that are not read say how Anthropic's servers handle a tool.
var toolFields = []string{
	"type", "name", "description", "input_schema", "strict", "input_examples",
	"allowed_callers", "defer_loading", "eager_input_streaming", "max_characters",
}

// readTool reads a tool, without compiling its schema.
func (rd *reader) readTool(v wire.Value) (t prompt.Tool, e *fault.Error) {
	object, e := rd.object(v, toolFields...)
	if e != nil {
		return t, e
	}

	name, e := v.Required(object, "name")
	if e != nil {
		return t, e
	}
	if t.Name, e = name.Text(); e != nil {
		return t, e
	}
	if !toolName.MatchString(t.Name) {
		return t, name.Invalid("a tool's name must have 1 to 128 letters, digits, underscores and dashes.")
	}

	if field, ok := object["strict"]; ok {
		if t.Strict, e = field.Bool(); e != nil {
			return t, e
		}
	}

	t.Field = v.Name + ".input_schema"
	kind, e := wire.OptionalText(object, "type")
	if e != nil {
		return t, e
	}
	if kind != "" && kind != "custom" {
		return t, readClientTool(&t, object["type"], kind)
	}
	return t, readCustomTool(&t, v, object)
}

// readCustomTool reads what a tool of the client's own says of itself.
func readCustomTool(t *prompt.Tool, v wire.Value, object map[string]wire.Value) (e *fault.Error) {
	if t.Description, e = wire.OptionalText(object, "description"); e != nil {
		return e
	}
	if field, ok := object["input_examples"]; ok {
		if e := wire.IsArray(field); e != nil {
			return e
		}
		t.Description = strings.TrimLeft(t.Description+"\n\nExamples of input: "+string(field.Raw), "\n")
	}

	schema, e := v.Required(object, "input_schema")
	if e != nil {
		return e
	}
	t.Parameters = schema.Raw
	return wire.IsObject(schema)
}

// changeTools notes a tool that is offered from here on, or not any more. The next answer is given
// with those that are offered at the end.
func (c *content) changeTools(b block) *fault.Error {
	b.known(c.reader, "tool")
	v, e := b.Required(b.fields, "tool")
	if e != nil {
		return e
	}
	object, e := v.Object()
	if e != nil {
		return e
	}

	if definition, ok := object["definition"]; ok && b.kind == "tool_addition" {
		tool, e := c.readTool(definition)
		c.changes = append(c.changes, toolChange{tool: tool})
		return e
	}
	if _, elsewhere := object["server_name"]; elsewhere {
		c.ignore(b.Name)
		return nil
	}
	name, e := v.RequiredText(object, "name")
	if e == nil && b.kind == "tool_removal" {
		c.changes = append(c.changes, toolChange{tool: prompt.Tool{Name: name}, removed: true})
	}
	return e // a tool that is declared is offered anyway
}

// change applies the changes of a conversation to its tools, and compiles their schemas.
func (t *tools) change(changes []toolChange, budget *steps.Budget) *fault.Error {
	for _, c := range changes {
		t.list = slices.DeleteFunc(t.list, func(o prompt.Tool) bool { return o.Name == c.tool.Name })
		if !c.removed {
			t.list = append(t.list, c.tool)
		}
		if len(t.list) > prompt.MaxTools {
			return fault.New(fault.InvalidValue, "messages", "Invalid 'messages': too many tools (maximum %d).", prompt.MaxTools)
		}
	}
	for i := range t.list {
		if e := t.list[i].Compile(i, budget); e != nil {
			return e
		}
	}
	return nil
}

// clientTool is a tool that clients run and that Anthropic's models know.
type clientTool struct {
	prefix      string // of the type, before its date
	description string
	schema      string
}

var clientTools = []clientTool{
	{
		prefix: "bash_",
		description: "Runs a command in a shell whose state persists between calls. " +
			"With restart, the shell is restarted.",
		schema: `{"type":"object","properties":{
			"command":{"type":"string"},
			"restart":{"type":"boolean"}}}`,
	},
	{
		prefix: "text_editor_",
		description: "Views and edits text files. view shows a file, or lists a folder; create writes a file; " +
			"str_replace replaces old_str, which must occur exactly once, with new_str; " +
			"insert adds insert_text after line insert_line.",
		schema: `{"type":"object","properties":{
			"command":{"type":"string","enum":["view","create","str_replace","insert"]},
			"path":{"type":"string"},
			"file_text":{"type":"string"},
			"old_str":{"type":"string"},
			"new_str":{"type":"string"},
			"insert_line":{"type":"integer"},
			"insert_text":{"type":"string"},
			"view_range":{"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":2}},
			"required":["command","path"]}`,
	},
	{
		prefix: "memory_",
		description: "Keeps notes as files below /memories between conversations. view shows a file or lists a folder; " +
			"create writes a file; str_replace replaces old_str with new_str; insert adds insert_text after line " +
			"insert_line; delete removes path; rename moves old_path to new_path.",
		schema: `{"type":"object","properties":{
			"command":{"type":"string","enum":["view","create","str_replace","insert","delete","rename"]},
			"path":{"type":"string"},
			"file_text":{"type":"string"},
			"old_str":{"type":"string"},
			"new_str":{"type":"string"},
			"insert_line":{"type":"integer"},
			"insert_text":{"type":"string"},
			"view_range":{"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":2},
			"old_path":{"type":"string"},
			"new_path":{"type":"string"}},
			"required":["command"]}`,
	},
}

// readClientTool describes a tool whose type says what it is. Tools that Anthropic's servers run are
// refused.
func readClientTool(t *prompt.Tool, field wire.Value, kind string) *fault.Error {
	for i := range clientTools {
		if c := &clientTools[i]; strings.HasPrefix(kind, c.prefix) {
			t.Description = c.description
			t.Parameters = json.RawMessage(c.schema)
			return nil
		}
	}
	return fault.New(fault.Unsupported, field.Name,
		"Tools of the type '%s' are not supported: the server runs no tools. Define one with an 'input_schema'.",
		kind)
}

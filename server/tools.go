package server

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	"serve/engine"
	"serve/fault"
	"serve/schema"
	"serve/server/wire"
)

// tools are what a request lets the model call, and how.
type tools struct {
	list     []tool
	parallel bool // more than one call in an answer
	choice   toolChoice
	legacy   bool // asked for as functions: answered as one function_call
}

// tool is one function, in the shape that templates read.
type tool struct {
	Type     string       `json:"type"`
	Function toolFunction `json:"function"`

	grammar *schema.Grammar // of the arguments
	strict  bool
	field   string
}

type toolFunction struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters"`
}

// toolChoice is tool_choice. The zero value is what OpenAI does without one:
// auto where there are tools.
type toolChoice struct {
	field string   // as errors name it
	mode  string   // "", none, auto or required
	names []string // the only tools that may be called; nil for all
	named bool     // one tool was named: its call is no finish_reason of its own
}

// Limits on tools.
const (
	maxTools = 1024
)

var toolName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// noParameters is the schema of a function without any.
var noParameters = json.RawMessage(`{"type":"object","properties":{}}`)

// readTools reads the field tools.
func readTools(v wire.Value) ([]tool, *fault.Error) {
	items, e := v.Array(maxTools)
	if e != nil {
		return nil, e
	}
	list := make([]tool, len(items))
	for i, item := range items {
		object, e := item.Object()
		if e != nil {
			return nil, e
		}
		kind, e := item.Required(object, "type")
		if e != nil {
			return nil, e
		}
		name, e := kind.Text()
		if e != nil {
			return nil, e
		}
		if name != "function" {
			return nil, fault.New(fault.Unsupported, kind.Name, "Tools of the type '%s' are not supported; 'function' is.", name)
		}
		function, e := item.Required(object, "function")
		if e != nil {
			return nil, e
		}
		if list[i], e = readFunction(function, list[:i]); e != nil {
			return nil, e
		}
	}
	return list, nil
}

// readFunctions reads the deprecated field functions.
func readFunctions(v wire.Value) ([]tool, *fault.Error) {
	items, e := v.Array(maxTools)
	if e != nil {
		return nil, e
	}
	list := make([]tool, len(items))
	for i, item := range items {
		if list[i], e = readFunction(item, list[:i]); e != nil {
			return nil, e
		}
	}
	return list, nil
}

// readFunction reads a function; flat ones have the tool's type among their fields.
func readFunction(v wire.Value, before []tool, also ...string) (t tool, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return t, e
	}
	if e := wire.Only(object, append(also, "name", "description", "parameters", "strict")...); e != nil {
		return t, e
	}
	name, e := v.Required(object, "name")
	if e != nil {
		return t, e
	}
	t = tool{Type: "function", Function: toolFunction{Parameters: noParameters}}
	if t.Function.Name, e = name.Text(); e != nil {
		return t, e
	}
	if !toolName.MatchString(t.Function.Name) {
		return t, name.Invalid("a function's name has 1 to 64 letters, digits, underscores and dashes.")
	}
	if slices.ContainsFunc(before, func(o tool) bool { return o.Function.Name == t.Function.Name }) {
		return t, name.Invalid("two functions are called '%s'.", t.Function.Name)
	}
	if description, ok := object["description"]; ok {
		if t.Function.Description, e = description.Text(); e != nil {
			return t, e
		}
	}
	if strict, ok := object["strict"]; ok {
		if t.strict, e = strict.Bool(); e != nil {
			return t, e
		}
	}
	parameters, ok := object["parameters"]
	if !ok {
		parameters = wire.Value{Name: v.Name + ".parameters", Raw: noParameters}
	}
	if _, e := parameters.Object(); e != nil {
		return t, e
	}
	t.Function.Parameters, t.field = parameters.Raw, parameters.Name
	t.grammar, e = compileSchema(parameters, fmt.Sprintf("arguments-%d-", len(before)), t.strict)
	return t, e
}

// readToolChoice reads tool_choice: a word, one function, or a list of allowed
// ones. The Responses API has them flat, without an object in the object.
func readToolChoice(v wire.Value, flat bool) (c toolChoice, e *fault.Error) {
	c.field = v.Name
	if v.Raw[0] == '"' {
		c.mode, e = v.OneOf("none", "auto", "required")
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
	name, e := kind.OneOf("function", "allowed_tools")
	if e != nil {
		return c, e
	}
	if name == "function" {
		c.mode, c.named, c.names = "required", true, make([]string, 1)
		c.names[0], e = readChosen(v, object, flat)
		return c, e
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
	if c.mode, e = mode.OneOf("auto", "required"); e != nil {
		return c, e
	}
	list, e := v.Required(object, "tools")
	if e != nil {
		return c, e
	}
	c.names, e = readAllowed(list, flat)
	return c, e
}

// readChosen reads the name of {"function":{"name":...}}, or of {"name":...}.
func readChosen(v wire.Value, object map[string]wire.Value, flat bool) (string, *fault.Error) {
	if !flat {
		function, e := v.Required(object, "function")
		if e != nil {
			return "", e
		}
		if object, e = function.Object(); e != nil {
			return "", e
		}
		v = function
	}
	name, e := v.Required(object, "name")
	if e != nil {
		return "", e
	}
	return name.Text()
}

func readAllowed(v wire.Value, flat bool) ([]string, *fault.Error) {
	items, e := v.Array(maxTools)
	if e != nil {
		return nil, e
	}
	names := []string{}
	for _, item := range items {
		object, e := item.Object()
		if e != nil {
			return nil, e
		}
		name, e := readChosen(item, object, flat)
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
		c.mode, e = v.OneOf("none", "auto")
		return c, e
	}
	object, e := v.Object()
	if e != nil {
		return c, v.WrongType("a string or an object")
	}
	name, e := v.Required(object, "name")
	if e != nil {
		return c, e
	}
	c.mode, c.named, c.names = "required", true, make([]string, 1)
	c.names[0], e = name.Text()
	return c, e
}

// check resolves the choice against the tools.
func (t *tools) check() *fault.Error {
	c := &t.choice
	if len(t.list) == 0 {
		if c.mode == "required" || c.names != nil {
			return fault.New(fault.InvalidValue, c.field, "Invalid '%s': it needs 'tools'.", c.field)
		}
		return nil
	}
	if c.mode == "" {
		c.mode = "auto"
	}
	if c.names == nil {
		return nil
	}
	var allowed []tool
	for _, name := range c.names {
		i := slices.IndexFunc(t.list, func(o tool) bool { return o.Function.Name == name })
		if i < 0 {
			return fault.New(fault.InvalidValue, c.field, "Invalid '%s': there is no tool '%s'.", c.field, name)
		}
		allowed = append(allowed, t.list[i])
	}
	if t.list = allowed; len(allowed) == 0 {
		c.mode = "none"
	}
	return nil
}

// offered says whether the model may call anything.
func (t *tools) offered() bool { return len(t.list) > 0 }

// render puts the tools into a chat.
func (t *tools) render(chat *engine.Chat) error {
	if !t.offered() {
		return nil
	}
	text, err := json.Marshal(t.list)
	chat.Tools, chat.ToolChoice, chat.ParallelToolCalls = text, t.choice.mode, t.parallel && !t.legacy
	return err
}

// put puts the tools' own schemas into the grammar of a rendered chat.
func (t *tools) put(g *engine.Grammar) error {
	if g.Text == "" {
		return nil
	}
	if !g.Lazy {
		// A call must come: it comes first, and no talk before it.
		g.Text = untilCall.ReplaceAllString(g.Text, "$1$2")
	}
	if !t.parallel || t.legacy {
		g.Text = manyCalls.ReplaceAllString(g.Text, "tool-calls ::= tool-call space")
	}
	for i := range t.list {
		tool := &t.list[i]
		if !putSchema(g, argumentsRule(tool.Function.Name), tool.grammar) && tool.strict {
			return fault.New(fault.Unsupported, tool.field, "The model's format of tool calls cannot enforce the schema in '%s': leave 'strict' out.", tool.field)
		}
	}
	return nil
}

// wait lets a model that marks its calls by nothing but their JSON, as Llama 3.1 does,
// say what it likes until it writes the name of a tool: from there the grammar of a call
// that must come holds.
func (t *tools) wait(g *engine.Grammar, required engine.Grammar) {
	begin := untilCall.FindStringSubmatch(required.Text)
	if begin == nil {
		return
	}
	*g = engine.Grammar{Text: untilCall.ReplaceAllString(required.Text, "root ::="+begin[2]), Lazy: true, FromChat: true}
	for i := range t.list {
		name := `"` + t.list[i].Function.Name + `"`
		for _, before := range []string{`{"name": `, `{"name":`, `{ "name": `, `{"type": "function", "name": `} {
			g.Triggers = append(g.Triggers, engine.Trigger{Kind: engine.TriggerWord, Value: before + name})
		}
	}
}

// verify validates the arguments of a call, if its tool is strict.
func (t *tools) verify(call *functionCall) error {
	for i := range t.list {
		tool := &t.list[i]
		if tool.Function.Name != call.Name || !tool.strict {
			continue
		}
		if err := tool.grammar.Validate([]byte(call.Arguments)); err != nil {
			return schemaViolation("arguments", tool.field, err)
		}
	}
	return nil
}

// finish is why an answer with calls ended: OpenAI says stop where one tool was
// named, and function_call where functions were asked for.
func (t *tools) finish(f engine.Finish, called bool) engine.Finish {
	switch {
	case !called || f != engine.FinishStop || t.choice.named && !t.legacy:
		return f
	case t.legacy:
		return "function_call"
	}
	return "tool_calls"
}

// toolCall is a call in a whole answer.
type toolCall struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function functionCall `json:"function"`
}

type functionCall struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// callID names a call whose format has no id of its own.
func callID(id string) string {
	if id == "" {
		return "call_" + randomID()
	}
	return id
}

// readCalls checks the calls of an assistant's earlier message.
func readCalls(v wire.Value) (json.RawMessage, *fault.Error) {
	items, e := v.Array(maxParts)
	if e != nil {
		return nil, e
	}
	calls := make([]toolCall, len(items))
	for i, item := range items {
		object, e := item.Object()
		if e != nil {
			return nil, e
		}
		if kind, ok := object["type"]; ok {
			if _, e := kind.OneOf("function"); e != nil {
				return nil, e
			}
		}
		id, e := item.Required(object, "id")
		if e != nil {
			return nil, e
		}
		calls[i].Type = "function"
		if calls[i].ID, e = id.Text(); e != nil {
			return nil, e
		}
		function, e := item.Required(object, "function")
		if e != nil {
			return nil, e
		}
		if calls[i].Function, e = readCall(function); e != nil {
			return nil, e
		}
	}
	return marshalCalls(calls)
}

func marshalCalls(calls []toolCall) (json.RawMessage, *fault.Error) {
	if len(calls) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(calls)
	if err != nil {
		return nil, toFault(err, "")
	}
	return text, nil
}

// readCall reads {"name":...,"arguments":...}; arguments is JSON in a string.
func readCall(v wire.Value) (c functionCall, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return c, e
	}
	name, e := v.Required(object, "name")
	if e != nil {
		return c, e
	}
	if c.Name, e = name.Text(); e != nil {
		return c, e
	}
	arguments, ok := object["arguments"]
	if !ok {
		c.Arguments = "{}"
		return c, nil
	}
	if arguments.Raw[0] == '{' {
		c.Arguments = string(arguments.Raw) // some clients send the object itself
		return c, nil
	}
	if c.Arguments, e = arguments.Text(); e != nil {
		return c, e
	}
	if c.Arguments == "" {
		c.Arguments = "{}"
	}
	if !json.Valid([]byte(c.Arguments)) {
		return c, arguments.Invalid("it is not JSON.")
	}
	return c, nil
}

package ollama

import (
	"fmt"
	"slices"
	"strings"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

// readMessages reads a conversation. Fields that messages do not have are ignored, as by Ollama.
func readMessages(v wire.Value) ([]prompt.Message, *fault.Error) {
	list, e := v.Array(maxMessages)
	if e != nil {
		return nil, e
	}

	var results callIDs
	messages := make([]prompt.Message, len(list))
	for i, item := range list {
		object, e := item.Object()
		if e != nil {
			return nil, e
		}
		m, e := readMessage(item, object)
		if e != nil {
			return nil, e
		}
		if e := results.set(&m, object); e != nil {
			return nil, e
		}
		messages[i] = m
	}
	return messages, nil
}

var roles = []prompt.Role{prompt.System, prompt.User, prompt.Assistant, prompt.ToolRole}

// readMessage reads one message, without the identity of its calls or of the call that it answers.
func readMessage(v wire.Value, object map[string]wire.Value) (m prompt.Message, e *fault.Error) {
	field, e := v.Required(object, "role")
	if e != nil {
		return m, e
	}
	role, e := field.Text()
	if e != nil {
		return m, e
	}
	m.Role = prompt.Role(strings.ToLower(role))
	if !slices.Contains(roles, m.Role) {
		return m, fault.New(fault.InvalidValue, field.Name,
			"invalid role: %s, must be one of [system, user, assistant, tool]", field.Raw)
	}

	if m.Content, e = optional(object, "content"); e != nil {
		return m, e
	}
	if m.Reasoning, e = optional(object, "thinking"); e != nil {
		return m, e
	}
	if images, ok := object["images"]; ok {
		if m.Images, e = readImages(images); e != nil {
			return m, e
		}
		m.Content = marks(m.Images) + m.Content
	}
	if calls, ok := object["tool_calls"]; ok {
		m.Calls, e = readCalls(calls)
	}
	return m, e
}

// optional reads a string that may be missing.
func optional(object map[string]wire.Value, name string) (string, *fault.Error) {
	field, ok := object[name]
	if !ok {
		return "", nil
	}
	return field.Text()
}

// readCalls reads the calls of an assistant. Their arguments are objects here.
func readCalls(v wire.Value) ([]prompt.ToolCall, *fault.Error) {
	list, e := v.Array(maxCalls)
	if e != nil {
		return nil, e
	}

	calls := make([]prompt.ToolCall, len(list))
	for i, item := range list {
		object, e := item.Object()
		if e != nil {
			return nil, e
		}
		if calls[i].ID, e = optional(object, "id"); e != nil {
			return nil, e
		}
		function, e := item.Required(object, "function")
		if e != nil {
			return nil, e
		}
		inner, e := function.Object()
		if e != nil {
			return nil, e
		}
		if calls[i].Name, e = optional(inner, "name"); e != nil {
			return nil, e
		}
		calls[i].Arguments = "{}"
		if arguments, ok := inner["arguments"]; ok {
			if _, e := arguments.Object(); e != nil {
				return nil, e
			}
			calls[i].Arguments = compact(arguments.Raw)
		}
	}
	return calls, nil
}

// callIDs gives the calls of a conversation ids where they have none, and finds the calls that results
// belong to: by their id, or by their name and order.
type callIDs struct {
	calls  []prompt.ToolCall
	ended  []bool           // calls with a result
	byID   map[string][]int // calls that may have none yet, in order; likewise
	byName map[string][]int
	first  int // all calls before it have a result
}

func (c *callIDs) set(m *prompt.Message, object map[string]wire.Value) (e *fault.Error) {
	for i := range m.Calls {
		c.add(&m.Calls[i])
	}
	if m.Role != prompt.ToolRole {
		return nil
	}

	id, e := optional(object, "tool_call_id")
	if e != nil {
		return e
	}
	name, e := optional(object, "tool_name")
	if e != nil {
		return e
	}
	switch at := c.take(id, name); {
	case at >= 0:
		m.CallID = c.calls[at].ID
	case id != "":
		m.CallID = id
	default:
		m.CallID = name // of a call that was cut from the conversation
	}
	return nil
}

// add adds a call, which gets an ID.
func (c *callIDs) add(call *prompt.ToolCall) {
	if c.byID == nil {
		c.byID = map[string][]int{}
		c.byName = map[string][]int{}
	}
	at := len(c.calls)
	if call.ID == "" {
		call.ID = fmt.Sprintf("call_%08d", at+1)
	}
	c.calls = append(c.calls, *call)
	c.ended = append(c.ended, false)
	c.byID[call.ID] = append(c.byID[call.ID], at)
	c.byName[call.Name] = append(c.byName[call.Name], at)
}

// take returns the first call without a result that has an ID, or else a name, or else the first of all; -1 if there
// is none. The call has a result then.
func (c *callIDs) take(id, name string) int {
	at := -1
	next := func(of map[string][]int, key string) {
		list := of[key]
		for len(list) > 0 && c.ended[list[0]] {
			list = list[1:]
		}
		if of[key] = list; len(list) > 0 {
			at = list[0]
		}
	}

	switch {
	case len(c.calls) == 0:
	case id != "":
		next(c.byID, id)
	case name != "":
		next(c.byName, name)
	default:
		for c.first < len(c.calls) && c.ended[c.first] {
			c.first++
		}
		if c.first < len(c.calls) {
			at = c.first
		}
	}
	if at >= 0 {
		c.ended[at] = true
	}
	return at
}

// readTools reads the tools, which have OpenAI's form.
func readTools(v wire.Value) ([]prompt.Tool, *fault.Error) {
	list, e := v.Array(prompt.MaxTools)
	if e != nil {
		return nil, e
	}

	tools := make([]prompt.Tool, len(list))
	for i, item := range list {
		object, e := item.Object()
		if e != nil {
			return nil, e
		}
		function, e := item.Required(object, "function")
		if e != nil {
			return nil, e
		}
		if tools[i], e = readTool(function); e != nil {
			return nil, e
		}
		same := func(o prompt.Tool) bool { return o.Name == tools[i].Name }
		if slices.ContainsFunc(tools[:i], same) {
			return nil, function.Invalid("two tools are named '%s'.", tools[i].Name)
		}
		if e := tools[i].Compile(i, v.Budget()); e != nil {
			return nil, e
		}
	}
	return tools, nil
}

// readTool reads one function.
func readTool(v wire.Value) (t prompt.Tool, e *fault.Error) {
	object, e := v.Object()
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
		return t, name.Invalid("a tool's name must have 1 to 128 letters, digits, underscores, dashes and dots.")
	}
	if t.Description, e = optional(object, "description"); e != nil {
		return t, e
	}

	t.Parameters = noParameters
	t.Field = v.Name + ".parameters"
	if parameters, ok := object["parameters"]; ok {
		if _, e := parameters.Object(); e != nil {
			return t, e
		}
		t.Parameters = parameters.Raw
		t.Field = parameters.Name
	}
	return t, nil
}

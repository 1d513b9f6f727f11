package anthropic

import (
	"context"
	"math"
	"slices"
	"strconv"

	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/wire"
)

// The types of context_management's edits.
const (
	clearTools    = "clear_tool_uses_20250919"
	clearThinking = "clear_thinking_20251015"
	compact       = "compact_20260112"
)

// Defaults of edits, the same as Anthropic's.
const (
	defaultTrigger = 100_000 // tokens
	defaultUses    = 3       // of tools, which stay
	defaultTurns   = 1       // whose thinking stays
)

// cleared stands in the place of a tool's result.
const cleared = "[The result of this earlier call was removed to shorten the conversation.]"

// edit removes something from a conversation.
type edit struct {
	kind string
	keep int // the last uses of tools, or turns with thinking, that stay

	// Of clear_tool_uses: what it removes, and when.
	byUses  bool // trigger counts uses of tools, not tokens
	trigger int  // more than this
	atLeast int  // tokens that must be removed, or nothing is
	exclude []string
	inputs  func(tool string) bool // of calls that are removed; nil for none
}

// maxEdits limits the edits of a request: there are three types.
const maxEdits = 3

// maxToolNames limits the lists of tools in an edit.
const maxToolNames = 1024

var (
	editsSchema = wire.Open(map[string]wire.Schema{
		"edits": wire.ListOf(wire.Open(map[string]wire.Schema{
			"type":              wire.Enum(clearTools, clearThinking, compact),
			"trigger":           amountSchema("input_tokens", "tool_uses"),
			"keep":              wire.AnyOf(wire.Enum(keepAll), amountSchema("tool_uses", "thinking_turns", keepAll)),
			"clear_at_least":    amountSchema("input_tokens"),
			"exclude_tools":     namesSchema,
			"clear_tool_inputs": wire.AnyOf(wire.Bool, namesSchema),
		}, "type"), maxEdits),
	}).Examples(`{"edits":[{"type":"`+clearTools+`"}]}`, `{"edits":[{"type":"`+clearThinking+`","keep":"all"}]}`)

	namesSchema = wire.ListOf(wire.String, maxToolNames)
)

// keepAll keeps the thinking of all turns.
const keepAll = "all"

func amountSchema(kinds ...string) wire.Schema {
	return wire.Open(map[string]wire.Schema{
		"type":  wire.Enum(kinds...),
		"value": wire.Integer(0, math.MaxInt32),
	}, "type")
}

// setEdits reads context_management.
func (r *request) setEdits(v wire.Value) *fault.Error {
	object, e := r.object(v, "edits")
	if e != nil {
		return e
	}
	r.managed = true
	field, ok := object["edits"]
	if !ok {
		return nil
	}
	list, e := field.Array(maxEdits)
	if e != nil {
		return e
	}
	for _, item := range list {
		if e := r.addEdit(item); e != nil {
			return e
		}
	}
	return nil
}

// addEdit reads an edit. One that has the model write a summary is left out, and named.
func (r *request) addEdit(v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	kind, e := v.Required(object, "type")
	if e != nil {
		return e
	}
	done := edit{trigger: defaultTrigger}
	if done.kind, e = kind.OneOf(clearTools, clearThinking, compact); e != nil {
		return e
	}

	switch done.kind {
	case compact:
		r.ignore(v.Name)
		return nil
	case clearThinking:
		r.only(object, "type", "keep")
		e = done.readTurns(r, object)
	default:
		r.only(object, "type", "keep", "trigger", "clear_at_least", "exclude_tools", "clear_tool_inputs")
		e = done.readUses(r, object)
	}
	r.edits = append(r.edits, done)
	return e
}

// readTurns reads the fields of clear_thinking.
func (d *edit) readTurns(r *request, object map[string]wire.Value) *fault.Error {
	d.keep = defaultTurns
	field, ok := object["keep"]
	if !ok {
		return nil
	}
	if field.Raw[0] == '"' {
		d.keep = math.MaxInt32
		_, e := field.OneOf(keepAll)
		return e
	}
	kind, n, e := r.amount(field, "thinking_turns", keepAll)
	d.keep = n
	if kind == keepAll {
		d.keep = math.MaxInt32
	}
	return e
}

// readUses reads the fields of clear_tool_uses.
func (d *edit) readUses(r *request, object map[string]wire.Value) (e *fault.Error) {
	d.keep = defaultUses
	if field, ok := object["keep"]; ok {
		if _, d.keep, e = r.amount(field, "tool_uses"); e != nil {
			return e
		}
	}
	if field, ok := object["trigger"]; ok {
		kind, n, e := r.amount(field, "input_tokens", "tool_uses")
		if e != nil {
			return e
		}
		d.byUses = kind == "tool_uses"
		d.trigger = n
	}
	if field, ok := object["clear_at_least"]; ok {
		if _, d.atLeast, e = r.amount(field, "input_tokens"); e != nil {
			return e
		}
	}
	if field, ok := object["exclude_tools"]; ok {
		if d.exclude, e = readNames(field); e != nil {
			return e
		}
	}

	field, ok := object["clear_tool_inputs"]
	switch {
	case !ok:
		return nil
	case field.Raw[0] == '[':
		names, e := readNames(field)
		d.inputs = func(tool string) bool { return slices.Contains(names, tool) }
		return e
	}
	all, e := field.Bool()
	d.inputs = func(string) bool { return all }
	return e
}

// amount reads {"type":…,"value":…}, where the value may only be left out for all.
func (r *request) amount(v wire.Value, kinds ...string) (kind string, n int, e *fault.Error) {
	object, e := r.object(v, "type", "value")
	if e != nil {
		return "", 0, e
	}
	field, e := v.Required(object, "type")
	if e != nil {
		return "", 0, e
	}
	if kind, e = field.OneOf(kinds...); e != nil || kind == keepAll {
		return kind, 0, e
	}
	value, e := v.Required(object, "value")
	if e != nil {
		return kind, 0, e
	}
	count, e := value.Integer(0, math.MaxInt32)
	return kind, int(count), e
}

func readNames(v wire.Value) ([]string, *fault.Error) {
	list, e := v.Array(maxToolNames)
	if e != nil {
		return nil, e
	}
	names := make([]string, len(list))
	for i, item := range list {
		if names[i], e = item.Text(); e != nil {
			return nil, e
		}
	}
	return names, nil
}

// applied is an edit that has removed something.
type applied struct {
	kind   string
	count  int // uses of tools, or turns with thinking
	tokens int
}

// appendEdits appends the edits that were applied.
func appendEdits(b []byte, list []applied) []byte {
	b = append(b, `{"applied_edits":[`...)
	for i, a := range list {
		if i > 0 {
			b = append(b, ',')
		}
		counted := `,"cleared_tool_uses":`
		if a.kind == clearThinking {
			counted = `,"cleared_thinking_turns":`
		}
		b = wire.AppendString(append(b, `{"type":`...), a.kind)
		b = strconv.AppendInt(append(b, counted...), int64(a.count), 10)
		b = strconv.AppendInt(append(b, `,"cleared_input_tokens":`...), int64(a.tokens), 10)
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

// manage applies the request's edits to its conversation. Tokens are those of its prompt, 0 if they have not been
// counted; so are those that it returns. Exact is as in service.Length.
func (api *API) manage(
	ctx context.Context, model *pool.Lease, req *request, tokens int, exact bool,
) (int, *fault.Error) {
	length := func() (int, *fault.Error) {
		return api.service.Length(ctx, model, req.conversation(), "messages", exact)
	}
	for i := range req.edits {
		d := &req.edits[i]
		messages, count := d.apply(req.messages)
		if count == 0 || d.byUses && uses(req.messages) <= d.trigger {
			continue
		}

		var e *fault.Error
		if tokens == 0 {
			if tokens, e = length(); e != nil {
				return 0, e
			}
		}
		if d.kind == clearTools && !d.byUses && tokens <= d.trigger {
			continue
		}

		before := req.messages
		req.messages = messages
		after, e := length()
		if e != nil {
			return 0, e
		}
		if tokens-after < d.atLeast { // or nothing is shorter than before
			req.messages = before
			continue
		}
		req.applied = append(req.applied, applied{d.kind, count, max(tokens-after, 0)})
		tokens = after
	}
	return tokens, nil
}

// apply returns the conversation without what an edit removes, and how many uses or turns that are.
func (d *edit) apply(messages []prompt.Message) ([]prompt.Message, int) {
	if d.kind == clearThinking {
		return d.withoutThinking(slices.Clone(messages))
	}
	return d.withoutUses(slices.Clone(messages))
}

// withoutThinking removes the thinking of all turns but the last ones that have some. A turn is all that the
// assistant says and does between two messages of the user's.
func (d *edit) withoutThinking(messages []prompt.Message) ([]prompt.Message, int) {
	turns := 0
	thought := false // in the turn at hand
	for i := len(messages) - 1; i >= 0; i-- {
		m := &messages[i]
		if m.Role == prompt.User {
			thought = false
		}
		if m.Reasoning == "" {
			continue
		}
		if !thought {
			thought = true
			turns++
		}
		if turns > d.keep {
			m.Reasoning = ""
		}
	}
	return messages, max(turns-d.keep, 0)
}

// uses counts the uses of tools.
func uses(messages []prompt.Message) (n int) {
	for i := range messages {
		n += len(messages[i].Calls)
	}
	return n
}

// withoutUses removes the results of all uses of tools but the last ones, and the inputs if the edit says so.
func (d *edit) withoutUses(messages []prompt.Message) ([]prompt.Message, int) {
	last := uses(messages) - d.keep
	at := 0
	excluded := map[string]bool{}
	for _, name := range d.exclude {
		excluded[name] = true
	}
	gone := map[string]bool{} // ids of calls whose results are removed
	for i := range messages {
		m := &messages[i]
		m.Calls = slices.Clone(m.Calls)
		for k := range m.Calls {
			c := &m.Calls[k]
			if at < last && !excluded[c.Name] {
				gone[c.ID] = true
				if d.inputs != nil && d.inputs(c.Name) {
					c.Arguments = "{}"
				}
			}
			at++
		}
	}

	count := 0
	for i := range messages {
		if m := &messages[i]; m.Role == prompt.ToolRole && gone[m.CallID] {
			m.Content = cleared
			m.Images = nil
			count++
		}
	}
	return messages, count
}

package anthropic

import (
	"math"
	"math/rand/v2"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/steps"
)

// request is the body of POST /v1/messages, and of POST /v1/messages/count_tokens.
type request struct {
	reader
	model     string
	maxTokens int
	sampling  engine.Sampling
	stops     []string
	stream    bool

	system   string
	messages []prompt.Message
	tools    tools
	format   prompt.Format
	thinking thinking
	effort   string

	managed bool      // context_management was given
	edits   []edit    // that it asks for
	applied []applied // to the messages
}

// thinking is the field of that name.
type thinking struct {
	disabled bool
	omitted  bool // the thinking is not shown
}

// newRequest returns the defaults. The seed is random: the API has no field for it.
func newRequest() *request {
	r := &request{sampling: engine.DefaultSampling(), tools: tools{parallel: true}}
	r.sampling.Seed = rand.Uint32N(math.MaxUint32)
	return r
}

// Limits on parameters.
const (
	maxStops     = 64
	maxStopBytes = 1024
)

// fields is the table of a request.
var fields = wire.Table[request]{
	{
		Name:     "model",
		Required: true,
		Type:     wire.StringOf(func(r *request) *string { return &r.model }),
		Doc:      "Name of the model; the answer carries the requested name.",
	},
	{
		Name:     "max_tokens",
		Required: true,
		Type:     wire.IntegerOf(1, math.MaxInt32, func(r *request) *int { return &r.maxTokens }),
		Doc:      "Maximum tokens in the answer.",
	},
	{
		Name:     "messages",
		Required: true,
		Type:     wire.Custom(messagesSchema, (*request).setMessages),
		Doc:      "The conversation. A final assistant message is continued.",
	},
	{
		Name: "system",
		Type: wire.Custom(systemSchema, (*request).setSystem),
		Doc:  "The system prompt: a string, or text blocks.",
	},
	{
		Name: "stop_sequences",
		Type: wire.Custom(wire.ListOf(wire.String, maxStops).Examples(`["a"]`), setStops),
		Doc:  "Stop sequences, at most 64; the answer says which one ended it.",
	},
	{
		Name: "stream",
		Type: wire.BoolOf(func(r *request) *bool { return &r.stream }),
		Doc:  "Whether the answer is streamed as it is generated, as server-sent events.",
	},
	{
		Name: "temperature",
		Type: wire.NumberOf(0, 1, func(r *request) *float32 { return &r.sampling.Temperature }),
		Doc:  "Sampling temperature, by default 1; `top_p` and `top_k` are off by default.",
	},
	{
		Name: "top_p",
		Type: wire.NumberOf(0, 1, func(r *request) *float32 { return &r.sampling.TopP }),
		Doc:  "Samples only from the most probable tokens whose combined probability reaches this.",
	},
	{
		Name: "top_k",
		Type: wire.IntegerOf(0, math.MaxInt32, func(r *request) *int32 { return &r.sampling.TopK }),
		Doc:  "Samples only from this many of the most probable tokens.",
	},
	{
		Name: "tools",
		Type: wire.Custom(toolsSchema, (*request).setTools),
		Doc:  "Functions that the model may call; see below.",
	},
	{
		Name: "tool_choice",
		Type: wire.Custom(toolChoiceSchema, setToolChoice),
		Doc:  "`auto`, `any`, `tool` and `none`, and `disable_parallel_tool_use`.",
	},
	{
		Name: "thinking",
		Type: wire.Custom(thinkingSchema, setThinking),
		Doc: "`disabled` turns reasoning off if the model's template can; other types leave it to the template. " +
			"`budget_tokens` is not enforced. `display: omitted` moves the reasoning into the signature.",
	},
	{
		Name: "output_config",
		Type: wire.Custom(outputConfigSchema, setOutputConfig),
		Doc:  "`effort` is passed to templates with an effort setting; `format` is enforced by a grammar.",
	},
	{
		Name: "output_format",
		Type: wire.Custom(formatSchema, (*request).setFormat),
		Doc:  "The former name of `output_config.format`.",
	},
	{
		Name: "container",
		Type: wire.Refuse[request]("Containers are not supported."),
	},
	{
		Name: "mcp_servers",
		Type: wire.Refuse[request]("The server connects to no other servers: no data leaves this machine.", "[]"),
	},
	{
		Name: "compaction",
		Type: wire.Refuse[request]("The server does not shorten conversations."),
	},
	{
		Name: "thread",
		Type: wire.Refuse[request]("Conversations are not stored: send all messages."),
	},
	{
		Name: "metadata",
		Type: wire.Ignore[request](wire.Object),
		Doc:  "Identifier of the client's user.",
	},
	{
		Name: "cache_control",
		Type: wire.Ignore[request](wire.Object),
		Doc:  "Ignored in all places: prefixes of prompts are cached automatically.",
	},
	{
		Name: "context_management",
		Type: wire.Custom(editsSchema, (*request).setEdits),
		Doc: "Removes old tool results (`clear_tool_uses_20250919`) and reasoning (`clear_thinking_20251015`) from " +
			"the prompt; the answer says what was removed. `compact_20260112` is ignored.",
	},
	{
		Name: "diagnostics",
		Type: wire.Ignore[request](wire.Object),
		Doc:  "Diagnostics of the prompt cache.",
	},
	{
		Name: "service_tier",
		Type: wire.Ignore[request](wire.Enum("auto", "standard_only")),
		Doc:  "Whether to use capacity reserved at Anthropic.",
	},
	{
		Name: "speed",
		Type: wire.Ignore[request](wire.String),
		Doc:  "Speed of inference at Anthropic.",
	},
	{
		Name: "inference_geo",
		Type: wire.Ignore[request](wire.String),
		Doc:  "Region of inference at Anthropic.",
	},
	{
		Name: "user_profile_id",
		Type: wire.Ignore[request](wire.String),
		Doc:  "Identifier of the client's user at Anthropic.",
	},
	{
		Name: "workspace_id",
		Type: wire.Ignore[request](wire.String),
		Doc:  "Identifier of the client's workspace at Anthropic.",
	},
	{
		Name: "betas",
		Type: wire.Ignore[request](wire.Array),
		Doc:  "Beta features of the API.",
	},
	{
		Name: "fallbacks",
		Type: wire.Ignore[request](wire.Any),
		Doc:  "Fallback models at Anthropic.",
	},
	{
		Name: "fallback_credit_token",
		Type: wire.Ignore[request](wire.Any),
		Doc:  "Billing option for fallback models.",
	},
	{
		Name: "billing_policy",
		Type: wire.Ignore[request](wire.Any),
		Doc:  "Billing option.",
	},
}

// countFields is the table of a request whose tokens are counted: it needs no limit.
var countFields = fields.Optional("max_tokens")

// The schemas of fields that have their own decoders. What is unknown in them is left out of the request.
var (
	blocksSchema = wire.AnyOf(
		wire.String,
		wire.Schema{"type": "array", "items": wire.Open(map[string]wire.Schema{"type": wire.String}, "type")},
	)

	messagesSchema = wire.Schema{"type": "array", "items": wire.Open(map[string]wire.Schema{
		"role":    wire.Enum("user", "assistant", "system"),
		"content": blocksSchema,
	}, "role", "content")}.NonEmpty().Examples(`[{"role":"user","content":"Hello"}]`)

	systemSchema = blocksSchema.Examples(`"Hello"`, `[{"type":"text","text":"Hello"}]`)

	toolsSchema = wire.Schema{
		"type":  "array",
		"items": wire.Open(map[string]wire.Schema{"name": wire.String}, "name"),
	}.Examples(`[{"name":"f","input_schema":{"type":"object"}}]`)

	toolChoiceSchema = wire.Open(map[string]wire.Schema{
		"type": wire.Enum("auto", "any", "tool", "none"),
	}, "type").Examples(`{"type":"any"}`)

	thinkingSchema = wire.Open(map[string]wire.Schema{
		"type":          wire.Enum("enabled", "disabled", "adaptive", "between_tools"),
		"budget_tokens": wire.Integer(1, math.MaxInt32),
		"display":       wire.Enum("summarized", "omitted"),
	}, "type").Examples(`{"type":"disabled"}`)

	outputConfigSchema = wire.Open(map[string]wire.Schema{
		"effort": wire.Enum("low", "medium", "high", "xhigh", "max"),
		"format": formatSchema,
	}).Examples(`{"effort":"low"}`)

	formatSchema = wire.Open(map[string]wire.Schema{
		"type":   wire.Enum("json_schema"),
		"schema": wire.Any,
		"name":   wire.Any,
	}, "type", "schema").Examples(`{"type":"json_schema","schema":{"type":"object"}}`)
)

func (r *request) setMessages(v wire.Value) (e *fault.Error) {
	r.messages, e = r.readMessages(v)
	return e
}

func (r *request) setSystem(v wire.Value) (e *fault.Error) {
	r.system, e = r.readSystem(v)
	return e
}

func (r *request) setTools(v wire.Value) (e *fault.Error) {
	r.tools.list, e = r.readTools(v)
	return e
}

func (r *request) setFormat(v wire.Value) (e *fault.Error) {
	r.format, e = r.readFormat(v)
	return e
}

func setStops(r *request, v wire.Value) *fault.Error {
	list, e := v.Array(maxStops)
	if e != nil {
		return e
	}
	for _, item := range list {
		s, e := item.Text()
		if e != nil {
			return e
		}
		if len(s) > maxStopBytes {
			return item.Invalid("the stop sequence is too long: %d bytes (maximum %d).", len(s), maxStopBytes)
		}
		r.stops = append(r.stops, s)
	}
	return nil
}

// setThinking reads thinking. Only the one that turns it off changes what a model does: the others
// leave it to the model's template. Budgets are not enforced.
func setThinking(r *request, v wire.Value) *fault.Error {
	object, e := r.object(v, "type", "budget_tokens", "display")
	if e != nil {
		return e
	}

	field, e := v.Required(object, "type")
	if e != nil {
		return e
	}
	kind, e := field.OneOf("enabled", "disabled", "adaptive", "between_tools")
	if e != nil {
		return e
	}
	r.thinking.disabled = kind == "disabled"

	if kind == "enabled" {
		budget, e := v.Required(object, "budget_tokens")
		if e != nil {
			return e
		}
		if _, e := budget.Integer(1, math.MaxInt32); e != nil {
			return e
		}
	}

	if field, ok := object["display"]; ok {
		display, e := field.OneOf("summarized", "omitted")
		r.thinking.omitted = display == "omitted"
		return e
	}
	return nil
}

func setOutputConfig(r *request, v wire.Value) *fault.Error {
	object, e := r.object(v, "effort", "format")
	if e != nil {
		return e
	}
	if field, ok := object["effort"]; ok {
		if r.effort, e = field.OneOf("low", "medium", "high", "xhigh", "max"); e != nil {
			return e
		}
	}
	if field, ok := object["format"]; ok {
		r.format, e = r.readFormat(field)
	}
	return e
}

// readFormat reads {"type":"json_schema","schema":…}.
func (rd *reader) readFormat(v wire.Value) (f prompt.Format, e *fault.Error) {
	object, e := rd.object(v, "type", "schema", "name")
	if e != nil {
		return f, e
	}
	kind, e := v.Required(object, "type")
	if e != nil {
		return f, e
	}
	if _, e := kind.OneOf("json_schema"); e != nil {
		return f, e
	}
	document, e := v.Required(object, "schema")
	if e != nil {
		return f, e
	}
	return prompt.SchemaFormat(document.Raw, prompt.FormatOptions{
		Field:       document.Name,
		SchemaField: document.Name,
		Budget:      v.Budget(),
	})
}

// check validates fields that depend on each other. The budget is the request's.
func (r *request) check(budget *steps.Budget) *fault.Error {
	if e := r.tools.change(r.changes, budget); e != nil {
		return e
	}
	return r.tools.check()
}

// conversation returns the conversation in its API-independent form.
func (r *request) conversation() *prompt.Conversation {
	c := &prompt.Conversation{
		Messages: r.messages,
		Tools:    r.tools.offered(),
		Format:   r.format,
		Effort:   r.effort,
	}
	if r.thinking.disabled {
		c.Effort = prompt.NoEffort
	}
	if r.system != "" {
		c.Messages = append([]prompt.Message{{Role: prompt.System, Content: r.system}}, r.messages...)
	}
	return c
}

// work returns the engine's request, without the prompt.
func (r *request) work() engine.Request {
	return engine.Request{
		Choices:   1,
		MaxTokens: r.maxTokens,
		Sampling:  r.sampling,
		Stop:      r.stops,
	}
}

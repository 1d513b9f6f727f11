package anthropic

import (
	"math"
	"math/rand/v2"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
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
var fields = wire.Fields[request]{
	"model": func(r *request, v wire.Value) (e *fault.Error) { r.model, e = v.Text(); return e },
	"max_tokens": func(r *request, v wire.Value) *fault.Error {
		n, e := v.Integer(1, math.MaxInt32)
		r.maxTokens = int(n)
		return e
	},
	"messages":       func(r *request, v wire.Value) (e *fault.Error) { r.messages, e = r.readMessages(v); return e },
	"system":         func(r *request, v wire.Value) (e *fault.Error) { r.system, e = r.readSystem(v); return e },
	"stop_sequences": setStops,
	"stream":         func(r *request, v wire.Value) (e *fault.Error) { r.stream, e = v.Bool(); return e },

	"temperature": float(func(r *request) *float32 { return &r.sampling.Temperature }),
	"top_p":       float(func(r *request) *float32 { return &r.sampling.TopP }),
	"top_k": func(r *request, v wire.Value) *fault.Error {
		n, e := v.Integer(0, math.MaxInt32)
		r.sampling.TopK = int32(n)
		return e
	},

	"tools":         func(r *request, v wire.Value) (e *fault.Error) { r.tools.list, e = r.readTools(v); return e },
	"tool_choice":   setToolChoice,
	"thinking":      setThinking,
	"output_config": setOutputConfig,
	"output_format": func(r *request, v wire.Value) (e *fault.Error) { r.format, e = r.readFormat(v); return e },

	"container":   wire.Refused[request]("There are no containers here."),
	"mcp_servers": wire.Refused[request]("The server calls no other servers: no data leaves this machine.", "[]"),
	"compaction":  wire.Refused[request]("The server does not shorten conversations."),
	"thread":      wire.Refused[request]("The server keeps no conversations: send all messages."),

	// Fields without an observable effect.
	"metadata":              wire.Accepted[request](wire.IsObject),
	"cache_control":         wire.Accepted[request](wire.IsObject),
	"context_management":    wire.Accepted[request](wire.IsObject),
	"diagnostics":           wire.Accepted[request](wire.IsObject),
	"service_tier":          wire.Accepted[request](isTier),
	"speed":                 wire.Accepted[request](wire.IsString),
	"inference_geo":         wire.Accepted[request](wire.IsString),
	"user_profile_id":       wire.Accepted[request](wire.IsString),
	"workspace_id":          wire.Accepted[request](wire.IsString),
	"betas":                 wire.Accepted[request](wire.IsArray),
	"fallbacks":             wire.Accepted[request](isAny),
	"fallback_credit_token": wire.Accepted[request](isAny),
	"billing_policy":        wire.Accepted[request](isAny),
}

func isTier(v wire.Value) *fault.Error { _, e := v.OneOf("auto", "standard_only"); return e }

func isAny(wire.Value) *fault.Error { return nil }

// float reads a number from 0 to 1.
func float(field func(*request) *float32) wire.Setter[request] {
	return func(r *request, v wire.Value) *fault.Error {
		f, e := v.Number(0, 1)
		*field(r) = float32(f)
		return e
	}
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
			return item.Invalid("a stop sequence of %d bytes, where %d are allowed.", len(s), maxStopBytes)
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
	return prompt.SchemaFormat(document.Raw, document.Name, document.Name, false)
}

// check validates fields that depend on each other.
func (r *request) check() *fault.Error {
	if e := r.tools.change(r.changes); e != nil {
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

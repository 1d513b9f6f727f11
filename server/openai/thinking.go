package openai

import (
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

// thinkingFields declares the fields by which other servers' clients turn reasoning on and off.
var thinkingFields = wire.Table[chatRequest]{
	{
		Name: "enable_thinking",
		Type: wire.BoolOf(func(r *chatRequest) *bool { return r.thinks() }),
		Doc:  "Whether the model reasons, if its template has a setting for it; `false` takes precedence over an effort.",
	},
	{
		Name: "think",
		Type: wire.Custom(wire.AnyOf(wire.Bool, wire.Enum(efforts...)).Examples("false"), (*chatRequest).setThink),
		Doc:  "Ollama's syntax: whether the model reasons, or an effort.",
	},
	{
		Name: "thinking",
		Type: wire.Custom(chatThinkingSchema, (*chatRequest).setThinking),
		Doc:  "Syntax of DeepSeek, Z.ai and others: whether the model reasons.",
	},
	{
		Name: "reasoning",
		Type: wire.Custom(chatReasoningSchema, (*chatRequest).setReasoning),
		Doc:  "OpenRouter's syntax: `effort`, `enabled`, and `exclude` to leave the reasoning out of the answer.",
	},
	{
		Name: "include_reasoning",
		Type: wire.Custom(wire.Bool, (*chatRequest).setIncludeReasoning),
		Doc:  "Whether the answer includes the reasoning (default).",
	},
	{
		Name: "reasoning_format",
		Type: wire.Refuse[chatRequest]("Reasoning is always in 'reasoning_content'.", `"auto"`, `"deepseek"`),
	},
	{
		Name: "reasoning_budget",
		Type: wire.Refuse[chatRequest]("The length of reasoning cannot be limited.", "-1"),
	},
}

// The schemas of the fields about reasoning.
var (
	chatThinkingSchema = wire.AnyOf(wire.Bool, wire.Open(map[string]wire.Schema{
		"type": wire.Enum(thinkingTypes...),
	}, "type")).Examples(`{"type":"disabled"}`)

	chatReasoningSchema = wire.Open(map[string]wire.Schema{
		"effort":  wire.Enum(chatEfforts...),
		"enabled": wire.Bool,
		"exclude": wire.Bool,
	}).Examples(`{"effort":"low"}`)
)

var thinkingTypes = []string{"enabled", "disabled", "adaptive", "auto"}

// otherEfforts are words of other servers, and what they are here.
var otherEfforts = map[string]string{
	"auto":  "",
	"ultra": "max",
}

// chatEfforts are the values of reasoning_effort in chats.
var chatEfforts = append([]string{"auto", "ultra"}, efforts...)

func (r *chatRequest) setChatEffort(effort string) {
	if own, other := otherEfforts[effort]; other {
		effort = own
	}
	r.setEffort(effort)
}

// thinks returns the variable that says whether the model reasons, which is nil until it is given.
func (r *chatRequest) thinks() *bool {
	if r.thinking == nil {
		r.thinking = new(bool)
	}
	return r.thinking
}

// setThinks has the model reason or not. Of several fields, one that says no is heeded.
func (r *chatRequest) setThinks(on bool) {
	before := r.thinking
	*r.thinks() = on && (before == nil || *before)
}

func (r *chatRequest) setThink(v wire.Value) *fault.Error {
	if v.Raw[0] == '"' {
		effort, e := v.OneOf(efforts...)
		r.setChatEffort(effort)
		return e
	}
	on, e := v.Bool()
	r.setThinks(on)
	return e
}

func (r *chatRequest) setThinking(v wire.Value) *fault.Error {
	if v.Raw[0] != '{' {
		on, e := v.Bool()
		r.setThinks(on)
		return e
	}

	object, e := v.Object()
	if e != nil {
		return e
	}
	wire.Others(object, "type")
	field, e := v.Required(object, "type")
	if e != nil {
		return e
	}
	kind, e := field.OneOf(thinkingTypes...)
	switch kind {
	case "enabled":
		r.setThinks(true)
	case "disabled":
		r.setThinks(false)
	}
	return e
}

func (r *chatRequest) setReasoning(v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	wire.Others(object, "effort", "enabled", "exclude")

	if field, ok := object["effort"]; ok {
		effort, e := field.OneOf(chatEfforts...)
		if e != nil {
			return e
		}
		r.setChatEffort(effort)
	}
	if field, ok := object["enabled"]; ok {
		on, e := field.Bool()
		if e != nil {
			return e
		}
		r.setThinks(on)
	}
	if field, ok := object["exclude"]; ok {
		r.hideReasoning, e = field.Bool()
	}
	return e
}

func (r *chatRequest) setIncludeReasoning(v wire.Value) *fault.Error {
	include, e := v.Bool()
	r.hideReasoning = !include
	return e
}

// applyThinking turns reasoning on or off, as was asked. Templates have two names for the argument; the
// first is llama.cpp's, too.
func (r *chatRequest) applyThinking() {
	switch {
	case r.thinking == nil:
	case !*r.thinking:
		r.effort = prompt.NoEffort
	case r.effort != prompt.NoEffort:
		for _, name := range []string{"enable_thinking", "thinking"} {
			if _, given := r.templateArgs[name]; !given {
				r.setTemplateArg(name, []byte("true"))
			}
		}
	}
}

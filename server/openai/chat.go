package openai

import (
	"encoding/json"
	"math"
	"net/http"

	"serve/fault"
	"serve/server/wire"
)

// chatRequest is the body of POST /v1/chat/completions.
type chatRequest struct {
	conversationRequest
	maxComplete int // max_completion_tokens, which overrides max_tokens
	hasTop      bool
	functions   tools // the deprecated form of tools
}

// maxArguments is the maximum number of chat_template_kwargs.
const maxArguments = 256

var chatFields = lift(func(r *chatRequest) *params { return &r.params }, wire.Fields[chatRequest]{
	"messages": func(r *chatRequest, v wire.Value) (e *fault.Error) { r.messages, e = readMessages(v); return e },
	"max_completion_tokens": func(r *chatRequest, v wire.Value) *fault.Error {
		n, e := v.Integer(1, math.MaxInt32)
		r.maxComplete = int(n)
		return e
	},
	"logprobs": func(r *chatRequest, v wire.Value) (e *fault.Error) { r.logprobs, e = v.Bool(); return e },
	"top_logprobs": func(r *chatRequest, v wire.Value) *fault.Error {
		n, e := v.Integer(0, 20)
		r.top = int(n)
		r.hasTop = true
		return e
	},
	"service_tier":         func(r *chatRequest, v wire.Value) *fault.Error { return r.setTier(v) },
	"reasoning_effort":     func(r *chatRequest, v wire.Value) *fault.Error { return r.setEffort(v) },
	"chat_template_kwargs": func(r *chatRequest, v wire.Value) *fault.Error { return r.setTemplateArgs(v) },
	"response_format": func(r *chatRequest, v wire.Value) (e *fault.Error) {
		r.format, e = readResponseFormat(v)
		return e
	},

	"tools": func(r *chatRequest, v wire.Value) (e *fault.Error) { r.tools.list, e = readTools(v); return e },
	"tool_choice": func(r *chatRequest, v wire.Value) (e *fault.Error) {
		r.tools.choice, e = readToolChoice(v, false)
		return e
	},
	"parallel_tool_calls": func(r *chatRequest, v wire.Value) *fault.Error { return r.setParallel(v) },
	"functions": func(r *chatRequest, v wire.Value) (e *fault.Error) {
		r.functions.list, e = readFunctions(v)
		return e
	},
	"function_call": func(r *chatRequest, v wire.Value) (e *fault.Error) {
		r.functions.choice, e = readFunctionCall(v)
		return e
	},
	"audio":      wire.Refused[chatRequest]("There is no audio output."),
	"modalities": wire.Refused[chatRequest]("There is only text output.", `["text"]`),
	"web_search_options": wire.Refused[chatRequest](
		"The server never searches the web: no data leaves this machine."),

	// Fields without an observable effect.
	"store":                  wire.Accepted[chatRequest](wire.IsBool),
	"metadata":               wire.Accepted[chatRequest](wire.IsObject),
	"safety_identifier":      wire.Accepted[chatRequest](wire.IsString),
	"verbosity":              wire.Accepted[chatRequest](wire.IsString),
	"prediction":             wire.Accepted[chatRequest](wire.IsObject),
	"prompt_cache_key":       wire.Accepted[chatRequest](wire.IsString),
	"prompt_cache_retention": wire.Accepted[chatRequest](wire.IsString),
	"prompt_cache_options":   wire.Accepted[chatRequest](wire.IsObject),
	"moderation":             wire.Accepted[chatRequest](wire.IsObject),
})

func (r *chatRequest) setTemplateArgs(v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	if len(object) > maxArguments {
		return v.Invalid("%d arguments, where %d are allowed.", len(object), maxArguments)
	}

	for name, arg := range object {
		if r.templateArgs == nil {
			r.templateArgs = map[string]json.RawMessage{}
		}
		r.templateArgs[name] = arg.Raw
	}
	return nil
}

// check validates fields that depend on each other.
func (r *chatRequest) check() *fault.Error {
	if r.hasTop && !r.logprobs {
		return fault.New(fault.InvalidValue, "top_logprobs",
			"The 'top_logprobs' parameter needs 'logprobs' to be true.")
	}
	if r.maxComplete > 0 {
		r.maxTokens = r.maxComplete
	}

	if len(r.functions.list) > 0 || r.functions.choice.field != "" {
		if len(r.tools.list) > 0 {
			return fault.New(fault.InvalidValue, "functions", "Only one of 'tools' and 'functions' may be given.")
		}
		r.tools = r.functions
		r.tools.legacy = true
	}
	return r.conversationRequest.check()
}

// chat answers POST /v1/chat/completions.
func (api *API) chat(w http.ResponseWriter, r *http.Request) *fault.Error {
	req := chatRequest{conversationRequest: newConversationRequest()}
	if e := decode(r, &req, chatFields, "model", "messages"); e != nil {
		return e
	}
	if e := req.check(); e != nil {
		return e
	}

	reply, e := api.converse(r.Context(), w.Header(), &req.conversationRequest, "messages")
	if e != nil {
		return e
	}
	defer reply.Close()
	a := newAnswer("chatcmpl-", reply.Model, &req.params)
	if !req.stream {
		return completeChat(w, r, a, &req, reply)
	}
	return api.opts.Stream(w, r, reply, newChatEncoder(a, &req))
}

package openai

import (
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"slices"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

// chatRequest is the body of POST /v1/chat/completions.
type chatRequest struct {
	conversationRequest
	maxComplete int // max_completion_tokens, which overrides max_tokens
	hasTop      bool
	functions   tools           // the deprecated form of tools
	guided      []prompt.Format // by vLLM's fields, of which one may be given

	thinking      *bool // whether the model reasons; nil if it was not said
	hideReasoning bool

	goOn         *bool // whether the last message is the beginning of the answer; nil if it was not said
	noGeneration bool  // the template does not begin the answer
}

// maxArguments is the maximum number of chat_template_kwargs.
const maxArguments = 256

var chatFields = wire.Lift(func(r *chatRequest) *conversationRequest { return &r.conversationRequest },
	conversationFields, slices.Concat(thinkingFields, structuredFields, wire.Table[chatRequest]{
		{
			Name:     "messages",
			Required: true,
			Type: wire.Of(messagesSchema, readMessages,
				func(r *chatRequest) *[]prompt.Message { return &r.messages }),
			Doc: "The conversation. A final assistant message is continued.",
		},
		{
			Name: "max_completion_tokens",
			Type: wire.IntegerOf(1, math.MaxInt32, func(r *chatRequest) *int { return &r.maxComplete }),
			Doc:  "Maximum tokens in an answer; takes precedence over `max_tokens`.",
		},
		{
			Name: "logprobs",
			Type: wire.BoolOf(func(r *chatRequest) *bool { return &r.logprobs }),
			Doc:  "Whether to return the log-probabilities of tokens.",
		},
		{
			Name: "top_logprobs",
			Type: wire.Custom(wire.Integer(0, 20), (*chatRequest).setTopLogprobs),
			Doc:  "Number of most probable tokens to list for each token; requires `logprobs`.",
		},
		{
			Name: "reasoning_effort",
			Type: wire.OneOf((*chatRequest).setChatEffort, chatEfforts...),
			Doc: "How much the model reasons, if its template has an effort setting; `none` turns reasoning off, and " +
				"`auto` leaves it to the template.",
		},
		{
			Name: "chat_template_kwargs",
			Type: wire.Custom(templateArgsSchema, (*chatRequest).setTemplateArgs),
			Doc:  "Arguments for the model's chat template.",
		},
		{
			Name: "response_format",
			Type: wire.Of(responseFormatSchema, readResponseFormat,
				func(r *chatRequest) *prompt.Format { return &r.format }),
			Doc: "What the answer must be: text, a JSON object, or JSON that matches a schema.",
		},
		{
			Name: "tools",
			Type: wire.Custom(toolsSchema, func(r *chatRequest, v wire.Value) *fault.Error {
				return r.tools.readNestedTools(v)
			}),
			Doc: "Functions and custom tools that the model may call. Other types of tools are not offered to it; " +
				"the header `X-Tools-Not-Offered` names them.",
		},
		{
			Name: "tool_choice",
			Type: wire.Of(toolChoiceSchema, readNestedToolChoice,
				func(r *chatRequest) *toolChoice { return &r.tools.choice }),
			Doc: "Whether the model calls functions, and which ones.",
		},
		{
			Name: "functions",
			Type: wire.Of(wire.ListOf(functionSchema, prompt.MaxTools).Examples(`[{"name":"f"}]`), readFunctions,
				func(r *chatRequest) *[]prompt.Tool { return &r.functions.list }),
			Doc: "The deprecated form of `tools`.",
		},
		{
			Name: "function_call",
			Type: wire.Of(functionCallSchema, readFunctionCall,
				func(r *chatRequest) *toolChoice { return &r.functions.choice }),
			Doc: "The deprecated form of `tool_choice`.",
		},
		{
			Name: "audio",
			Type: wire.Refuse[chatRequest]("Audio output is not supported."),
		},
		{
			Name: "modalities",
			Type: wire.Refuse[chatRequest]("Only text output is supported.", `["text"]`),
		},
		{
			Name: "web_search_options",
			Type: wire.Refuse[chatRequest]("The server never searches the web: no data leaves this machine."),
		},
		{
			Name: "store",
			Type: wire.Ignore[chatRequest](wire.Bool),
			Doc:  "Chat completions are never stored.",
		},
		{
			Name: "metadata",
			Type: wire.Ignore[chatRequest](wire.Object),
			Doc:  "Metadata of stored chat completions.",
		},
		{
			Name: "safety_identifier",
			Type: wire.Ignore[chatRequest](wire.String),
			Doc:  "Identifier of the client's user, for abuse detection at OpenAI.",
		},
		{
			Name: "verbosity",
			Type: wire.Ignore[chatRequest](wire.String),
			Doc:  "A hint about how long the answer should be, for OpenAI's models.",
		},
		{
			Name: "prediction",
			Type: wire.Custom(predictionSchema, (*chatRequest).setPrediction),
			Doc: "Text that the answer is expected to repeat, such as a file to edit: an object with `type` `content` and " +
				"`content`. With `--speculation`, several tokens are computed at a time where the model says the same.",
		},
		{
			Name: "prompt_cache_key",
			Type: wire.Ignore[chatRequest](wire.String),
			Doc:  "A hint for OpenAI's prompt cache; prompts with a common prefix always share the cache here.",
		},
		{
			Name: "prompt_cache_retention",
			Type: wire.Ignore[chatRequest](wire.String),
			Doc:  "How long OpenAI's prompt cache keeps a prompt.",
		},
		{
			Name: "prompt_cache_options",
			Type: wire.Ignore[chatRequest](wire.Object),
			Doc:  "Options of OpenAI's prompt cache.",
		},
		{
			Name: "moderation",
			Type: wire.Ignore[chatRequest](wire.Object),
			Doc:  "Options of OpenAI's moderation.",
		},
		{
			Name: "continue_final_message",
			Type: wire.Of(wire.Bool, wire.Value.Bool, (*chatRequest).goesOn),
			Doc:  "Whether to continue a final assistant message (default); `false` starts a new one.",
		},
		{
			Name: "add_generation_prompt",
			Type: wire.Custom(wire.Bool, (*chatRequest).setGeneration),
			Doc:  "`false` is for a conversation that ends with a partial answer.",
		},
		{
			Name: "echo",
			Type: wire.Refuse[chatRequest]("The last message is not repeated before the answer.", "false"),
		},
		{
			Name: "best_of",
			Type: wire.Refuse[chatRequest]("Only /v1/completions supports it.", "1"),
		},
		{
			Name: "chat_template",
			Type: wire.Refuse[chatRequest]("Client-supplied templates are not run."),
		},
		{
			Name: "documents",
			Type: wire.Refuse[chatRequest]("Put documents in a message.", "[]"),
		},
		{
			Name: "plugins",
			Type: wire.Refuse[chatRequest]("Plugins are not supported.", "[]"),
		},
	}))

// templateArgsSchema describes chat_template_kwargs.
var templateArgsSchema = wire.Schema{
	"type":          "object",
	"maxProperties": maxArguments,
}.Examples(`{"enable_thinking":false}`)

// predictionSchema describes prediction.
var predictionSchema = wire.Schema{
	"type":                 "object",
	"required":             []string{"type", "content"},
	"additionalProperties": false,
	"properties": map[string]any{
		"type":    wire.Schema{"type": "string", "enum": []string{"content"}},
		"content": wire.Schema{"description": "A string, or an array of text parts."},
	},
}.Examples(`{"type":"content","content":"The text."}`)

func (r *chatRequest) setPrediction(v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	if e := wire.Only(object, "type", "content"); e != nil {
		return e
	}
	kind, e := v.RequiredText(object, "type")
	if e != nil {
		return e
	}
	if kind != "content" {
		return object["type"].Invalid("must be 'content'.")
	}

	content, e := v.Required(object, "content")
	if e != nil {
		return e
	}
	var m prompt.Message
	e = readContent(&m, content, textParts)
	r.prediction = m.Content
	return e
}

func (r *chatRequest) setTopLogprobs(v wire.Value) *fault.Error {
	n, e := v.Integer(0, 20)
	r.top = int(n)
	r.hasTop = true
	return e
}

func (r *chatRequest) setTemplateArgs(v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	if len(object) > maxArguments {
		return v.Invalid("too many arguments: %d (maximum %d).", len(object), maxArguments)
	}

	for _, name := range slices.Sorted(maps.Keys(object)) {
		if arg := object[name]; prompt.Reserved(name) {
			return arg.Invalid("the server itself sets this variable of the model's chat template.")
		}
		r.setTemplateArg(name, object[name].Raw)
	}
	return nil
}

func (r *chatRequest) setTemplateArg(name string, value json.RawMessage) {
	if r.templateArgs == nil {
		r.templateArgs = map[string]json.RawMessage{}
	}
	r.templateArgs[name] = value
}

// goesOn returns the variable of continue_final_message.
func (r *chatRequest) goesOn() *bool {
	if r.goOn == nil {
		r.goOn = new(bool)
	}
	return r.goOn
}

func (r *chatRequest) setGeneration(v wire.Value) *fault.Error {
	add, e := v.Bool()
	r.noGeneration = !add
	return e
}

// checkEnd validates what is said of the last message.
func (r *chatRequest) checkEnd() *fault.Error {
	last := &r.messages[len(r.messages)-1]
	begun := last.Role == prompt.Assistant && len(last.Calls) == 0
	r.complete = r.goOn != nil && !*r.goOn

	switch {
	case r.goOn != nil && *r.goOn && !begun:
		return fault.New(fault.InvalidValue, "continue_final_message",
			"Invalid 'continue_final_message': the last message must be an assistant message without tool calls.")
	case r.noGeneration && (!begun || r.complete):
		return fault.New(fault.Unsupported, "add_generation_prompt", "Unsupported parameter: 'add_generation_prompt'. "+
			"It can only be turned off if the last message is a partial answer.")
	}
	return nil
}

// nextGuided returns where the next of vLLM's fields with a format puts it.
func (r *chatRequest) nextGuided() *prompt.Format {
	r.guided = append(r.guided, prompt.Format{})
	return &r.guided[len(r.guided)-1]
}

// checkFormat refuses formats beside each other: an answer has one.
func (r *chatRequest) checkFormat() *fault.Error {
	for _, f := range r.guided {
		if f == (prompt.Format{}) {
			continue // its field has no value
		}
		if r.format != (prompt.Format{}) {
			return fault.New(fault.InvalidValue, "response_format",
				"Only one of 'response_format', 'structured_outputs' and the fields that begin with 'guided_' may be given.")
		}
		r.format = f
	}
	return nil
}

// check validates fields that depend on each other.
func (r *chatRequest) check() *fault.Error {
	if r.hasTop && !r.logprobs {
		return fault.New(fault.InvalidValue, "top_logprobs",
			"The 'top_logprobs' parameter requires 'logprobs' to be true.")
	}
	if r.maxComplete > 0 {
		r.maxTokens = r.maxComplete
	}
	if e := r.checkEnd(); e != nil {
		return e
	}
	r.applyThinking()
	if e := r.checkFormat(); e != nil {
		return e
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
	if e := decode(api, w, r, &req, chatFields, req.check); e != nil {
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

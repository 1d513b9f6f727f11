package openai

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

// responsesRequest is the body of POST /v1/responses.
type responsesRequest struct {
	conversationRequest
	instructions string
	metadata     json.RawMessage
	toolsAsked   json.RawMessage // as sent, to be echoed
	choiceAsked  json.RawMessage
	formatAsked  json.RawMessage
	user         string
	ignored      []string                     // types of hosted tools, which are not available here
	input        []wire.Value                 // the items, from which messages are built
	items        []map[string]json.RawMessage // the items as stored
	previous     string                       // id of the response to continue from
	store        bool
	background   bool
}

var responsesFields = wire.Lift(func(r *responsesRequest) *conversationRequest { return &r.conversationRequest },
	conversationFields.Pick("model", "stream", "temperature", "top_p", "seed", "top_k", "min_p",
		"service_tier", "parallel_tool_calls"),
	wire.Table[responsesRequest]{
		{
			Name:     "input",
			Required: true,
			Type:     wire.Custom(inputSchema, (*responsesRequest).setInput),
			Doc:      "A text, or items: messages, reasoning, calls and their results.",
		},
		{
			Name: "instructions",
			Type: wire.StringOf(func(r *responsesRequest) *string { return &r.instructions }),
			Doc:  "A system message, which goes before the conversation.",
		},
		{
			Name: "max_output_tokens",
			Type: wire.IntegerOf(1, math.MaxInt32, func(r *responsesRequest) *int { return &r.maxTokens }),
			Doc:  "Most tokens of the answer.",
		},
		{
			Name: "tools",
			Type: wire.Custom(flatToolsSchema, (*responsesRequest).setTools),
			Doc: "Functions that the model may call. Tools that OpenAI hosts are not offered to it; " +
				"the header `X-Tools-Not-Offered` names them.",
		},
		{
			Name: "tool_choice",
			Type: wire.Custom(flatToolChoiceSchema, (*responsesRequest).setToolChoice),
			Doc:  "Whether the model calls functions, and which ones.",
		},
		{
			Name: "text",
			Type: wire.Custom(textSchema, (*responsesRequest).setText),
			Doc:  "`format` says what the answer must be; `verbosity` has no effect.",
		},
		{
			Name: "reasoning",
			Type: wire.Custom(reasoningSchema, (*responsesRequest).setReasoning),
			Doc:  "`effort` says how much the model reasons; summaries are not made.",
		},
		{
			Name: "metadata",
			Type: wire.Custom(wire.Object.Examples(`{"a":"b"}`), (*responsesRequest).setMetadata),
			Doc:  "Labels, which come back with the response.",
		},
		{
			Name: "user",
			Type: wire.StringOf(func(r *responsesRequest) *string { return &r.user }),
			Doc:  "Name of the client's user, which comes back with the response.",
		},
		{
			Name: previousField,
			Type: wire.StringOf(func(r *responsesRequest) *string { return &r.previous }),
			Doc:  "Id of a stored response, whose conversation goes on.",
		},
		{
			Name: "store",
			Type: wire.BoolOf(func(r *responsesRequest) *bool { return &r.store }),
			Doc:  "Whether the response is stored, with `--data-dir`; the default is true.",
		},
		{
			Name: "background",
			Type: wire.BoolOf(func(r *responsesRequest) *bool { return &r.background }),
			Doc:  "Whether the response is made while nobody waits for it, and fetched later.",
		},
		{
			Name: "truncation",
			Type: wire.Type[responsesRequest]{
				Policy: wire.PolicyRefused,
				Schema: wire.Enum("disabled"),
				Read:   readTruncation,
			},
			Doc: "Nothing is cut: a conversation that is too long is an error.",
		},
		{
			Name: "conversation",
			Type: wire.Refuse[responsesRequest](
				"Conversations are not kept here; 'previous_response_id' goes on from a response."),
		},
		{
			Name: "prompt",
			Type: wire.Refuse[responsesRequest]("Prompts are not kept here."),
		},
		{
			Name: "context_management",
			Type: wire.Refuse[responsesRequest]("Nothing is cut here."),
		},
		{
			Name: "top_logprobs",
			Type: wire.Refuse[responsesRequest]("Log-probabilities come with chat completions only.", "0"),
		},
		{
			Name: "include",
			Type: wire.Ignore[responsesRequest](wire.Array),
			Doc:  "More parts of the response, which come with tools that OpenAI hosts.",
		},
		{
			Name: "stream_options",
			Type: wire.Ignore[responsesRequest](wire.Object),
			Doc:  "`include_obfuscation`, which pads events.",
		},
		{
			Name: "safety_identifier",
			Type: wire.Ignore[responsesRequest](wire.String),
			Doc:  "Name of the client's user, for OpenAI's detection of abuse.",
		},
		{
			Name: "prompt_cache_key",
			Type: wire.Ignore[responsesRequest](wire.String),
			Doc:  "A hint for OpenAI's prompt cache; prompts that begin alike share one here in any case.",
		},
		{
			Name: "prompt_cache_retention",
			Type: wire.Ignore[responsesRequest](wire.String),
			Doc:  "How long OpenAI's prompt cache keeps a prompt.",
		},
		{
			Name: "max_tool_calls",
			Type: wire.Ignore[responsesRequest](wire.Count),
			Doc:  "Most calls of tools that OpenAI hosts.",
		},
	})

// The schemas of fields that have their own decoders.
var (
	inputSchema = wire.AnyOf(
		wire.String,
		wire.ListOf(wire.AnyOf(
			wire.Open(map[string]wire.Schema{"type": wire.String}, "type"),
			wire.Open(map[string]wire.Schema{"role": wire.String}, "role"),
		), maxMessages).NonEmpty(),
	).Examples(`"Hello"`, `[{"role":"user","content":"Hello"}]`)

	flatToolsSchema = wire.ListOf(
		wire.Open(map[string]wire.Schema{"type": {"type": "string", "not": wire.Schema{"const": "custom"}}}, "type"),
		maxTools,
	).Examples(`[{"type":"function","name":"f"}]`, `[{"type":"web_search"}]`)

	flatToolChoiceSchema = toolChoiceSchema.Examples(`"auto"`, `{"type":"function","name":"f"}`)

	textSchema = wire.Closed(map[string]wire.Schema{
		"format":    wire.Open(map[string]wire.Schema{"type": formatKinds}, "type"),
		"verbosity": {},
	}).Examples(`{"format":{"type":"json_object"}}`)

	reasoningSchema = wire.Closed(map[string]wire.Schema{
		"effort":           wire.Enum(efforts...),
		"summary":          {},
		"generate_summary": {},
	}).Examples(`{"effort":"low"}`)
)

func (r *responsesRequest) setInput(v wire.Value) (e *fault.Error) {
	if r.input, e = readInput(v); e != nil {
		return e
	}
	r.messages, e = readItems(r.input)
	return e
}

func (r *responsesRequest) setTools(v wire.Value) (e *fault.Error) {
	r.toolsAsked = v.Raw
	r.tools.list, r.ignored, e = readFlatTools(v)
	return e
}

func (r *responsesRequest) setToolChoice(v wire.Value) (e *fault.Error) {
	r.choiceAsked = v.Raw
	r.tools.choice, e = readToolChoice(v, true)
	return e
}

func (r *responsesRequest) setMetadata(v wire.Value) *fault.Error {
	r.metadata = v.Raw
	return wire.IsObject(v)
}

func readTruncation(_ *responsesRequest, v wire.Value) *fault.Error {
	if s, e := v.OneOf("disabled", "auto"); e != nil || s == "disabled" {
		return e
	}
	return fault.New(fault.Unsupported, v.Name,
		"Unsupported value: '%s' does not support 'auto': nothing is cut here.", v.Name)
}

// setText reads {"format":…,"verbosity":…}.
func (r *responsesRequest) setText(v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	if e := wire.Only(object, "format", "verbosity"); e != nil {
		return e
	}

	format, ok := object["format"]
	if !ok {
		return nil
	}

	r.formatAsked = format.Raw
	inner, e := format.Object()
	if e != nil {
		return e
	}

	kind, e := readFormatKind(format, inner)
	if e != nil {
		return e
	}

	switch kind {
	case formatObject:
		r.format, e = prompt.ObjectFormat(format.Name)
	case formatSchema:
		r.format, e = readJSONSchema(format)
	}

	return e
}

func (r *responsesRequest) setReasoning(v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	if e := wire.Only(object, "effort", "summary", "generate_summary"); e != nil {
		return e
	}
	if effort, ok := object["effort"]; ok {
		name, e := effort.OneOf(efforts...)
		r.setEffort(name)
		return e
	}
	return nil
}

// readFlatTools reads tools, which are not nested here. Hosted tools are ignored and returned
// separately, because agents send them to every server.
func readFlatTools(v wire.Value) (list []prompt.Tool, ignored []string, e *fault.Error) {
	items, e := v.Array(maxTools)
	if e != nil {
		return nil, nil, e
	}

	for _, item := range items {
		object, e := item.Object()
		if e != nil {
			return nil, nil, e
		}
		kind, e := item.Required(object, "type")
		if e != nil {
			return nil, nil, e
		}
		name, e := kind.Text()
		if e != nil {
			return nil, nil, e
		}

		if name == "custom" {
			return nil, nil, fault.New(fault.Unsupported, kind.Name,
				"Tools of the type 'custom' are not supported; 'function' is.")
		}
		if name != "function" {
			ignored = append(ignored, name)
			continue
		}
		t, e := readFunction(item, list, "type")
		if e != nil {
			return nil, nil, e
		}
		list = append(list, t)
	}

	return list, ignored, nil
}

// check validates fields that depend on each other.
func (r *responsesRequest) check() *fault.Error {
	if r.instructions != "" {
		first := prompt.Message{Role: prompt.System, Content: r.instructions}
		r.messages = slices.Insert(r.messages, 0, first)
	}

	// The choice may refer to hosted tools only, which are ignored.
	choice := &r.tools.choice
	if len(r.tools.list) == 0 && choice.mode == prompt.ChoiceAuto && choice.names == nil {
		*choice = toolChoice{}
	}
	return r.conversationRequest.check()
}

// readResponses reads and validates a request, including the conversation that it continues.
func (api *API) readResponses(w http.ResponseWriter, r *http.Request) (*responsesRequest, *fault.Error) {
	req := &responsesRequest{store: true, conversationRequest: newConversationRequest()}
	if e := decode(api, w, r, req, responsesFields); e != nil {
		return nil, e
	}
	if e := api.recall(r.Context(), req); e != nil {
		return nil, e
	}
	return req, req.check()
}

// responses answers POST /v1/responses.
func (api *API) responses(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.readResponses(w, r)
	if e != nil {
		return e
	}

	if len(req.ignored) > 0 {
		w.Header().Set("X-Tools-Not-Offered", strings.Join(req.ignored, " "))
	}

	if req.background {
		return api.inBackground(w, r, req)
	}

	reply, e := api.converse(r.Context(), w.Header(), &req.conversationRequest, "input")
	if e != nil {
		return e
	}
	defer reply.Close()
	rw := newResponseWriter(newAnswer("resp_", reply.Model, &req.params), req)
	if req.stream {
		return api.opts.Stream(w, r, reply, &responseEncoder{rw, api, req, r.Context()})
	}

	stream := reply.Streams[0]
	if err := reply.Read(r.Context(), stream, rw.event); err != nil {
		return service.Fault(err, "input")
	}

	rw.settle(stream.Usage())
	if e := api.keep(r.Context(), req, rw.response); e != nil {
		return e
	}

	return wire.WriteJSON(w, rw.response)
}

// responseEncoder encodes the events of a response. The response is stored before the event that
// completes it is sent. It is not stored if the client disconnects.
type responseEncoder struct {
	*responseWriter
	api *API
	req *responsesRequest
	ctx context.Context
}

// ContentType implements dialect.Encoder.
func (*responseEncoder) ContentType() string { return wire.EventStream }

// Ping implements dialect.Encoder.
func (*responseEncoder) Ping(b []byte) []byte { return append(b, wire.Ping...) }

// Begin implements dialect.Encoder.
func (w *responseEncoder) Begin(b []byte) []byte {
	w.streams = true
	w.emit("response.created", map[string]any{"response": w.response})
	w.emit("response.in_progress", map[string]any{"response": w.response})
	return w.take(b)
}

// Delta implements dialect.Encoder.
func (w *responseEncoder) Delta(b []byte, _ int, e *engine.Event) []byte {
	w.event(e)
	return w.take(b)
}

// End implements dialect.Encoder.
func (w *responseEncoder) End(b []byte, used []engine.Usage) []byte {
	w.settle(used[0])
	if e := w.api.keep(w.ctx, w.req, w.response); e != nil {
		return w.Fail(b, e)
	}
	w.emit("response."+w.response.Status, map[string]any{"response": w.response})
	return w.take(b)
}

// Fail implements dialect.Encoder.
func (w *responseEncoder) Fail(b []byte, e *fault.Error) []byte {
	w.fail(e)
	if e := w.api.keep(w.ctx, w.req, w.response); e != nil {
		w.api.opts.Log.Error("a failed response is not kept", "id", w.response.ID, "error", e)
	}
	return w.take(b)
}

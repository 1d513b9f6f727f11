package openai

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"slices"

	"serve/archive"
	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

// responsesRequest is the body of POST /v1/responses.
type responsesRequest struct {
	conversationRequest
	instructions   string
	metadata       json.RawMessage
	toolsAsked     json.RawMessage // as sent, to be echoed
	choiceAsked    json.RawMessage
	formatAsked    json.RawMessage
	user           string
	safety         string
	cacheKey       string
	truncation     string
	maxCalls       int          // of hosted tools; 0 for no limit
	sealed         bool         // the client keeps the reasoning and sends it back
	found          []wire.Value // lists of tools that searches have found
	unread         []string     // types of items that the model does not see
	input          []wire.Value // its items
	all            []wire.Value // with those that they go on from; messages are made of them
	previous       string       // id of the response to continue from
	conversationID string       // id of the conversation that it belongs to
	holds          archive.Key  // the conversation that is reserved for it
	compacts       bool         // a conversation that is longer than threshold
	threshold      int          // in tokens; 0 for the default
	triggered      bool         // the answer is a summary
	window         string       // sealed; what the conversation has been compacted to, empty if it has not
	store          bool
	background     bool
}

var responsesFields = wire.Lift(func(r *responsesRequest) *conversationRequest { return &r.conversationRequest },
	conversationFields.Pick(slices.Concat(
		[]string{"model", "stream", "seed", "service_tier", "parallel_tool_calls"}, samplerNames())...),
	wire.Table[responsesRequest]{
		{
			Name: "input",
			Type: wire.Custom(inputSchema, (*responsesRequest).setInput),
			Doc: "A string, or items: messages, reasoning, calls and their results. It may be omitted with " +
				"`instructions` or `previous_response_id`. The header `X-Items-Not-Read` names types of items that " +
				"the model does not see.",
		},
		{
			Name: "instructions",
			Type: wire.StringOf(func(r *responsesRequest) *string { return &r.instructions }),
			Doc:  "A system message before the conversation.",
		},
		{
			Name: "max_output_tokens",
			Type: wire.IntegerOf(1, math.MaxInt32, func(r *responsesRequest) *int { return &r.maxTokens }),
			Doc:  "Maximum tokens in the answer.",
		},
		{
			Name: "tools",
			Type: wire.Custom(flatToolsSchema, (*responsesRequest).setTools),
			Doc: "Functions and custom tools that the model may call, also in namespaces. Tools hosted by OpenAI " +
				"are not offered to it; the header `X-Tools-Not-Offered` names them.",
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
			Doc:  "`effort` says how much the model reasons; summaries are not generated.",
		},
		{
			Name: "metadata",
			Type: wire.Of(metadataSchema, readMetadata,
				func(r *responsesRequest) *json.RawMessage { return &r.metadata }),
			Doc: "Metadata, echoed in the response.",
		},
		{
			Name: "user",
			Type: wire.TextOf(maxIdentifier, func(r *responsesRequest) *string { return &r.user }),
			Doc:  "Identifier of the client's user, echoed in the response.",
		},
		{
			Name: previousField,
			Type: wire.StringOf(func(r *responsesRequest) *string { return &r.previous }),
			Doc:  "ID of a stored response whose conversation to continue.",
		},
		{
			Name: "store",
			Type: wire.BoolOf(func(r *responsesRequest) *bool { return &r.store }),
			Doc: "Whether to store the response (default). Without `--data-dir` it is stored in memory for a limited " +
				"time.",
		},
		{
			Name: "background",
			Type: wire.BoolOf(func(r *responsesRequest) *bool { return &r.background }),
			Doc:  "Whether to run in the background; the response is fetched later.",
		},
		{
			Name: "truncation",
			Type: wire.OneOf(func(r *responsesRequest, s string) { r.truncation = s }, truncationAuto, "disabled"),
			Doc: "`auto` drops the oldest messages of a conversation that is too long; the header " +
				"`X-Prompt-Changed` says how many. Otherwise it is an error.",
		},
		{
			Name: conversationField,
			Type: wire.Custom(conversationSchema, (*responsesRequest).setConversation),
			Doc: "ID of a conversation, or an object with it, whose items precede the input. When the response is " +
				"complete, its input and output are added to the conversation, even with `store: false`.",
		},
		{
			Name: "prompt",
			Type: wire.Refuse[responsesRequest]("Prompts are not stored."),
		},
		{
			Name: "context_management",
			Type: wire.Custom(contextManagementSchema, (*responsesRequest).setContextManagement),
			Doc: "`compaction` has the model summarize a conversation with more tokens than `compact_threshold`, by " +
				"default three quarters of the context, before it answers. The summary is an item of the output, from " +
				"which the conversation continues. `usage` covers only the answer.",
		},
		{
			Name: "top_logprobs",
			Type: wire.Custom(wire.Integer(0, 20), (*responsesRequest).setTopLogprobs),
			Doc:  "Number of most probable tokens to list for each token.",
		},
		{
			Name: "include",
			Type: wire.Custom(wire.Array.Examples(`["message.output_text.logprobs"]`), (*responsesRequest).setInclude),
			Doc: "`message.output_text.logprobs` asks for log-probabilities, and `reasoning.encrypted_content` for " +
				"reasoning that can be sent back. The others belong to tools hosted by OpenAI.",
		},
		{
			Name: "stream_options",
			Type: wire.Ignore[responsesRequest](wire.Object),
			Doc:  "`include_obfuscation`, which pads events.",
		},
		{
			Name: "safety_identifier",
			Type: wire.TextOf(maxIdentifier, func(r *responsesRequest) *string { return &r.safety }),
			Doc:  "Identifier of the client's user, for abuse detection at OpenAI; echoed in the response.",
		},
		{
			Name: "prompt_cache_key",
			Type: wire.TextOf(maxIdentifier, func(r *responsesRequest) *string { return &r.cacheKey }),
			Doc: "A hint for OpenAI's prompt cache, echoed in the response; prompts with a common prefix always share " +
				"the cache here.",
		},
		{
			Name: "prompt_cache_retention",
			Type: wire.Ignore[responsesRequest](wire.String),
			Doc:  "How long OpenAI's prompt cache keeps a prompt.",
		},
		{
			Name: "max_tool_calls",
			Type: wire.IntegerOf(0, math.MaxInt32, func(r *responsesRequest) *int { return &r.maxCalls }),
			Doc:  "Maximum number of calls to tools hosted by OpenAI; echoed in the response.",
		},
		{
			Name: "client_metadata",
			Type: wire.Ignore[responsesRequest](wire.Object),
			Doc:  "What Codex tells OpenAI about itself.",
		},
		{
			Name: "prompt_cache_options",
			Type: wire.Ignore[responsesRequest](wire.Object),
			Doc:  "Options of OpenAI's prompt cache.",
		},
		{
			Name: "moderation",
			Type: wire.Ignore[responsesRequest](wire.Object),
			Doc:  "Options of OpenAI's moderation.",
		},
		{
			Name: "background_options",
			Type: wire.Ignore[responsesRequest](wire.Object),
			Doc:  "Options of OpenAI's background mode.",
		},
	})

// maxIdentifier limits identifiers that are stored with a response, in characters, the same as OpenAI's.
const maxIdentifier = 64

// The schemas of fields that have their own decoders.
var (
	itemSchema = wire.AnyOf(
		wire.Open(map[string]wire.Schema{"type": wire.String}, "type"),
		wire.Open(map[string]wire.Schema{"role": wire.String}, "role"),
		wire.Open(map[string]wire.Schema{"id": {"type": "string", "minLength": 1}}, "id"),
	)

	inputSchema = wire.AnyOf(
		wire.String,
		wire.ListOf(itemSchema, maxMessages),
	).Examples(`"Hello"`, `[{"role":"user","content":"Hello"}]`)

	flatToolsSchema = wire.ListOf(anyTool, prompt.MaxTools).Examples(`[{"type":"function","name":"f"}]`,
		`[{"type":"custom","name":"f"}]`, `[{"type":"web_search"}]`,
		`[{"type":"namespace","name":"n","tools":[{"type":"function","name":"f"}]}]`)

	flatToolChoiceSchema = toolChoiceSchema.Examples(`"auto"`, `{"type":"function","name":"f"}`)

	textSchema = wire.Closed(map[string]wire.Schema{
		"format":    wire.Open(map[string]wire.Schema{"type": formatKinds}, "type"),
		"verbosity": {},
	}).Examples(`{"format":{"type":"json_object"}}`)

	reasoningSchema = wire.Closed(map[string]wire.Schema{
		"effort":           wire.Enum(efforts...),
		"summary":          {},
		"generate_summary": {},
		"context":          {},
	}).Examples(`{"effort":"low"}`)
)

func (r *responsesRequest) setInput(v wire.Value) (e *fault.Error) {
	if r.input, e = readInput(v); e != nil {
		return e
	}
	return r.converse(r.input)
}

func (r *responsesRequest) setTopLogprobs(v wire.Value) *fault.Error {
	n, e := v.Integer(0, 20)
	r.top = int(n)
	r.logprobs = r.logprobs || n > 0
	return e
}

// maxInclude is the maximum number of parts that a client may ask for.
const maxInclude = 4096

func (r *responsesRequest) setInclude(v wire.Value) *fault.Error {
	list, e := v.Array(maxInclude)
	for _, part := range list {
		switch string(part.Raw) {
		case `"message.output_text.logprobs"`:
			r.logprobs = true
		case `"reasoning.encrypted_content"`:
			r.sealed = true
		}
	}
	return e
}

func (r *responsesRequest) setTools(v wire.Value) (e *fault.Error) {
	r.toolsAsked = echoedTools(v.Raw)
	return r.tools.readFlatTools(v)
}

func (r *responsesRequest) setToolChoice(v wire.Value) (e *fault.Error) {
	r.choiceAsked = v.Raw
	r.tools.choice, e = readToolChoice(v, true)
	return e
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

	r.formatAsked = echoedFormat(format.Raw)
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
		r.format, e = prompt.ObjectFormat(formatOptions(format))
	case formatSchema:
		if _, e := format.Required(inner, "schema"); e != nil {
			return e // other than in a chat, it cannot be left out
		}
		r.format, e = readJSONSchema(format)
	}

	return e
}

func (r *responsesRequest) setReasoning(v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	if e := wire.Only(object, "effort", "summary", "generate_summary", "context"); e != nil {
		return e
	}
	if effort, ok := object["effort"]; ok {
		name, e := effort.OneOf(efforts...)
		r.setEffort(name)
		return e
	}
	return nil
}

// check validates fields that depend on each other.
func (r *responsesRequest) check() *fault.Error {
	r.messages = r.instructed(r.messages)
	if len(r.messages) == 0 {
		return fault.New(fault.MissingField, "input", "Missing required parameter: 'input'.")
	}
	if e := r.tools.offerFound(r.found); e != nil {
		return e
	}

	// The choice may refer to hosted tools only, which are ignored.
	choice := &r.tools.choice
	if len(r.tools.list) == 0 && choice.mode == prompt.ChoiceAuto && choice.names == nil {
		*choice = toolChoice{}
	}
	return r.conversationRequest.check()
}

// instructed returns messages after the request's instructions.
func (r *responsesRequest) instructed(messages []prompt.Message) []prompt.Message {
	if r.instructions == "" {
		return messages
	}
	return slices.Insert(messages, 0, prompt.Message{Role: prompt.System, Content: r.instructions})
}

// decodeResponses reads a request, without the conversation that it continues.
func (api *API) decodeResponses(w http.ResponseWriter, r *http.Request) (*responsesRequest, *fault.Error) {
	req := &responsesRequest{store: true, conversationRequest: newConversationRequest()}
	return req, decode(api, w, r, req, responsesFields, nil)
}

// readResponses reads and validates a request, including the conversation that it continues.
func (api *API) readResponses(w http.ResponseWriter, r *http.Request) (*responsesRequest, *fault.Error) {
	req, e := api.decodeResponses(w, r)
	if e != nil {
		return nil, e
	}
	return req, api.prepare(r.Context(), w.Header(), req)
}

// itemsHeader lists the types of the input's items that the model does not see.
const itemsHeader = "X-Items-Not-Read"

// prepare adds what a request continues, and validates it.
func (api *API) prepare(ctx context.Context, h http.Header, req *responsesRequest) *fault.Error {
	e := service.Compute(ctx, func(ctx context.Context) *fault.Error {
		if e := api.recall(ctx, req); e != nil {
			return e
		}
		return req.check()
	})
	if e != nil {
		return e
	}
	wire.AddList(h, itemsHeader, req.unread)
	return nil
}

// responses answers POST /v1/responses.
func (api *API) responses(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.decodeResponses(w, r)
	if e != nil {
		return e
	}
	if e := api.conversations.hold(r.Context(), req); e != nil {
		return e
	}

	e = api.prepare(r.Context(), w.Header(), req)
	if e == nil && req.background {
		return api.inBackground(w, r, req)
	}
	defer api.conversations.release(req)
	if e != nil {
		return e
	}
	return api.respond(w, r, req)
}

// respond answers a request while its client waits.
func (api *API) respond(w http.ResponseWriter, r *http.Request, req *responsesRequest) *fault.Error {
	reply, e := api.start(r.Context(), w.Header(), req)
	if e != nil {
		return e
	}
	defer reply.Close()
	rw := newResponseWriter(newAnswer(responsePrefix, reply.Model, &req.params), req)
	if req.stream {
		return api.opts.Stream(w, r, reply, &responseEncoder{rw, api, req, r.Context()})
	}

	rw.start()
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
	w.start()
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
	w.emit("response."+w.response.Status, map[string]any{"response": w.response})
	return w.take(b)
}

// Fail implements dialect.Encoder.
func (w *responseEncoder) Fail(b []byte, e *fault.Error) []byte {
	w.fail(e)
	return w.take(b)
}

// Keep implements dialect.Keeper.
func (w *responseEncoder) Keep() *fault.Error {
	return w.api.keep(w.ctx, w.req, w.response)
}

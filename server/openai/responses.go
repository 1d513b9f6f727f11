package openai

import (
	"context"
	"encoding/json"
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

var responsesFields = wire.Fields[responsesRequest]{
	"model": func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.model, e = v.Text(); return e },
	"input": func(r *responsesRequest, v wire.Value) (e *fault.Error) {
		if r.input, e = readInput(v); e == nil {
			r.messages, e = readItems(r.input)
		}
		return e
	},
	"instructions": func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.instructions, e = v.Text(); return e },
	"stream":       func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.stream, e = v.Bool(); return e },

	"temperature":       ofParams(setTemperature),
	"top_p":             ofParams(setTopP),
	"seed":              ofParams(setSeed),
	"top_k":             ofParams(setTopK),
	"min_p":             ofParams(setMinP),
	"max_output_tokens": ofParams(setMaxTokens),

	"service_tier":        func(r *responsesRequest, v wire.Value) *fault.Error { return r.setTier(v) },
	"parallel_tool_calls": func(r *responsesRequest, v wire.Value) *fault.Error { return r.setParallel(v) },
	"tools": func(r *responsesRequest, v wire.Value) (e *fault.Error) {
		r.toolsAsked = v.Raw
		r.tools.list, r.ignored, e = readFlatTools(v)
		return e
	},
	"tool_choice": func(r *responsesRequest, v wire.Value) (e *fault.Error) {
		r.choiceAsked = v.Raw
		r.tools.choice, e = readToolChoice(v, true)
		return e
	},
	"text":      func(r *responsesRequest, v wire.Value) *fault.Error { return r.setText(v) },
	"reasoning": func(r *responsesRequest, v wire.Value) *fault.Error { return r.setReasoning(v) },
	"metadata": func(r *responsesRequest, v wire.Value) *fault.Error {
		r.metadata = v.Raw
		return wire.IsObject(v)
	},
	"user": func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.user, e = v.Text(); return e },
	"truncation": func(_ *responsesRequest, v wire.Value) *fault.Error {
		if s, e := v.OneOf("disabled", "auto"); e != nil || s == "disabled" {
			return e
		}
		return fault.New(fault.Unsupported, v.Name,
			"Unsupported value: '%s' does not support 'auto': nothing is cut here.", v.Name)
	},
	"previous_response_id": func(r *responsesRequest, v wire.Value) (e *fault.Error) {
		r.previous, e = v.Text()
		return e
	},
	"store":      func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.store, e = v.Bool(); return e },
	"background": func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.background, e = v.Bool(); return e },
	"conversation": wire.Refused[responsesRequest](
		"Conversations are not kept here; 'previous_response_id' goes on from a response."),
	"prompt":             wire.Refused[responsesRequest]("Prompts are not kept here."),
	"context_management": wire.Refused[responsesRequest]("Nothing is cut here."),

	"include":                wire.Accepted[responsesRequest](wire.IsArray),
	"stream_options":         wire.Accepted[responsesRequest](wire.IsObject),
	"safety_identifier":      wire.Accepted[responsesRequest](wire.IsString),
	"prompt_cache_key":       wire.Accepted[responsesRequest](wire.IsString),
	"prompt_cache_retention": wire.Accepted[responsesRequest](wire.IsString),
	"max_tool_calls":         wire.Accepted[responsesRequest](wire.IsCount),
	"top_logprobs": wire.Refused[responsesRequest](
		"Log-probabilities come with chat completions only.", "0"),
}

// ofParams adapts a setter of params.
func ofParams(set wire.Setter[params]) wire.Setter[responsesRequest] {
	return func(r *responsesRequest, v wire.Value) *fault.Error { return set(&r.params, v) }
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
		return r.setEffort(effort)
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
func (api *API) readResponses(r *http.Request) (*responsesRequest, *fault.Error) {
	req := &responsesRequest{store: true, conversationRequest: newConversationRequest()}
	if e := decode(r, req, responsesFields, "model", "input"); e != nil {
		return nil, e
	}
	if e := api.recall(r.Context(), req); e != nil {
		return nil, e
	}
	return req, req.check()
}

// responses answers POST /v1/responses.
func (api *API) responses(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.readResponses(r)
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

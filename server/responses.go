package server

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/server/wire"
)

// responsesRequest is the body of POST /v1/responses. It becomes a chat: what the
// two endpoints differ in is how they write it.
type responsesRequest struct {
	chat         chatRequest
	instructions string
	metadata     json.RawMessage
	toolsAsked   json.RawMessage // as they were given, for the answer
	choiceAsked  json.RawMessage
	formatAsked  json.RawMessage
	user         string
	ignored      []string                     // hosted tools, which no local server has
	input        []wire.Value                 // the items, of which messages are made
	items        []map[string]json.RawMessage // the same as they are kept
	previous     string                       // the response that this one goes on from
	store        bool
	background   bool
}

var responsesFields = wire.Fields[responsesRequest]{
	"model": func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.chat.model, e = v.Text(); return e },
	"input": func(r *responsesRequest, v wire.Value) (e *fault.Error) {
		if r.input, e = readInput(v); e == nil {
			r.chat.messages, e = readItems(r.input)
		}
		return e
	},
	"instructions":      func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.instructions, e = v.Text(); return e },
	"stream":            func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.chat.stream, e = v.Bool(); return e },
	"temperature":       liftChat("temperature"),
	"top_p":             liftChat("top_p"),
	"seed":              liftChat("seed"),
	"top_k":             liftChat("top_k"),
	"min_p":             liftChat("min_p"),
	"max_output_tokens": liftChat("max_tokens"),
	"service_tier":      liftChat("service_tier"),
	"parallel_tool_calls": func(r *responsesRequest, v wire.Value) *fault.Error {
		return chatFields["parallel_tool_calls"](&r.chat, v)
	},
	"tools": func(r *responsesRequest, v wire.Value) (e *fault.Error) {
		r.toolsAsked = v.Raw
		r.chat.tools.list, r.ignored, e = readFlatTools(v)
		return e
	},
	"tool_choice": func(r *responsesRequest, v wire.Value) (e *fault.Error) {
		r.choiceAsked = v.Raw
		r.chat.tools.choice, e = readToolChoice(v, true)
		return e
	},
	"text":      func(r *responsesRequest, v wire.Value) *fault.Error { return r.readText(v) },
	"reasoning": func(r *responsesRequest, v wire.Value) *fault.Error { return r.readReasoning(v) },
	"metadata": func(r *responsesRequest, v wire.Value) *fault.Error {
		r.metadata = v.Raw
		return wire.IsObject(v)
	},
	"user": func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.user, e = v.Text(); return e },
	"truncation": func(_ *responsesRequest, v wire.Value) *fault.Error {
		if s, e := v.OneOf("disabled", "auto"); e != nil || s == "disabled" {
			return e
		}
		return fault.New(fault.Unsupported, v.Name, "Unsupported value: '%s' does not support 'auto': nothing is cut here.", v.Name)
	},
	"previous_response_id": func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.previous, e = v.Text(); return e },
	"store":                func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.store, e = v.Bool(); return e },
	"background":           func(r *responsesRequest, v wire.Value) (e *fault.Error) { r.background, e = v.Bool(); return e },
	"conversation":         wire.Refused[responsesRequest]("Conversations are not kept here; 'previous_response_id' goes on from a response."),
	"prompt":               wire.Refused[responsesRequest]("Prompts are not kept here."),
	"context_management":   wire.Refused[responsesRequest]("Nothing is cut here."),

	"include":                wire.Accepted[responsesRequest](wire.IsArray),
	"stream_options":         wire.Accepted[responsesRequest](wire.IsObject),
	"safety_identifier":      wire.Accepted[responsesRequest](wire.IsString),
	"prompt_cache_key":       wire.Accepted[responsesRequest](wire.IsString),
	"prompt_cache_retention": wire.Accepted[responsesRequest](wire.IsString),
	"max_tool_calls":         wire.Accepted[responsesRequest](wire.IsCount),
	"top_logprobs":           wire.Refused[responsesRequest]("Log-probabilities come with chat completions only.", "0"),
}

// liftChat reads a field as chat completions do.
func liftChat(name string) wire.Setter[responsesRequest] {
	return func(r *responsesRequest, v wire.Value) *fault.Error { return chatFields[name](&r.chat, v) }
}

// readText reads {"format":…,"verbosity":…}.
func (r *responsesRequest) readText(v wire.Value) *fault.Error {
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
	kind, e := format.Required(inner, "type")
	if e != nil {
		return e
	}
	name, e := kind.OneOf("text", "json_object", "json_schema")
	if e != nil {
		return e
	}
	switch name {
	case "json_object":
		r.chat.format, e = readResponseFormat(format)
	case "json_schema":
		r.chat.format, e = readJSONSchema(format)
	}
	return e
}

func (r *responsesRequest) readReasoning(v wire.Value) *fault.Error {
	object, e := v.Object()
	if e != nil {
		return e
	}
	if e := wire.Only(object, "effort", "summary", "generate_summary"); e != nil {
		return e
	}
	if effort, ok := object["effort"]; ok {
		return chatFields["reasoning_effort"](&r.chat, effort)
	}
	return nil
}

// readFlatTools reads tools, whose functions are flat here. Tools that OpenAI
// hosts are left out and named: agents offer them to every server.
func readFlatTools(v wire.Value) (list []tool, ignored []string, e *fault.Error) {
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
			return nil, nil, fault.New(fault.Unsupported, kind.Name, "Tools of the type 'custom' are not supported; 'function' is.")
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

// readInput reads the input's items; a text is one of them.
func readInput(v wire.Value) ([]wire.Value, *fault.Error) {
	if v.Raw[0] == '"' {
		if _, e := v.Text(); e != nil {
			return nil, e
		}
		raw, err := json.Marshal(map[string]any{"type": "message", "role": "user", "content": v.Raw})
		if err != nil {
			return nil, toFault(err, v.Name)
		}
		return []wire.Value{{Name: v.Name, Raw: raw}}, nil
	}
	items, e := v.Array(maxMessages)
	if e == nil && len(items) == 0 {
		e = v.Empty()
	}
	return items, e
}

// readItems makes a conversation of items.
func readItems(items []wire.Value) (messages []message, e *fault.Error) {
	for _, item := range items {
		if messages, e = addItem(messages, item); e != nil {
			return nil, e
		}
	}
	return messages, nil
}

// addItem adds an item to the conversation. An assistant's reasoning, text and
// calls that follow each other are one message.
func addItem(messages []message, v wire.Value) ([]message, *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return nil, e
	}
	kind := "message"
	if t, ok := object["type"]; ok {
		if kind, e = t.Text(); e != nil {
			return nil, e
		}
	}
	assistant := func() *message {
		if n := len(messages); n == 0 || messages[n-1].Role != "assistant" {
			messages = append(messages, message{Role: "assistant"})
		}
		return &messages[len(messages)-1]
	}
	switch kind {
	case "message":
		m, e := readItemMessage(v, object)
		if e != nil {
			return nil, e
		}
		if n := len(messages); m.Role == "assistant" && n > 0 && messages[n-1].Role == "assistant" && messages[n-1].Content == "" && messages[n-1].ToolCalls == nil {
			messages[n-1].Content = m.Content
			return messages, nil
		}
		return append(messages, m), nil
	case "reasoning":
		text, e := readReasoningItem(object)
		if text != "" {
			assistant().Reasoning += text
		}
		return messages, e
	case "function_call":
		return messages, addCall(assistant(), v, object)
	case "function_call_output":
		m, e := readOutput(v, object)
		return append(messages, m), e
	}
	return nil, fault.New(fault.Unsupported, v.Name+".type", "Items of the type '%s' are not supported.", kind)
}

func readItemMessage(v wire.Value, object map[string]wire.Value) (m message, e *fault.Error) {
	role, e := v.Required(object, "role")
	if e != nil {
		return m, e
	}
	if m.Role, e = role.OneOf("developer", "system", "user", "assistant"); e != nil {
		return m, e
	}
	content, e := v.Required(object, "content")
	if e != nil {
		return m, e
	}
	parts := outputParts
	if m.Role != "assistant" {
		parts = inputParts
	}
	return m, m.readContent(content, parts)
}

// What textParts and chatParts are, of the Responses API.
var (
	outputParts = partTypes{text: map[string]string{
		"input_text": "text", "output_text": "text", "text": "text", "summary_text": "text", "reasoning_text": "text", "refusal": "refusal",
	}}
	inputParts = partTypes{text: outputParts.text, image: "input_image"}
)

func readReasoningItem(object map[string]wire.Value) (string, *fault.Error) {
	for _, name := range []string{"content", "summary"} {
		if list, ok := object[name]; ok {
			var m message
			if e := m.readContent(list, outputParts); e != nil || m.Content != "" {
				return m.Content, e
			}
		}
	}
	return "", nil // encrypted, by another server
}

// addCall adds a call to an assistant's message.
func addCall(m *message, v wire.Value, object map[string]wire.Value) *fault.Error {
	id, e := v.Required(object, "call_id")
	if e != nil {
		return e
	}
	call := toolCall{Type: "function"}
	if call.ID, e = id.Text(); e != nil {
		return e
	}
	if call.Function, e = readCall(v); e != nil {
		return e
	}
	var calls []toolCall
	if m.ToolCalls != nil {
		if err := json.Unmarshal(m.ToolCalls, &calls); err != nil {
			return toFault(err, v.Name)
		}
	}
	m.ToolCalls, e = marshalCalls(append(calls, call))
	return e
}

func readOutput(v wire.Value, object map[string]wire.Value) (m message, e *fault.Error) {
	id, e := v.Required(object, "call_id")
	if e != nil {
		return m, e
	}
	m.Role = "tool"
	if m.ToolCallID, e = id.Text(); e != nil {
		return m, e
	}
	output, e := v.Required(object, "output")
	if e != nil {
		return m, e
	}
	return m, m.readContent(output, inputParts)
}

// check holds what no single field can know.
func (r *responsesRequest) check() *fault.Error {
	if r.instructions != "" {
		r.chat.messages = slices.Insert(r.chat.messages, 0, message{Role: "system", Content: r.instructions})
	}
	// A choice that only names hosted tools is about nothing that is here.
	if len(r.chat.tools.list) == 0 && r.chat.tools.choice.mode == "auto" && r.chat.tools.choice.names == nil {
		r.chat.tools.choice = toolChoice{}
	}
	return r.chat.check()
}

// readResponses reads and checks a request, with the conversation that it goes on from.
func (s *Server) readResponses(r *http.Request) (*responsesRequest, *fault.Error) {
	req := &responsesRequest{store: true, chat: chatRequest{params: defaultParams(), tools: tools{parallel: true}}}
	if e := decode(r, req, responsesFields, "model", "input"); e != nil {
		return nil, e
	}
	if e := s.recall(r.Context(), req); e != nil {
		return nil, e
	}
	return req, req.check()
}

// responses answers POST /v1/responses.
func (s *Server) responses(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := s.readResponses(r)
	if e != nil {
		return e
	}
	if len(req.ignored) > 0 {
		w.Header().Set("X-Tools-Not-Offered", strings.Join(req.ignored, " "))
	}
	if req.background {
		return s.inBackground(w, r, req)
	}
	return s.converse(w, r, &req.chat, "input", func(model *pool.Lease, stream *engine.Stream) *fault.Error {
		rw := newResponseWriter(s.newAnswer("resp_", model, &req.chat.params), req)
		if req.chat.stream {
			out := s.newSSE(w, r)
			defer out.close()
			s.streamResponse(out, rw, req, stream)
			return nil
		}
		if err := readAll(r, stream, rw.event); err != nil {
			return toFault(err, "input")
		}
		rw.settle(stream.Usage())
		if e := s.keep(r.Context(), req, rw.response); e != nil {
			return e
		}
		return writeJSON(w, rw.response)
	})
}

// streamResponse writes the events of a response. It is kept before its last event
// says that it is done; of one whose client has gone nothing is kept.
func (s *Server) streamResponse(out *sse, w *responseWriter, req *responsesRequest, stream *engine.Stream) {
	w.streams = true
	w.emit("response.created", map[string]any{"response": w.response})
	w.emit("response.in_progress", map[string]any{"response": w.response})
	err := out.write(w.take())
	if err == nil {
		err = out.follow(stream, func(events []engine.Event) error {
			for i := range events {
				if err := w.event(&events[i]); err != nil {
					return err
				}
			}
			return out.write(w.take())
		})
	}
	if out.ctx.Err() != nil {
		return
	}
	if err == nil {
		w.settle(stream.Usage())
		e := s.keep(out.ctx, req, w.response)
		if e == nil {
			w.emit("response."+w.response.Status, map[string]any{"response": w.response})
			_ = out.write(w.take())
			return
		}
		err = e
	}
	w.fail(toFault(err, ""))
	if e := s.keep(out.ctx, req, w.response); e != nil {
		s.opts.Log.Error("a failed response is not kept", "id", w.response.ID, "error", e)
	}
	_ = out.write(w.take())
}

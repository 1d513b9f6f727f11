package openai

import (
	"cmp"
	"encoding/json"
	"math"
	"strings"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/server/wire"
)

// responseWriter builds a response from the events of a stream. If streams is set, it appends the
// API's events to buf.
type responseWriter struct {
	response  *response
	answer    *answer
	kinds     *toolKinds
	sealed    bool
	window    string // that the conversation goes on from; empty for none
	triggered bool   // the answer is a summary
	replaces  bool   // everything before it
	streams   bool
	buf       []byte
	sequence  int
	open      *item              // the last item, while it is incomplete
	text      strings.Builder    // of the open item
	input     inputReader        // of an open call of a custom tool
	waiting   []engine.TokenInfo // tokens whose text has not come yet
	tokens    []engine.TokenInfo // of the open message
	ended     engine.Finish
}

func newResponseWriter(a *answer, req *responsesRequest) *responseWriter {
	p := &req.params
	r := &response{
		ID:                 a.id,
		Object:             "response",
		CreatedAt:          a.created,
		Status:             statusRunning,
		Model:              a.name,
		Output:             []*item{},
		ParallelToolCalls:  req.tools.parallel,
		ServiceTier:        cmp.Or(p.tierName, "default"),
		Temperature:        shortest(p.sampling.Temperature),
		TopP:               shortest(p.sampling.TopP),
		PreviousResponseID: optional(req.previous),
		Store:              req.store,
		Background:         req.background,
		Truncation:         cmp.Or(req.truncation, "disabled"),
		FrequencyPenalty:   shortest(p.sampling.FrequencyPenalty),
		PresencePenalty:    shortest(p.sampling.PresencePenalty),
		PromptCacheKey:     optional(req.cacheKey),
		SafetyIdentifier:   optional(req.safety),
		TopLogprobs:        p.top,
		Instructions:       optional(req.instructions),
		User:               optional(req.user),
		Reasoning:          map[string]any{"effort": optional(req.effort), "summary": nil},
		Text:               map[string]any{"format": map[string]string{"type": "text"}},
		ToolChoice:         givenOr(req.choiceAsked, `"auto"`),
		Tools:              givenOr(req.toolsAsked, "[]"),
		Metadata:           givenOr(req.metadata, "{}"),
	}

	if p.maxTokens > 0 {
		r.MaxOutputTokens = &p.maxTokens
	}

	if req.maxCalls > 0 {
		r.MaxToolCalls = &req.maxCalls
	}

	if req.conversationID != "" {
		r.Conversation = &conversationRef{req.conversationID}
	}

	if req.formatAsked != nil {
		r.Text["format"] = req.formatAsked
	}

	return &responseWriter{
		response:  r,
		answer:    a,
		kinds:     &req.tools.kinds,
		sealed:    req.sealed,
		window:    req.window,
		triggered: req.triggered,
		replaces:  req.previous != "" || req.conversationID != "",
	}
}

// givenOr returns what a request has given, to be echoed, or else what the answer says in its place.
func givenOr(given json.RawMessage, otherwise string) json.RawMessage {
	if given == nil {
		return json.RawMessage(otherwise)
	}
	return given
}

// shortest converts a float32 so that it prints as the client wrote it: 0.7, not 0.699999988079071.
func shortest(f float32) float64 { return math.Round(float64(f)*1e6) / 1e6 }

// emit appends an event with the given fields, its type and its sequence number.
func (w *responseWriter) emit(kind string, fields map[string]any) {
	if !w.streams {
		return
	}
	fields["type"] = kind
	fields["sequence_number"] = w.sequence
	w.sequence++
	body, err := json.Marshal(fields)
	if err != nil {
		return
	}
	w.buf = wire.AppendEvent(w.buf, kind, body)
}

// start begins the response, before any event of the stream.
func (w *responseWriter) start() {
	w.emit("response.created", map[string]any{"response": w.response})
	w.emit("response.in_progress", map[string]any{"response": w.response})
	if w.window != "" {
		w.compacted(w.window)
	}
}

// compacted adds an item with what the conversation goes on from.
func (w *responseWriter) compacted(sealed string) {
	index := len(w.response.Output)
	it := &item{
		Type:      typeCompaction,
		ID:        itemPrefixes[typeCompaction] + outputID(w.response.ID, index),
		Encrypted: sealed,
	}
	w.response.Output = append(w.response.Output, it)
	w.emit("response.output_item.added", map[string]any{"output_index": index, "item": it})
	w.emit("response.output_item.done", map[string]any{"output_index": index, "item": it})
}

// summarize processes an event of a stream that is a summary. What is stored here goes on from it alone; clients
// put the user's messages beside it.
func (w *responseWriter) summarize(e *engine.Event) {
	w.text.WriteString(e.Text)
	if e.Finish == "" {
		return
	}
	w.ended = e.Finish
	sealed := seal(w.text.String())
	if w.replaces {
		all := window{Summary: w.text.String()}
		if whole, e := all.seal(); e == nil {
			sealed = whole
		}
	}
	w.compacted(sealed)
}

// take moves the events from buf to b.
func (w *responseWriter) take(b []byte) []byte {
	b = append(b, w.buf...)
	w.buf = w.buf[:0]
	return b
}

// of adds the fields that identify the open item.
func (w *responseWriter) of(fields map[string]any) map[string]any {
	fields["item_id"] = w.open.ID
	fields["output_index"] = len(w.response.Output) - 1
	return fields
}

// event processes an event of the stream.
func (w *responseWriter) event(e *engine.Event) {
	if w.triggered {
		w.summarize(e)
		return
	}
	w.waiting = append(w.waiting, e.Tokens...)
	if e.Reasoning != "" {
		w.waiting = nil
		w.begin(typeReasoning, nil)
		w.add("response.reasoning_text.delta", e.Reasoning)
	}
	if e.Text != "" {
		w.begin(typeMessage, nil)
		w.add("response.output_text.delta", e.Text)
	}
	for i := range e.ToolCalls {
		w.waiting = nil
		w.call(&e.ToolCalls[i])
	}
	if e.Finish != "" {
		w.ended = e.Finish
		w.end()
	}
}

// callTypes are the types of the items with calls, by the kind of the tool.
var callTypes = map[string]string{
	toolFunction: typeFunctionCall,
	toolCustom:   typeCustomCall,
	toolSearch:   typeSearchCall,
}

// call processes a part of a call.
func (w *responseWriter) call(d *engine.ToolCallDelta) {
	if d.Name != "" {
		w.begin(callTypes[w.kinds.origin(d.Name).kind], d)
	}
	if d.Arguments == "" {
		return
	}
	switch w.open.Type {
	case typeCustomCall:
		w.addInput(w.input.add(d.Arguments))
	case typeSearchCall:
		w.text.WriteString(d.Arguments) // they come whole, as an object
	default:
		w.add("response.function_call_arguments.delta", d.Arguments)
	}
}

// addInput appends to the input of a custom tool, if there is any text.
func (w *responseWriter) addInput(text string) {
	if text != "" {
		w.add("response.custom_tool_call_input.delta", text)
	}
}

// begin opens an item, unless one of the same type is open. Each call is a new item.
func (w *responseWriter) begin(kind string, call *engine.ToolCallDelta) {
	if w.open != nil && w.open.Type == kind && call == nil {
		return
	}

	w.end()
	it := &item{
		Type:   kind,
		ID:     itemPrefixes[kind] + outputID(w.response.ID, len(w.response.Output)),
		Status: statusRunning,
	}
	switch kind {
	case typeMessage:
		it.Role = "assistant"
		it.Content = &[]*itemPart{}
	case typeReasoning:
		it.Summary = &[]string{}
	default:
		it.open(w.kinds.origin(call.Name))
	}

	w.open = it
	w.text.Reset()
	w.input = inputReader{}
	w.tokens = nil
	w.response.Output = append(w.response.Output, it)
	w.emit("response.output_item.added", map[string]any{"output_index": len(w.response.Output) - 1, "item": it})
	if part := w.part(""); part != nil {
		w.emit("response.content_part.added", w.of(map[string]any{"content_index": 0, "part": part}))
	}
}

// open begins the item of a call.
func (it *item) open(o origin) {
	empty := ""
	it.CallID = newCallID()
	switch o.kind {
	case toolSearch:
		it.Execution = "client"
		it.Arguments = json.RawMessage("{}")
		return
	case toolCustom:
		it.Input = &empty
	default:
		it.Arguments = empty
	}
	it.Name = o.name
	it.Namespace = o.namespace
}

// part returns the content part of the open item. Calls have none.
func (w *responseWriter) part(text string) *itemPart {
	switch w.open.Type {
	case typeMessage:
		return &itemPart{
			Type:        "output_text",
			Text:        text,
			Annotations: &[]int{},
			LogProbs:    appendLogprobs(nil, w.answer, w.tokens),
		}
	case typeReasoning:
		return &itemPart{Type: "reasoning_text", Text: text}
	}
	return nil
}

// add appends to the open item.
func (w *responseWriter) add(kind, text string) {
	w.text.WriteString(text)
	fields := w.of(map[string]any{"delta": text})
	switch w.open.Type {
	case typeMessage:
		fields["content_index"] = 0
		fields["logprobs"] = json.RawMessage(appendLogprobs(nil, w.answer, w.waiting))
		w.tokens = append(w.tokens, w.waiting...)
		w.waiting = nil
	case typeReasoning:
		fields["content_index"] = 0
	}
	w.emit(kind, fields)
}

// end closes the open item.
func (w *responseWriter) end() {
	it := w.open
	if it == nil {
		return
	}
	if it.Type == typeCustomCall {
		w.addInput(w.input.end())
	}

	it.Status = statusCompleted
	if w.ended == engine.FinishLength {
		it.Status = statusIncomplete
	}

	w.close(it, w.text.String())
	w.emit("response.output_item.done", map[string]any{"output_index": len(w.response.Output) - 1, "item": it})
	w.open = nil
}

// close completes an item, and emits the events before that of the whole item.
func (w *responseWriter) close(it *item, text string) {
	switch it.Type {
	case typeFunctionCall:
		it.Arguments = text
		w.emit("response.function_call_arguments.done", w.of(map[string]any{"name": it.Name, "arguments": text}))
	case typeCustomCall:
		it.Input = &text
		w.emit("response.custom_tool_call_input.done", w.of(map[string]any{"input": text}))
	case typeSearchCall:
		if json.Valid([]byte(text)) { // unless it was cut
			it.Arguments = json.RawMessage(text)
		}
	case typeMessage:
		part := w.part(text)
		it.Content = &[]*itemPart{part}
		w.emit("response.output_text.done",
			w.of(map[string]any{"content_index": 0, "text": text, "logprobs": part.LogProbs}))
		w.emit("response.content_part.done", w.of(map[string]any{"content_index": 0, "part": part}))

	case typeReasoning:
		part := w.part(text)
		it.Content = &[]*itemPart{part}
		if w.sealed {
			it.Encrypted = seal(text)
		}
		w.emit("response.reasoning_text.done", w.of(map[string]any{"content_index": 0, "text": text}))
		w.emit("response.content_part.done", w.of(map[string]any{"content_index": 0, "part": part}))
	}
}

func usageOf(u engine.Usage) *responseUsage {
	return &responseUsage{
		InputTokens:  u.Prompt,
		InputDetails: inputDetails{CachedTokens: u.Cached},
		OutputTokens: u.Completion,
		TotalTokens:  u.Prompt + u.Completion,
	}
}

// settle completes the response, or marks it incomplete if it was truncated.
func (w *responseWriter) settle(u engine.Usage) {
	r := w.response
	r.Usage = usageOf(u)
	now := time.Now().Unix()
	r.Status = statusCompleted
	r.CompletedAt = &now
	if w.ended == engine.FinishLength {
		r.Status = statusIncomplete
		r.CompletedAt = nil
		r.IncompleteDetails = &incomplete{"max_output_tokens"}
	}
}

// fail ends the response with an error. Clients expect it in the response and as a separate event, which
// has two forms at once.
func (w *responseWriter) fail(e *fault.Error) {
	w.response.Status = statusFailed
	w.response.Error = &responseError{failures[e.Kind].code, e.Message}
	w.emit("response.failed", map[string]any{"response": w.response})
	body := newErrorBody(e)
	w.emit("error", map[string]any{"code": body.Code, "message": body.Message, "param": body.Param, "error": body})
}

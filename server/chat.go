package server

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strings"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/server/wire"
)

// chatRequest is the body of POST /v1/chat/completions.
type chatRequest struct {
	params
	messages     []message
	maxComplete  int // max_completion_tokens, which wins over max_tokens
	effort       string
	templateArgs map[string][]byte
	hasTop       bool
	tools        tools
	functions    tools // the same by its old name
	format       responseFormat
}

// message is a turn of the conversation, in the shape that templates read.
type message struct {
	Role       string          `json:"role"`
	Content    string          `json:"content"` // with the marks of the images
	Images     []attachment    `json:"-"`
	Reasoning  string          `json:"reasoning_content,omitempty"`
	ToolCalls  json.RawMessage `json:"tool_calls,omitempty"`
	ToolCallID string          `json:"tool_call_id,omitempty"`
}

// Limits on a conversation.
const (
	maxMessages  = 16384
	maxParts     = 4096
	maxArguments = 256
)

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
		r.top, r.hasTop = int(n), true
		return e
	},
	"service_tier": setTier,
	"reasoning_effort": func(r *chatRequest, v wire.Value) (e *fault.Error) {
		r.effort, e = v.OneOf("none", "minimal", "low", "medium", "high", "xhigh", "max")
		return e
	},
	"chat_template_kwargs": func(r *chatRequest, v wire.Value) *fault.Error {
		object, e := v.Object()
		if e != nil {
			return e
		}
		if len(object) > maxArguments {
			return v.Invalid("%d arguments, where %d are allowed.", len(object), maxArguments)
		}
		for name, arg := range object {
			r.setTemplateArg(name, arg.Raw)
		}
		return nil
	},
	"response_format": func(r *chatRequest, v wire.Value) (e *fault.Error) { r.format, e = readResponseFormat(v); return e },

	"tools": func(r *chatRequest, v wire.Value) (e *fault.Error) { r.tools.list, e = readTools(v); return e },
	"tool_choice": func(r *chatRequest, v wire.Value) (e *fault.Error) {
		r.tools.choice, e = readToolChoice(v, false)
		return e
	},
	"parallel_tool_calls": func(r *chatRequest, v wire.Value) (e *fault.Error) { r.tools.parallel, e = v.Bool(); return e },
	"functions":           func(r *chatRequest, v wire.Value) (e *fault.Error) { r.functions.list, e = readFunctions(v); return e },
	"function_call": func(r *chatRequest, v wire.Value) (e *fault.Error) {
		r.functions.choice, e = readFunctionCall(v)
		return e
	},
	"audio":              wire.Refused[chatRequest]("There is no audio output."),
	"modalities":         wire.Refused[chatRequest]("There is only text output.", `["text"]`),
	"web_search_options": wire.Refused[chatRequest]("The server never searches the web: no data leaves this machine."),

	// What nobody could tell from the answer.
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

func (r *chatRequest) setTemplateArg(name string, raw []byte) {
	if r.templateArgs == nil {
		r.templateArgs = map[string][]byte{}
	}
	r.templateArgs[name] = raw
}

// check holds what no single field can know.
func (r *chatRequest) check() *fault.Error {
	if r.hasTop && !r.logprobs {
		return fault.New(fault.InvalidValue, "top_logprobs", "The 'top_logprobs' parameter needs 'logprobs' to be true.")
	}
	if r.maxComplete > 0 {
		r.maxTokens = r.maxComplete
	}
	if r.functions.offered() || r.functions.choice.field != "" {
		if r.tools.offered() {
			return fault.New(fault.InvalidValue, "functions", "Only one of 'tools' and 'functions' may be given.")
		}
		r.tools = r.functions
		r.tools.legacy = true
	}
	if e := r.tools.check(); e != nil {
		return e
	}
	return r.params.check()
}

// readMessages reads the conversation.
func readMessages(v wire.Value) ([]message, *fault.Error) {
	list, e := v.Array(maxMessages)
	if e != nil {
		return nil, e
	}
	if len(list) == 0 {
		return nil, v.Empty()
	}
	messages := make([]message, len(list))
	for i, item := range list {
		if messages[i], e = readMessage(item); e != nil {
			return nil, e
		}
	}
	return messages, nil
}

var messageFields = []string{"role", "content", "name", "refusal", "reasoning_content", "reasoning", "tool_calls", "tool_call_id", "audio", "function_call", "annotations"}

func readMessage(v wire.Value) (m message, e *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return m, e
	}
	if e := wire.Only(object, messageFields...); e != nil {
		return m, e
	}
	role, e := v.Required(object, "role")
	if e != nil {
		return m, e
	}
	if m.Role, e = role.OneOf("developer", "system", "user", "assistant", "tool", "function"); e != nil {
		return m, e
	}
	assistant := m.Role == "assistant"
	if field, ok := object["audio"]; ok {
		return m, fault.New(fault.Unsupported, field.Name, "Unsupported parameter: '%s'.", field.Name)
	}
	_, called := object["tool_calls"]
	_, calledOnce := object["function_call"]
	if content, ok := object["content"]; ok {
		parts := textParts
		if m.Role == "user" {
			parts = chatParts
		}
		if e := m.readContent(content, parts); e != nil {
			return m, e
		}
	} else if refusal, ok := object["refusal"]; ok && assistant {
		if m.Content, e = refusal.Text(); e != nil {
			return m, e
		}
	} else if !assistant || !called && !calledOnce {
		_, e := v.Required(object, "content")
		return m, e
	}
	for _, name := range []string{"reasoning", "reasoning_content"} {
		if field, ok := object[name]; ok && assistant {
			if m.Reasoning, e = field.Text(); e != nil {
				return m, e
			}
		}
	}
	if assistant {
		if e := m.readCalls(object); e != nil {
			return m, e
		}
	}
	if m.Role == "function" {
		// The old name for a tool's answer. Its call has no id, but a name.
		name, e := v.Required(object, "name")
		if e != nil {
			return m, e
		}
		m.Role = "tool"
		m.ToolCallID, e = name.Text()
		return m, e
	}
	if id, ok := object["tool_call_id"]; ok {
		m.ToolCallID, e = id.Text()
	} else if m.Role == "tool" {
		_, e = v.Required(object, "tool_call_id")
	}
	return m, e
}

// readCalls reads what an assistant called, by either name.
func (m *message) readCalls(object map[string]wire.Value) (e *fault.Error) {
	if calls, ok := object["tool_calls"]; ok {
		if m.ToolCalls, e = readCalls(calls); e != nil {
			return e
		}
	}
	if call, ok := object["function_call"]; ok {
		f, e := readCall(call)
		if e != nil {
			return e
		}
		m.ToolCalls, e = marshalCalls([]toolCall{{ID: f.Name, Type: "function", Function: f}})
		return e
	}
	return nil
}

// readContent reads a message's text and images: a string, or parts.
func (m *message) readContent(v wire.Value, parts partTypes) (e *fault.Error) {
	switch v.Raw[0] {
	case '[':
		m.Content, m.Images, e = readParts(v, parts)
		return e
	case '"':
		m.Content, e = v.Text()
		return e
	}
	return v.WrongType("a string or an array of content parts")
}

// partTypes are the types of parts that content may have: those that are text, and
// the field that each has it in, and the one that is an image, if any.
type partTypes struct {
	text  map[string]string
	image string
}

var (
	textParts = partTypes{text: map[string]string{"text": "text", "refusal": "refusal"}}
	chatParts = partTypes{text: textParts.text, image: "image_url"}
)

// readParts reads parts. Texts that follow each other become paragraphs; an image's
// mark stands where it belongs.
func readParts(v wire.Value, types partTypes) (string, []attachment, *fault.Error) {
	parts, e := v.Array(maxParts)
	if e != nil {
		return "", nil, e
	}
	var text strings.Builder
	var images []attachment
	afterText := false
	for _, part := range parts {
		object, e := part.Object()
		if e != nil {
			return "", nil, e
		}
		kind, e := part.Required(object, "type")
		if e != nil {
			return "", nil, e
		}
		name, e := kind.Text()
		if e != nil {
			return "", nil, e
		}
		if name == types.image && name != "" {
			image, e := readImage(part, object)
			if e != nil {
				return "", nil, e
			}
			images = append(images, image)
			text.WriteString(image.mark)
			afterText = false
			continue
		}
		field, known := types.text[name]
		if !known {
			return "", nil, fault.New(fault.Unsupported, kind.Name, "Content of type '%s' is not supported here.", name)
		}
		given, e := part.Required(object, field)
		if e != nil {
			return "", nil, e
		}
		paragraph, e := given.Text()
		if e != nil {
			return "", nil, e
		}
		if afterText {
			text.WriteByte('\n')
		}
		text.WriteString(paragraph)
		afterText = true
	}
	return text.String(), images, nil
}

// chat answers POST /v1/chat/completions.
func (s *Server) chat(w http.ResponseWriter, r *http.Request) *fault.Error {
	req := chatRequest{params: defaultParams(), tools: tools{parallel: true}}
	if e := decode(r, &req, chatFields, "model", "messages"); e != nil {
		return e
	}
	if e := req.check(); e != nil {
		return e
	}
	return s.converse(w, r, &req, "messages", func(model *pool.Lease, stream *engine.Stream) *fault.Error {
		a := s.newAnswer("chatcmpl-", model, &req.params)
		if !req.stream {
			return s.completeChat(w, r, a, &req, stream)
		}
		out := s.newSSE(w, r)
		defer out.close()
		streamChat(out, a, &req, stream)
		return nil
	})
}

// converse has a model go on with a conversation, and lets answer write what comes
// of it. field is what the conversation is called in errors.
func (s *Server) converse(w http.ResponseWriter, r *http.Request, req *chatRequest, field string, answer func(*pool.Lease, *engine.Stream) *fault.Error) *fault.Error {
	model, e := s.worker(r, req.model, req.tier)
	if e != nil {
		return e
	}
	defer model.Release()
	er, err := s.engineRequest(r.Context(), model, req)
	if err != nil {
		return toFault(err, field)
	}
	stream, err := generate(r.Context(), model, er)
	if err != nil {
		return toFault(err, field)
	}
	defer stream.Close()
	req.tellLoose(w.Header())
	return answer(model, stream)
}

// engineRequest renders the conversation and turns it into tokens and what images
// look like.
func (s *Server) engineRequest(ctx context.Context, model *pool.Lease, r *chatRequest) (engine.Request, error) {
	e, images := model.Engine, r.images()
	if e := checkImages(model, images); e != nil {
		return engine.Request{}, e
	}
	rendered, err := r.render(e)
	if err != nil {
		return engine.Request{}, err
	}
	parts, err := s.images.parts(ctx, rendered.Prompt, images)
	if err != nil {
		return engine.Request{}, err
	}
	er := r.request()
	er.Prompt, er.Media, err = e.Prompt(ctx, parts, e.Limits().Context-1)
	er.Stop = append(er.Stop, rendered.Stops...)
	er.Preserved = rendered.Preserved
	er.Parser = rendered.Parser
	er.Begun, _ = r.begun()
	er.Sampling.Grammar = rendered.Grammar
	return er, err
}

// render writes the conversation by the model's template. Some templates refuse
// what OpenAI allows: several system messages, turns of one role in a row. Those
// get the same text in the form that they take.
func (r *chatRequest) render(e pool.Engine) (*engine.Rendered, error) {
	if !strings.Contains(e.Model().ChatTemplate, "developer") {
		for i := range r.messages {
			if r.messages[i].Role == "developer" {
				r.messages[i].Role = "system"
			}
		}
	}
	_, begun := r.begun()
	chat := engine.Chat{
		Continue:   begun,
		NoThinking: r.effort == "none", TemplateArgs: r.templateArgs,
	}
	if r.effort != "" && r.effort != "none" {
		if chat.TemplateArgs == nil {
			chat.TemplateArgs = map[string][]byte{}
		}
		if _, given := chat.TemplateArgs["reasoning_effort"]; !given {
			chat.TemplateArgs["reasoning_effort"] = []byte(`"` + r.effort + `"`)
		}
	}
	messages := r.messages
	if r.format.asked() {
		messages = instruct(messages, r.format.instruction())
	}
	rendered, err := r.renderForms(e, chat, messages)
	if err != nil {
		if merged := mergeTurns(messages); len(merged) < len(messages) {
			return r.renderForms(e, chat, merged)
		}
	}
	return rendered, err
}

// renderForms renders with what constrains the answer: tools, a schema, or both.
func (r *chatRequest) renderForms(e pool.Engine, chat engine.Chat, messages []message) (*engine.Rendered, error) {
	answer := chat
	if r.format.asked() {
		answer.Schema = placeholder
	}
	calls := r.tools.offered() && r.tools.choice.mode != "none"
	if err := r.tools.render(&chat); err != nil {
		return nil, err
	}
	switch {
	case !r.format.asked() && !calls:
		return renderMessages(e, chat, messages)
	case !calls:
		answer.Tools, answer.ToolChoice = chat.Tools, chat.ToolChoice
		rendered, err := renderMessages(e, answer, messages)
		if err == nil {
			r.putAnswer(rendered)
		}
		return rendered, err
	}
	rendered, err := renderMessages(e, chat, messages)
	if err != nil {
		return nil, err
	}
	// Either nothing holds a call until it comes, or the template knows no tools:
	// then there is no grammar for one that must come either.
	required := rendered
	if chat.ToolChoice != "required" && (rendered.Grammar.Text == "" || r.format.asked()) {
		forced := chat
		forced.ToolChoice = "required"
		if required, err = renderMessages(e, forced, messages); err != nil {
			return nil, err
		}
	}
	if required.Grammar.Text == "" {
		return r.renderPlain(e, chat, messages)
	}
	if rendered.Grammar.Text == "" && !r.format.asked() {
		r.tools.wait(&rendered.Grammar, required.Grammar)
	}
	if err := r.tools.put(&rendered.Grammar); err != nil || !r.format.asked() || chat.ToolChoice == "required" {
		return rendered, err
	}
	// A call, or an answer by the schema.
	if err := r.tools.put(&required.Grammar); err != nil {
		return nil, err
	}
	byFormat, err := renderMessages(e, answer, messages)
	if err != nil {
		return nil, err
	}
	alone := r.putAnswer(byFormat)
	begun, _ := r.begun()
	rendered.Grammar = either(required.Grammar, byFormat.Grammar, alone, begun)
	return rendered, nil
}

// begun is the answer's beginning, which a client may give as a last message of the
// assistant's. The answer is what comes after it.
func (r *chatRequest) begun() (text string, ok bool) {
	last := r.messages[len(r.messages)-1]
	if last.Role != "assistant" || len(last.ToolCalls) > 0 {
		return "", false
	}
	return last.Content, true
}

// verifies says whether answers were promised to keep to a schema.
func (r *chatRequest) verifies() bool {
	return r.format.asked() || slices.ContainsFunc(r.tools.list, func(t tool) bool { return t.strict })
}

// verify holds an answer that has ended against what was promised of it. A grammar has
// kept it to that; but a grammar may be wrong, and a call that came where none was
// waited for was kept to nothing. One that was cut off is known to be incomplete.
func (r *chatRequest) verify(c *collected) error {
	if c.finish != engine.FinishStop {
		return nil
	}
	if len(c.calls) == 0 {
		begun, _ := r.begun()
		return r.format.check(begun + c.text.String())
	}
	for i := range c.calls {
		if err := r.tools.verify(&c.calls[i].Function); err != nil {
			return err
		}
	}
	return nil
}

// putAnswer puts the schema of the answer into a rendered chat. It reports whether the
// schema is all of the grammar: the text is the content, byte for byte.
func (r *chatRequest) putAnswer(rendered *engine.Rendered) (alone bool) {
	if rendered.Parser != "" && putSchema(&rendered.Grammar, answerRule, r.format.grammar) {
		return false
	}
	rendered.Grammar = r.onlySchema()
	return true
}

// onlySchema makes the answer's schema the whole grammar, from what the answer has begun
// with on.
func (r *chatRequest) onlySchema() engine.Grammar {
	g := engine.Grammar{Text: "root ::= " + r.format.grammar.Root + "\n" + r.format.grammar.Rules}
	g.GenerationPrompt, g.FromChat = r.begun()
	return g
}

// tellLoose says in headers what of the schemas is not enforced.
func (r *chatRequest) tellLoose(h http.Header) {
	tellLoose(h, r.format.field, r.format.grammar)
	for i := range r.tools.list {
		tellLoose(h, r.tools.list[i].field, r.tools.list[i].grammar)
	}
}

// instruct adds to the system's message, or makes one.
func instruct(messages []message, text string) []message {
	messages = slices.Clone(messages)
	for i := range messages {
		if messages[i].Role == "system" || messages[i].Role == "developer" {
			messages[i].Content += "\n\n" + text
			return messages
		}
	}
	return slices.Insert(messages, 0, message{Role: "system", Content: text})
}

func renderMessages(e pool.Engine, chat engine.Chat, messages []message) (*engine.Rendered, error) {
	text, err := json.Marshal(messages)
	if err != nil {
		return nil, err
	}
	chat.Messages = text
	return e.Render(chat)
}

// mergeTurns puts all system messages into one at the front, and joins plain
// messages of one role that follow each other.
func mergeTurns(messages []message) []message {
	var system []string
	var merged []message
	for _, m := range messages {
		if m.Role == "system" || m.Role == "developer" {
			system = append(system, m.Content)
			continue
		}
		plain := len(m.ToolCalls) == 0 && m.ToolCallID == "" && m.Reasoning == ""
		if n := len(merged); n > 0 && plain && merged[n-1].Role == m.Role && len(merged[n-1].ToolCalls) == 0 {
			merged[n-1].Content += "\n\n" + m.Content // the marks of its images with it
			continue
		}
		merged = append(merged, m)
	}
	if len(system) > 0 {
		merged = slices.Insert(merged, 0, message{Role: "system", Content: strings.Join(system, "\n\n")})
	}
	return merged
}

package ollama

import (
	"context"
	"errors"

	"net/http"
	"regexp"
	"strconv"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

var chatTable = join(modelFields, streamFields, loadFields, answerFields, table{
	{
		Name: "messages",
		Type: wire.Of(messagesSchema, readMessages, func(r *request) *[]prompt.Message { return &r.messages }),
		Doc:  "The conversation; an empty one only loads the model. The content of a message is a string; images are Base64.",
	},
	{
		Name: "tools",
		Type: wire.Of(toolsSchema, readTools, func(r *request) *[]prompt.Tool { return &r.tools }),
		Doc:  "Functions that the model may call.",
	},
})

var (
	messagesSchema = wire.ListOf(wire.Open(map[string]wire.Schema{
		"role":       {"type": "string", "pattern": "^(?i:system|user|assistant|tool)$"},
		"content":    wire.String,
		"thinking":   wire.String,
		"images":     wire.ListOf(wire.String, maxImages),
		"tool_calls": wire.ListOf(wire.Object, maxCalls),
	}, "role"), maxMessages).Examples(`[{"role":"User","content":"x"}]`)

	toolsSchema = wire.ListOf(wire.Open(map[string]wire.Schema{
		"function": wire.Open(map[string]wire.Schema{
			"name":        wire.String,
			"description": wire.String,
			"parameters":  wire.Object,
		}, "name"),
	}, "function"), prompt.MaxTools).Examples(`[{"function":{"name":"f"}}]`)
)

var toolName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)

// noParameters is the schema of a function without parameters.
var noParameters = []byte(`{"type":"object","properties":{}}`)

// chat answers POST /api/chat.
func (api *API) chat(w http.ResponseWriter, r *http.Request) *fault.Error {
	a := &answer{begun: time.Now(), chat: true}
	req, e := api.read(w, r, chatTable)
	if e != nil {
		return e
	}
	if req.model == "" {
		return fault.New(fault.MissingField, "model", "model is required")
	}
	a.req = req
	if len(req.messages) == 0 {
		return api.loadOrUnload(w, r, a)
	}
	return api.answer(w, r, a, req.conversation(), "messages")
}

// loadOrUnload answers a request that asks for nothing: it loads the model, or with a keep_alive of 0
// unloads it.
func (api *API) loadOrUnload(w http.ResponseWriter, r *http.Request, a *answer) *fault.Error {
	req := a.req
	if req.keepAlive != nil && *req.keepAlive == 0 {
		if e := service.RequireManager(r.Context()); e != nil {
			return e
		}
		m, e := api.service.Find(r.Context(), req.model)
		if e != nil {
			return notFound(e, req.model)
		}
		api.pool.Unload(m)
		return write(w, a.appendShort(nil, "unload"))
	}

	model, e := api.service.Model(r.Context(), req.model)
	if e != nil {
		return notFound(e, req.model)
	}
	defer model.Release()
	api.keep(r.Context(), model.Model, req)
	return write(w, a.appendShort(nil, "load"))
}

// worker loads the model of a request that writes text.
func (api *API) worker(ctx context.Context, a *answer) (*pool.Lease, *fault.Error) {
	req := a.req
	model, e := api.service.Worker(ctx, req.model, engine.TierDefault)
	if e != nil {
		return nil, notFound(e, req.model)
	}
	api.keep(ctx, model.Model, req)
	a.model = model
	a.reader = service.NewReader(ctx, model)
	a.loaded = time.Since(a.begun)

	m := model.Engine.Model()
	switch {
	case !m.Generates:
		e = fault.New(fault.UnsupportedModel, "model", "%q does not support %s", req.model, a.operation())
	case req.think != nil && *req.think && !prompt.Thinks(m.ChatTemplate):
		e = fault.New(fault.Unsupported, "think", "%q does not support thinking", req.model)
	}
	if e != nil {
		model.Release()
		return nil, e
	}
	return model, nil
}

// answer answers a request by a conversation. Field is its name in errors.
func (api *API) answer(
	w http.ResponseWriter, r *http.Request, a *answer, c *prompt.Conversation, field string,
) *fault.Error {
	model, e := api.worker(r.Context(), a)
	if e != nil {
		return e
	}
	reply := service.NewReply(model)
	defer reply.Close()
	reply.Verify = c.Verifier(1, len(a.req.stop) > 0)

	limits := model.Engine.Limits()
	if a.req.context > limits.Context {
		a.req.notes.Ignore("options.num_ctx")
		a.req.setHeader(w.Header())
	}
	p, err := api.fit(r.Context(), w.Header(), a, c)
	if err != nil {
		return tooManyMessages(service.Fault(err, field), a)
	}
	if a.req.debug {
		return write(w, a.appendDebug(nil, p.Text()))
	}

	er := a.req.engineRequest(limits)
	p.Tokens = follow(model.Engine.Model(), a.req.before, p.Tokens)
	p.Ask(&er)
	wire.AddList(w.Header(), wire.NotesHeader, p.Notes)
	wire.AddList(w.Header(), schemaHeader, p.NotEnforced)
	return api.generateReply(w, r, a, reply, er, field)
}

// tooManyMessages adds to the error for a conversation that is too long what could be done about it.
func tooManyMessages(e *fault.Error, a *answer) *fault.Error {
	if e.Kind == fault.ContextExceeded && a.chat && a.req.truncate == nil {
		e.Message += ` With "truncate": true the oldest messages are dropped.`
	}
	return e
}

// schemaHeader lists the parts of the request's schemas that are not enforced.
const schemaHeader = "X-Schema-Not-Enforced"

// generateReply starts an answer and writes it.
func (api *API) generateReply(
	w http.ResponseWriter, r *http.Request, a *answer, reply *service.Reply, er engine.Request, field string,
) *fault.Error {
	if err := reply.Generate(r.Context(), er); err != nil {
		return service.Fault(err, field)
	}
	a.prompt = er.Prompt
	a.stream = reply.Streams[0]
	if a.req.stream {
		return api.stream(w, r, reply, newEncoder(a))
	}
	return a.complete(w, r, reply, field)
}

// follow returns the tokens of a conversation that came before, and those of the prompt after them.
func follow(m *engine.ModelInfo, before, tokens []engine.Token) []engine.Token {
	if len(before) == 0 {
		return tokens
	}
	if m.Marks.BOS >= 0 && len(tokens) > 0 && tokens[0] == m.Marks.BOS {
		tokens = tokens[1:]
	}
	return append(append([]engine.Token{}, before...), tokens...)
}

// truncatedHeader says how many messages were left out because the conversation was too long.
const truncatedHeader = "X-Truncated-Messages"

// answerShare is the part of the context that truncation leaves for the answer, if num_predict does not
// say how long it may be.
const answerShare = 4

// fit builds the prompt. A conversation that is too long is an error, unless the request asks for it to
// be truncated: then the oldest messages are left out, but no system message and not the last one.
func (api *API) fit(
	ctx context.Context, h http.Header, a *answer, c *prompt.Conversation,
) (*prompt.Prompt, error) {
	p, err := api.service.Prompt(ctx, a.model, c)
	if a.req.truncate == nil || !*a.req.truncate {
		return p, err
	}

	l := a.model.Engine.Limits()
	limit := l.Context - l.Context/answerShare
	if a.req.maxTokens > 0 {
		limit = max(1, l.Context-a.req.maxTokens)
	}
	fits := func() (bool, error) {
		var length *engine.LengthError
		if errors.As(err, &length) {
			return false, nil
		}
		return err == nil && len(p.Tokens) <= limit, err
	}
	if ok, other := fits(); ok || other != nil {
		return p, other
	}

	// The least number of messages without which it fits, between one that does not and one that may.
	all := c.Messages
	short := *c
	low := 0
	high := droppable(all)
	for low < high {
		middle := (low + high) / 2
		short.Messages = without(all, middle+1)
		p, err = api.service.Prompt(ctx, a.model, &short)
		ok, other := fits()
		if other != nil {
			return nil, other
		}
		if ok {
			high = middle
		} else {
			low = middle + 1
		}
	}

	n := min(low+1, droppable(all))
	c.Messages = without(all, n)
	h.Set(truncatedHeader, strconv.Itoa(len(all)-len(c.Messages)))
	return api.service.Prompt(ctx, a.model, c)
}

// droppable counts the messages that truncation may leave out.
func droppable(messages []prompt.Message) (n int) {
	for _, m := range messages[:len(messages)-1] {
		if m.Role != prompt.System {
			n++
		}
	}
	return n
}

// without returns the messages without the n oldest that are not the system's, and without results whose
// calls are among those.
func without(messages []prompt.Message, n int) []prompt.Message {
	var kept []prompt.Message
	begun := false // a message that is not the system's is kept
	for i, m := range messages {
		last := i == len(messages)-1
		if m.Role == prompt.System || last {
			kept = append(kept, m)
			continue
		}
		if n > 0 || !begun && m.Role == prompt.ToolRole {
			n--
			continue
		}
		begun = true
		kept = append(kept, m)
	}
	return kept
}

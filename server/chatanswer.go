package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

const chatChunk = "chat.completion.chunk"

// streamChat writes a chat's chunks in the order that OpenAI's come in: for
// every choice its role first and once, then its text and its calls, then why it
// ended.
func streamChat(out *sse, a *answer, r *chatRequest, c *prompt.Conversation, stream *engine.Stream) {
	w := newChatWriter(a, r, c)
	err := out.follow(stream, func(events []engine.Event) error {
		w.buf = w.buf[:0]
		for i := range events {
			if w.verify != nil {
				if err := w.verify(&events[i]); err != nil {
					return errors.Join(out.write(w.buf), err)
				}
			}
			w.event(&events[i])
		}
		return out.write(w.buf)
	})
	if err != nil {
		out.fail(err)
		return
	}
	w.buf = w.buf[:0]
	if a.params.includeUsage {
		var u usage
		u.add(stream.Usage())
		w.buf = append(w.buf, a.usageChunk(chatChunk, u)...)
	}
	_ = out.write(append(w.buf, sseDone...))
}

// chatWriter turns events into chunks, in buf.
type chatWriter struct {
	a          *answer
	tools      *tools
	head, tail []byte
	begun      []bool                    // choices whose role was told
	called     []bool                    // choices that call something
	verify     func(*engine.Event) error // nil if nothing was promised
	buf        []byte
}

func newChatWriter(a *answer, r *chatRequest, c *prompt.Conversation) *chatWriter {
	n := a.params.choices
	return &chatWriter{
		a:      a,
		tools:  &r.tools,
		head:   a.chunkHead(chatChunk),
		tail:   a.chunkTail(),
		begun:  make([]bool, n),
		called: make([]bool, n),
		verify: c.Verifier(n),
	}
}

// open begins a chunk of a choice, up to its delta's fields.
func (w *chatWriter) open(choice int) {
	w.buf = append(w.buf, w.head...)
	w.buf = strconv.AppendInt(w.buf, int64(choice), 10)
	w.buf = append(w.buf, `,"delta":{`...)
}

// shut ends a chunk after its delta's fields.
func (w *chatWriter) shut(finish engine.Finish, logprobs func([]byte) []byte) {
	w.buf = append(w.buf, `},"logprobs":`...)
	if logprobs == nil {
		w.buf = append(w.buf, "null"...)
	} else {
		w.buf = logprobs(w.buf)
	}
	w.buf = append(appendFinish(w.buf, finish), w.tail...)
}

// event writes the chunks of an event.
func (w *chatWriter) event(e *engine.Event) {
	w.begin(e)
	if e.Reasoning != "" {
		w.open(e.Choice)
		w.buf = wire.AppendString(append(w.buf, `"reasoning_content":`...), e.Reasoning)
		w.shut("", nil)
	}
	if e.Text != "" || len(e.Tokens) > 0 {
		w.open(e.Choice)
		w.buf = wire.AppendString(append(w.buf, `"content":`...), e.Text)
		w.shut("", func(b []byte) []byte { return appendChatLogprobs(b, w.a, e.Tokens) })
	}
	for i := range e.ToolCalls {
		w.call(e.Choice, &e.ToolCalls[i])
	}
	if e.Finish != "" {
		w.open(e.Choice)
		w.shut(w.tools.finish(e.Finish, w.called[e.Choice]), nil)
	}
}

// begin tells the roles of all choices up to an event's: the Python SDK fails on
// choice 1 before choice 0. Content that begins with a call is null.
func (w *chatWriter) begin(e *engine.Event) {
	for i := range e.Choice + 1 {
		if w.begun[i] {
			continue
		}
		w.begun[i] = true
		w.open(i)
		if i == e.Choice && e.Text == "" && len(e.ToolCalls) > 0 {
			w.buf = append(w.buf, `"role":"assistant","content":null,"refusal":null`...)
		} else {
			w.buf = append(w.buf, `"role":"assistant","content":"","refusal":null`...)
		}
		if w.a.params.logprobs {
			w.shut("", func(b []byte) []byte { return append(b, `{"content":[],"refusal":null}`...) })
		} else {
			w.shut("", nil)
		}
	}
}

// call writes what came anew of a call: its id, type and name once and first, in
// a chunk of their own, then its arguments.
func (w *chatWriter) call(choice int, d *engine.ToolCallDelta) {
	w.called[choice] = true
	if d.Name != "" {
		w.open(choice)
		if w.tools.legacy {
			w.buf = wire.AppendString(append(w.buf, `"function_call":{"name":`...), d.Name)
			w.buf = append(w.buf, `,"arguments":""}`...)
		} else {
			w.buf = strconv.AppendInt(append(w.buf, `"tool_calls":[{"index":`...), int64(d.Index), 10)
			w.buf = wire.AppendString(append(w.buf, `,"id":`...), callID(d.ID))
			w.buf = wire.AppendString(append(w.buf, `,"type":"function","function":{"name":`...), d.Name)
			w.buf = append(w.buf, `,"arguments":""}}]`...)
		}
		w.shut("", nil)
	}
	if d.Arguments == "" {
		return
	}
	w.open(choice)
	if w.tools.legacy {
		w.buf = append(wire.AppendString(append(w.buf, `"function_call":{"arguments":`...), d.Arguments), '}')
	} else {
		w.buf = strconv.AppendInt(append(w.buf, `"tool_calls":[{"index":`...), int64(d.Index), 10)
		w.buf = append(wire.AppendString(append(w.buf, `,"function":{"arguments":`...), d.Arguments), "}}]"...)
	}
	w.shut("", nil)
}

func appendChatLogprobs(b []byte, a *answer, tokens []engine.TokenInfo) []byte {
	if !a.params.logprobs {
		return append(b, "null"...)
	}
	b = append(b, `{"content":[`...)
	for i, t := range tokens {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTokenLogprob(b, t.Bytes, t.LogProb)
		b = append(b, `,"top_logprobs":[`...)
		for k, alt := range t.Alternatives {
			if k > 0 {
				b = append(b, ',')
			}
			b = append(appendTokenLogprob(b, prompt.Piece(a.model.Engine.Model(), alt.Token), alt.LogProb), '}')
		}
		b = append(b, "]}"...)
	}
	return append(b, `],"refusal":null}`...)
}

// appendTokenLogprob appends the fields of a token, without the closing brace.
func appendTokenLogprob(b, piece []byte, logprob float32) []byte {
	b = wire.AppendString(append(b, `{"token":`...), string(piece))
	b = wire.AppendFloat(append(b, `,"logprob":`...), logprob)
	return wire.AppendBytes(append(b, `,"bytes":`...), piece)
}

// chatChoice is a choice of a response that is not streamed.
type chatChoice struct {
	Index        int             `json:"index"`
	Message      chatMessage     `json:"message"`
	LogProbs     json.RawMessage `json:"logprobs"`
	FinishReason engine.Finish   `json:"finish_reason"`
}

type chatMessage struct {
	Role         string        `json:"role"`
	Content      *string       `json:"content"`
	Reasoning    string        `json:"reasoning_content,omitempty"`
	ToolCalls    []toolCall    `json:"tool_calls,omitempty"`
	FunctionCall *functionCall `json:"function_call,omitempty"`
	Refusal      *string       `json:"refusal"`
	Annotations  []int         `json:"annotations"`
}

// toolCall is a call in a whole answer.
type toolCall struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function functionCall `json:"function"`
}

type functionCall struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// callID names a call whose format has no id of its own.
func callID(id string) string {
	if id == "" {
		return "call_" + randomID()
	}
	return id
}

// message is a choice's whole answer as OpenAI writes it.
func (t *tools) message(c *collected) chatMessage {
	m := chatMessage{Role: "assistant", Reasoning: c.Reasoning(), Annotations: []int{}}
	if text := c.Text(); text != "" || len(c.Calls) == 0 {
		m.Content = &text
	}

	for _, call := range c.Calls {
		m.ToolCalls = append(m.ToolCalls, toolCall{
			ID:       callID(call.ID),
			Type:     "function",
			Function: functionCall{call.Name, call.Arguments},
		})
	}
	if t.legacy && len(c.Calls) > 0 {
		m.FunctionCall = &m.ToolCalls[0].Function
		m.ToolCalls = nil
	}
	return m
}

func (s *Server) completeChat(
	w http.ResponseWriter, r *http.Request, a *answer, req *chatRequest, c *prompt.Conversation, stream *engine.Stream,
) *fault.Error {
	choices, err := collect(r, stream, a.params.choices, c.Verifier(a.params.choices))
	if err != nil {
		return toFault(err, "messages")
	}

	body := responseBody[chatChoice]{
		ID:          a.id,
		Object:      "chat.completion",
		Created:     a.created,
		Model:       a.model.ID,
		Fingerprint: a.fingerprint,
		ServiceTier: cmp.Or(a.params.tierName, "default"),
	}
	body.Usage.add(stream.Usage())
	for i, choice := range choices {
		body.Choices = append(body.Choices, chatChoice{
			Index:        i,
			FinishReason: req.tools.finish(choice.Finish, len(choice.Calls) > 0),
			LogProbs:     appendChatLogprobs(nil, a, choice.tokens),
			Message:      req.tools.message(choice),
		})
	}
	return writeJSON(w, body)
}

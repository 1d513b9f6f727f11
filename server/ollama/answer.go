package ollama

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
)

// answer is the answer to a chat or to a prompt, streamed or not.
type answer struct {
	req    *request
	chat   bool
	begun  time.Time     // when the request came
	loaded time.Duration // until its model was had
	model  *pool.Lease
	reader prompt.Reader // of the model
	stream *engine.Stream
	prompt []engine.Token
	// keepsContext says that the answer ends with the tokens of the conversation.
	keepsContext bool
}

// operation is what the model is asked for, in Ollama's words.
func (a *answer) operation() string {
	if a.chat {
		return "chat"
	}
	return "generate"
}

// open begins an object, up to the fields of its content.
func (a *answer) open(b []byte) []byte {
	b = wire.AppendString(append(b, `{"model":`...), a.req.model)
	return appendTime(append(b, `,"created_at":`...), time.Now())
}

// appendContent appends the fields of the content to an object.
func (a *answer) appendContent(b []byte, text, thinking string, calls []prompt.ToolCall) []byte {
	if a.chat {
		b = wire.AppendString(append(b, `,"message":{"role":"assistant","content":`...), text)
	} else {
		b = wire.AppendString(append(b, `,"response":`...), text)
	}
	if thinking != "" {
		b = wire.AppendString(append(b, `,"thinking":`...), thinking)
	}
	b = appendCalls(b, calls)
	if a.chat {
		b = append(b, '}')
	}
	return b
}

// appendCalls appends the field of the calls, which are never cut in pieces.
func appendCalls(b []byte, calls []prompt.ToolCall) []byte {
	for i, call := range calls {
		if i == 0 {
			b = append(b, `,"tool_calls":[`...)
		} else {
			b = append(b, ',')
		}
		b = wire.AppendString(append(b, `{"id":`...), call.ID)
		b = append(b, `,"function":{"index":`...)
		b = strconv.AppendInt(b, int64(i), 10)
		b = wire.AppendString(append(b, `,"name":`...), call.Name)
		b = append(append(append(b, `,"arguments":`...), call.Arguments...), "}}"...)
	}
	if len(calls) > 0 {
		b = append(b, ']')
	}
	return b
}

// appendLogprobs appends the field of the log-probabilities, if there are any.
func (a *answer) appendLogprobs(b []byte, tokens []engine.TokenInfo) []byte {
	if len(tokens) == 0 {
		return b
	}

	b = append(b, `,"logprobs":[`...)
	for i, t := range tokens {
		if i > 0 {
			b = append(b, ',')
		}

		b = wire.AppendLogprob(b, t.Bytes, t.LogProb)
		for k, alt := range t.Alternatives {
			if k == 0 {
				b = append(b, `,"top_logprobs":[`...)
			} else {
				b = append(b, ',')
			}
			piece := prompt.Piece(a.model.Engine.Model(), alt.Token)
			b = append(wire.AppendLogprob(b, piece, alt.LogProb), '}')
		}

		if len(t.Alternatives) > 0 {
			b = append(b, ']')
		}

		b = append(b, '}')
	}

	return append(b, ']')
}

// appendEnd appends the fields of the last object, and closes it. Text is the whole answer.
func (a *answer) appendEnd(b []byte, finish engine.Finish, text string, u engine.Usage) []byte {
	b = append(append(append(b, `,"done":true,"done_reason":"`...), finish...), '"')
	if a.keepsContext {
		b = a.appendContext(b, text)
	}

	t := a.stream.Timeline()
	b = appendNumber(b, "total_duration", int64(time.Since(a.begun)))
	b = appendNumber(b, "load_duration", int64(max(a.loaded, 1)))
	b = appendNumber(b, "prompt_eval_count", int64(u.Prompt))
	b = appendNumber(b, "prompt_eval_duration", int64(max(t.First.Sub(t.Begun), 1)))
	b = appendNumber(b, "eval_count", int64(u.Completion))
	b = appendNumber(b, "eval_duration", int64(max(t.Ended.Sub(t.First), 1)))
	return append(b, '}')
}

// appendContext appends the tokens of the conversation so far, which a client may send back.
func (a *answer) appendContext(b []byte, text string) []byte {
	said, err := a.reader.Tokenize(text, engine.Reading{}, a.model.Engine.Limits().Context)
	if err != nil {
		return b // the model is gone; the answer is not
	}
	b = append(b, `,"context":[`...)
	for i, t := range append(append([]engine.Token{}, a.prompt...), said...) {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(t), 10)
	}
	return append(b, ']')
}

// appendNumber appends a field, which is left out if it is zero.
func appendNumber(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	return strconv.AppendInt(b, n, 10)
}

// appendShort appends the answer to a request that asks for nothing.
func (a *answer) appendShort(b []byte, reason string) []byte {
	b = a.appendContent(a.open(b), "", "", nil)
	return append(b, `,"done":true,"done_reason":"`+reason+`"}`...)
}

// appendDebug appends the answer to a request that only wants its prompt.
func (a *answer) appendDebug(b []byte, rendered string) []byte {
	b = wire.AppendString(append(a.open(b), `,"_debug_info":{"rendered_template":`...), rendered)
	images := len(a.req.images)
	if a.chat {
		for _, m := range a.req.messages {
			images += len(m.Images)
		}
	}
	return append(appendNumber(b, "image_count", int64(images)), "}}"...)
}

// complete writes an answer that is not streamed.
func (a *answer) complete(w http.ResponseWriter, r *http.Request, reply *service.Reply, field string) *fault.Error {
	var said prompt.Collector
	var tokens []engine.TokenInfo
	err := reply.Read(r.Context(), a.stream, func(e *engine.Event) {
		said.Add(e)
		tokens = append(tokens, e.Tokens...)
	})
	if err != nil {
		return service.Fault(err, field)
	}

	b := a.appendContent(a.open(nil), said.Text(), said.Reasoning(), whole(said.Calls))
	b = a.appendLogprobs(b, tokens)
	return write(w, a.appendEnd(b, said.Finish, said.Text(), a.stream.Usage()))
}

// whole returns the calls whose arguments are an object: the last one of an answer that was cut may not
// be. Those without an id get one.
func whole(calls []prompt.ToolCall) []prompt.ToolCall {
	var list []prompt.ToolCall
	for _, call := range calls {
		if !isObject(call.Arguments) {
			continue
		}
		if call.ID == "" {
			call.ID = newCallID()
		}
		call.Arguments = compact(json.RawMessage(call.Arguments))
		list = append(list, call)
	}
	return list
}

func isObject(text string) bool {
	return strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") && json.Valid([]byte(text))
}

func newCallID() string {
	var b [4]byte
	rand.Read(b[:])
	return "call_" + hex.EncodeToString(b[:])
}

var _ dialect.Encoder = (*encoder)(nil)

// encoder encodes a streamed answer, an object a line.
type encoder struct {
	*answer
	said   prompt.Collector
	finish engine.Finish
}

func newEncoder(a *answer) *encoder { return &encoder{answer: a} }

// ContentType implements dialect.Encoder.
func (*encoder) ContentType() string { return streamType }

// Begin implements dialect.Encoder.
func (*encoder) Begin(b []byte) []byte { return b }

// Ping implements dialect.Encoder. There is nothing that clients would skip.
func (*encoder) Ping(b []byte) []byte { return b }

// Fail implements dialect.Encoder.
func (*encoder) Fail(b []byte, e *fault.Error) []byte { return append(appendError(b, e), '\n') }

// Delta implements dialect.Encoder. Calls are sent at the end of the answer, when they are whole.
func (e *encoder) Delta(b []byte, _ int, ev *engine.Event) []byte {
	if e.keepsContext || len(ev.ToolCalls) > 0 || e.calling() {
		e.said.Add(ev)
	}
	if ev.Reasoning != "" {
		b = e.appendContent(e.open(b), "", ev.Reasoning, nil)
		b = append(b, notDone...)
	}
	if ev.Text != "" || len(ev.Tokens) > 0 {
		b = e.appendContent(e.open(b), ev.Text, "", nil)
		b = append(e.appendLogprobs(b, ev.Tokens), notDone...)
	}
	if ev.Finish == "" {
		return b
	}

	e.finish = ev.Finish
	if calls := whole(e.said.Calls); len(calls) > 0 {
		b = append(e.appendContent(e.open(b), "", "", calls), notDone...)
	}
	return b
}

// calling reports whether the answer has calls so far.
func (e *encoder) calling() bool { return len(e.said.Calls) > 0 }

const notDone = `,"done":false}` + "\n"

// End implements dialect.Encoder.
func (e *encoder) End(b []byte, used []engine.Usage) []byte {
	b = e.appendContent(e.open(b), "", "", nil)
	return append(e.appendEnd(b, e.finish, e.said.Text(), used[0]), '\n')
}

package openai

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

const chatChunk = "chat.completion.chunk"

// chatEncoder encodes the chunks of a chat in OpenAI's order. Each choice has first its role, then
// text and calls, then its finish_reason.
type chatEncoder struct {
	chunks
	tools  *tools
	begun  []bool                     // choices whose role has been sent
	calls  []int                      // of each choice
	inputs map[callPlace]*inputReader // of calls of custom tools

	hideReasoning bool
}

// callPlace is the place of a call in an answer.
type callPlace struct{ choice, index int }

func newChatEncoder(a *answer, r *chatRequest) *chatEncoder {
	return &chatEncoder{
		chunks: newChunks(a, chatChunk),
		tools:  &r.tools,
		begun:  make([]bool, a.params.choices),
		calls:  make([]int, a.params.choices),
		inputs: map[callPlace]*inputReader{},

		hideReasoning: r.hideReasoning,
	}
}

// Begin implements dialect.Encoder.
func (c *chatEncoder) Begin(b []byte) []byte { return b }

// End implements dialect.Encoder.
func (c *chatEncoder) End(b []byte, used []engine.Usage) []byte {
	var u usage
	for _, each := range used {
		u.add(each)
	}
	return c.end(b, u)
}

// openDelta begins a chunk, up to the fields of its delta.
func (c *chatEncoder) openDelta(b []byte, choice int) []byte {
	return append(c.open(b, choice), `,"delta":{`...)
}

// shutDelta ends a chunk after the fields of its delta.
func (c *chatEncoder) shutDelta(b []byte, finish engine.Finish) []byte {
	return c.shut(append(b, `},"logprobs":null`...), finish)
}

// Delta implements dialect.Encoder.
func (c *chatEncoder) Delta(b []byte, _ int, e *engine.Event) []byte {
	b = c.appendRoles(b, e)
	if e.Reasoning != "" && !c.hideReasoning {
		b = c.openDelta(b, e.Choice)
		b = wire.AppendString(append(b, `"reasoning_content":`...), e.Reasoning)
		b = c.shutDelta(b, "")
	}
	if text := e.Text + c.params.stopText(e); text != "" || len(e.Tokens) > 0 {
		b = c.openDelta(b, e.Choice)
		b = wire.AppendString(append(b, `"content":`...), text)
		b = appendChatLogprobs(append(b, `},"logprobs":`...), c.answer, e.Tokens)
		b = c.shut(b, "")
	}

	for i := range e.ToolCalls {
		b = c.appendCall(b, e.Choice, &e.ToolCalls[i])
	}
	if e.Finish != "" {
		b = c.endInputs(b, e.Choice)
		b = c.openDelta(b, e.Choice)
		b = c.shutDelta(b, c.tools.finish(e.Finish, c.calls[e.Choice] > 0))
	}
	return b
}

// appendRoles appends the roles of all choices up to the event's. The Python SDK fails if choice 1
// comes before choice 0. The content is null if the choice begins with a call.
func (c *chatEncoder) appendRoles(b []byte, e *engine.Event) []byte {
	for i := range e.Choice + 1 {
		if c.begun[i] {
			continue
		}
		c.begun[i] = true

		content := `""`
		if i == e.Choice && e.Text == "" && len(e.ToolCalls) > 0 {
			content = "null"
		}
		logprobs := "null"
		if c.params.logprobs {
			logprobs = `{"content":[],"refusal":null}`
		}
		b = c.openDelta(b, i)
		b = append(b, `"role":"assistant","content":`+content+`,"refusal":null},"logprobs":`+logprobs...)
		b = c.shut(b, "")
	}
	return b
}

// appendCall appends a part of a call. Its id, type and name come first, in a separate chunk.
func (c *chatEncoder) appendCall(b []byte, choice int, d *engine.ToolCallDelta) []byte {
	c.calls[choice] = max(c.calls[choice], d.Index+1)
	at := callPlace{choice, d.Index}
	if d.Name != "" {
		if c.tools.kinds.origin(d.Name).kind == toolCustom {
			c.inputs[at] = &inputReader{}
		}
		b = c.openDelta(b, choice)
		b = c.appendName(b, d, c.inputs[at] != nil)
		b = c.shutDelta(b, "")
	}
	if input := c.inputs[at]; input != nil {
		return c.appendInput(b, at, input.add(d.Arguments))
	}
	if d.Arguments != "" {
		b = c.openDelta(b, choice)
		b = c.appendArguments(b, d)
		b = c.shutDelta(b, "")
	}
	return b
}

// appendInput appends a part of a custom tool's input, if there is any.
func (c *chatEncoder) appendInput(b []byte, at callPlace, text string) []byte {
	if text == "" {
		return b
	}
	b = c.openDelta(b, at.choice)
	b = strconv.AppendInt(append(b, `"tool_calls":[{"index":`...), int64(at.index), 10)
	b = wire.AppendString(append(b, `,"custom":{"input":`...), text)
	return c.shutDelta(append(b, "}}]"...), "")
}

// endInputs appends what remains of the inputs of a choice's custom tools.
func (c *chatEncoder) endInputs(b []byte, choice int) []byte {
	for index := range c.calls[choice] {
		at := callPlace{choice, index}
		if input := c.inputs[at]; input != nil {
			b = c.appendInput(b, at, input.end())
		}
	}
	return b
}

func (c *chatEncoder) appendName(b []byte, d *engine.ToolCallDelta, custom bool) []byte {
	if c.tools.legacy {
		b = wire.AppendString(append(b, `"function_call":{"name":`...), d.Name)
		return append(b, `,"arguments":""}`...)
	}
	b = strconv.AppendInt(append(b, `"tool_calls":[{"index":`...), int64(d.Index), 10)
	b = wire.AppendString(append(b, `,"id":`...), newCallID())
	if custom {
		b = wire.AppendString(append(b, `,"type":"custom","custom":{"name":`...), d.Name)
		return append(b, `,"input":""}}]`...)
	}
	b = wire.AppendString(append(b, `,"type":"function","function":{"name":`...), d.Name)
	return append(b, `,"arguments":""}}]`...)
}

func (c *chatEncoder) appendArguments(b []byte, d *engine.ToolCallDelta) []byte {
	if c.tools.legacy {
		b = wire.AppendString(append(b, `"function_call":{"arguments":`...), d.Arguments)
		return append(b, '}')
	}
	b = strconv.AppendInt(append(b, `"tool_calls":[{"index":`...), int64(d.Index), 10)
	b = wire.AppendString(append(b, `,"function":{"arguments":`...), d.Arguments)
	return append(b, "}}]"...)
}

func appendChatLogprobs(b []byte, a *answer, tokens []engine.TokenInfo) []byte {
	if !a.params.logprobs {
		return append(b, "null"...)
	}
	b = appendLogprobs(append(b, `{"content":`...), a, tokens)
	return append(b, `,"refusal":null}`...)
}

// appendLogprobs appends the list of tokens with their log-probabilities.
func appendLogprobs(b []byte, a *answer, tokens []engine.TokenInfo) []byte {
	b = append(b, '[')
	for i, t := range tokens {
		if i > 0 {
			b = append(b, ',')
		}
		b = wire.AppendLogprob(b, t.Bytes, t.LogProb)
		b = append(b, `,"top_logprobs":[`...)
		for k, alt := range t.Alternatives {
			if k > 0 {
				b = append(b, ',')
			}
			b = append(wire.AppendLogprob(b, a.piece(alt.Token), alt.LogProb), '}')
		}
		b = append(b, "]}"...)
	}
	return append(b, ']')
}

// chatChoice is a choice of a complete response.
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

// toolCall is a call in a complete response.
type toolCall struct {
	ID       string        `json:"id"`
	Type     string        `json:"type"`
	Function *functionCall `json:"function,omitempty"`
	Custom   *customCall   `json:"custom,omitempty"`
}

type customCall struct {
	Name  string `json:"name"`
	Input string `json:"input"`
}

type functionCall struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// newCallID returns an id for a call. What a model writes as one may be the same in every answer.
func newCallID() string { return "call_" + wire.RandomID() }

// message returns the message of a complete response.
func (t *tools) message(p *params, c *collected) chatMessage {
	m := chatMessage{Role: "assistant", Reasoning: c.Reasoning(), Annotations: []int{}}
	if text := p.answered(c); text != "" || len(c.Calls) == 0 {
		m.Content = &text
	}

	for _, call := range c.Calls {
		m.ToolCalls = append(m.ToolCalls, t.call(&call))
	}
	if t.legacy && len(c.Calls) > 0 {
		m.FunctionCall = m.ToolCalls[0].Function
		m.ToolCalls = nil
	}
	return m
}

// call returns a call as the client knows its tool.
func (t *tools) call(call *prompt.ToolCall) toolCall {
	c := toolCall{ID: newCallID(), Type: t.kinds.origin(call.Name).kind}
	if c.Type == toolCustom {
		c.Custom = &customCall{call.Name, inputOf(call.Arguments)}
	} else {
		c.Function = &functionCall{call.Name, call.Arguments}
	}
	return c
}

// completeChat writes a response that is not streamed.
func completeChat(
	w http.ResponseWriter, r *http.Request, a *answer, req *chatRequest, reply *service.Reply,
) *fault.Error {
	stream := reply.Streams[0]
	choices, err := collect(r.Context(), reply, stream, a.params.choices)
	if err != nil {
		return service.Fault(err, "messages")
	}

	body := responseBody[chatChoice]{
		ID:          a.id,
		Object:      "chat.completion",
		Created:     a.created,
		Model:       a.name,
		Fingerprint: a.fingerprint,
		ServiceTier: cmp.Or(a.params.tierName, "default"),
	}

	body.Usage.add(stream.Usage())
	for i, choice := range choices {
		message := req.tools.message(a.params, choice)
		if req.hideReasoning {
			message.Reasoning = ""
		}
		body.Choices = append(body.Choices, chatChoice{
			Index:        i,
			FinishReason: req.tools.finish(choice.Finish, len(choice.Calls) > 0),
			LogProbs:     appendChatLogprobs(nil, a, choice.tokens),
			Message:      message,
		})
	}

	return wire.WriteJSON(w, body)
}

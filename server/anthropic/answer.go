package anthropic

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"serve/engine"
	"serve/fault"
	"serve/server/wire"
	"serve/service"
)

// The types of content blocks of an answer.
const (
	textBlock     = "text"
	thinkingBlock = "thinking"
	toolBlock     = "tool_use"
)

// answer contains what streamed and complete answers have in common.
type answer struct {
	id     string
	req    *request
	reply  *service.Reply
	ending ending
}

func newAnswer(req *request, reply *service.Reply) *answer {
	return &answer{id: "msg_" + wire.RandomID(), req: req, reply: reply}
}

// ending is why an answer ended.
type ending struct {
	finish engine.Finish
	stop   string // the stop string that ended it, the template's own among them
	calls  int
	broken bool // the last call was cut off, or its arguments are no object
}

// note notes the end of an answer.
func (a *answer) note(e *engine.Event) {
	if e.Finish != "" {
		a.ending.finish = e.Finish
		a.ending.stop = e.Stop
	}
}

// called notes the end of a call.
func (a *answer) called(arguments []byte) {
	a.ending.calls++
	a.ending.broken = !isObject(arguments)
}

// isObject reports whether the arguments of a call are an object. Without any they are.
func isObject(arguments []byte) bool {
	trimmed := bytes.TrimLeft(arguments, " \t\r\n")
	return len(trimmed) == 0 || trimmed[0] == '{' && json.Valid(trimmed)
}

// stopReason returns the fields stop_reason and stop_sequence; the latter may be empty.
func (a *answer) stopReason(usage engine.Usage) (reason, sequence string) {
	switch e := &a.ending; {
	case e.calls > 0 && !e.broken:
		return "tool_use", ""
	case e.finish == engine.FinishLength && usage.Completion < a.req.maxTokens:
		return "model_context_window_exceeded", ""
	case e.finish == engine.FinishLength:
		return "max_tokens", ""
	case e.stop != "" && slices.Contains(a.req.stops, e.stop):
		return "stop_sequence", e.stop
	}
	return "end_turn", ""
}

// appendMessage appends the message, with content blocks that are JSON. Until it has ended the
// reason is empty.
func (a *answer) appendMessage(b, content []byte, reason, sequence string, usage engine.Usage) []byte {
	b = append(b, `{"id":"`+a.id+`","type":"message","role":"assistant","model":`...)
	b = wire.AppendString(b, a.req.model)
	b = append(b, `,"content":[`...)
	b = append(b, content...)
	b = append(b, "],"...)
	b = appendReason(b, reason, sequence)
	b = append(b, `,"stop_details":null,"container":null,"diagnostics":null`...)
	b = a.appendManaged(b, reason != "")
	b = append(b, `,"usage":{`...)
	b = appendUsage(b, usage)
	return append(b, `,"cache_creation":null,"output_tokens_details":null,"server_tool_use":null,`+
		`"inference_geo":null,"service_tier":"standard","speed":null}}`...)
}

// appendManaged appends what was removed from the conversation, if the request asks for that. It is told at
// the end.
func (a *answer) appendManaged(b []byte, ended bool) []byte {
	switch {
	case !a.req.managed:
		return b
	case !ended:
		return append(b, `,"context_management":null`...)
	}
	return appendEdits(append(b, `,"context_management":`...), a.req.applied)
}

// appendReason appends the fields with why an answer ended.
func appendReason(b []byte, reason, sequence string) []byte {
	b = appendOptional(append(b, `"stop_reason":`...), reason)
	return appendOptional(append(b, `,"stop_sequence":`...), sequence)
}

func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return wire.AppendString(b, s)
}

// appendUsage appends the counts of tokens. The prompt is the sum of the three for input.
func appendUsage(b []byte, u engine.Usage) []byte {
	b = strconv.AppendInt(append(b, `"input_tokens":`...), int64(u.Prompt-u.Cached), 10)
	b = append(b, `,"cache_creation_input_tokens":0,"cache_read_input_tokens":`...)
	b = strconv.AppendInt(b, int64(u.Cached), 10)
	return strconv.AppendInt(append(b, `,"output_tokens":`...), int64(u.Completion), 10)
}

// appendBlock appends a content block, up to what it contains: the value of its field.
func appendBlock(b []byte, p *piece) []byte {
	switch p.kind {
	case thinkingBlock:
		return append(b, `{"type":"thinking","thinking":`...)
	case toolBlock:
		b = wire.AppendString(append(b, `{"type":"tool_use","id":`...), newCallID())
		b = wire.AppendString(append(b, `,"name":`...), p.name)
		return append(b, `,"caller":{"type":"direct"},"input":`...)
	}
	// There is no field for citations if there are none: null is no valid list to the AI SDK.
	return append(b, `{"type":"text","text":`...)
}

// newCallID returns an id for a call. What a model writes as one may be the same in every answer.
func newCallID() string { return "toolu_" + wire.RandomID() }

// piece is a part of a content block.
type piece struct {
	kind string
	call int // its index, if it is one
	name string
	text string // or thinking, or JSON of the input
}

// begins reports whether a piece begins a block after the one of another.
func (p *piece) begins(after *piece) bool { return p.kind != after.kind || p.call != after.call }

// pieces calls do for the pieces of an event, in the order of their blocks. What continues a call
// comes first: an event may contain the end of one block and the beginning of the next.
func (a *answer) pieces(e *engine.Event, do func(*piece)) {
	call := func(c *engine.ToolCallDelta) {
		do(&piece{kind: toolBlock, call: c.Index, name: c.Name, text: c.Arguments})
	}

	begun := 0 // calls before this one continue one that has begun
	for begun < len(e.ToolCalls) && e.ToolCalls[begun].Name == "" {
		call(&e.ToolCalls[begun])
		begun++
	}
	if e.Reasoning != "" {
		do(&piece{kind: thinkingBlock, text: e.Reasoning})
	}
	if e.Text != "" {
		do(&piece{kind: textBlock, text: e.Text})
	}
	for i := range e.ToolCalls[begun:] {
		call(&e.ToolCalls[begun+i])
	}
}

// collector collects the content of a complete answer.
type collector struct {
	*answer
	content []byte // finished blocks
	open    piece  // without a kind if no block is open
	text    []byte // of the open block
}

// add adds a piece.
func (c *collector) add(p *piece) {
	if p.begins(&c.open) {
		c.close()
		c.open = *p
	}
	c.text = append(c.text, p.text...)
}

// close finishes the open block. A call whose arguments are no object is left out: its input cannot
// be written, and nobody should act on a part of it.
func (c *collector) close() {
	if c.open.kind == toolBlock {
		c.called(c.text)
	}
	if c.open.kind != "" && (c.open.kind != toolBlock || !c.ending.broken) {
		c.finish()
	}
	c.open = piece{}
	c.text = c.text[:0]
}

// finish appends the open block to the content.
func (c *collector) finish() {
	if len(c.content) > 0 {
		c.content = append(c.content, ',')
	}
	c.content = appendBlock(c.content, &c.open)
	switch {
	case c.open.kind == thinkingBlock:
		thinking, signature := c.shown(c.text)
		c.content = wire.AppendString(c.content, thinking)
		c.content = wire.AppendString(append(c.content, `,"signature":`...), signature)
	case c.open.kind == textBlock:
		c.content = wire.AppendString(c.content, string(c.text))
	case len(c.text) == 0:
		c.content = append(c.content, "{}"...)
	default:
		c.content = append(c.content, c.text...)
	}
	c.content = append(c.content, '}')
}

// shown returns the fields of a thinking block.
func (a *answer) shown(thinking []byte) (text, signature string) {
	if a.req.thinking.omitted {
		return "", sign(thinking)
	}
	return string(thinking), ""
}

// complete writes an answer that is not streamed.
func (a *answer) complete(w http.ResponseWriter, r *http.Request) *fault.Error {
	stream := a.reply.Streams[0]
	c := &collector{answer: a}
	err := a.reply.Read(r.Context(), stream, func(e *engine.Event) {
		a.pieces(e, c.add)
		a.note(e)
	})
	if err != nil {
		return service.Fault(err, "messages")
	}

	c.close()
	if len(c.content) == 0 {
		c.open.kind = textBlock // clients read the first block without a look
		c.finish()
	}

	usage := stream.Usage()
	reason, sequence := a.stopReason(usage)
	wire.WriteBody(w, http.StatusOK, a.appendMessage(nil, c.content, reason, sequence, usage))
	return nil
}

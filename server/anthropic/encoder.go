package anthropic

import (
	"strconv"

	"serve/engine"
	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
)

var _ dialect.Encoder = (*encoder)(nil)

// encoder encodes the events of an answer: the message's beginning, its content blocks one after
// another, and its end.
type encoder struct {
	*answer
	id     string // of the request
	blocks int    // begun so far
	open   piece  // without a kind if no block is open
	kept   []byte // the input of the open call, or the open block's thinking that is not shown
}

// ContentType implements dialect.Encoder.
func (*encoder) ContentType() string { return wire.EventStream }

// Ping implements dialect.Encoder.
func (*encoder) Ping(b []byte) []byte { return endEvent(beginEvent(b, "ping")) }

// Fail implements dialect.Encoder.
func (e *encoder) Fail(b []byte, err *fault.Error) []byte {
	return wire.AppendEvent(b, "error", envelope(err, e.id))
}

// beginEvent begins an event of a type, up to the fields after it.
func beginEvent(b []byte, kind string) []byte {
	b = append(append(b, "event: "...), kind...)
	b = wire.BeginEvent(append(b, '\n'))
	return append(append(append(b, `{"type":"`...), kind...), '"')
}

// endEvent ends an event after its fields.
func endEvent(b []byte) []byte { return wire.EndEvent(append(b, '}')) }

// Begin implements dialect.Encoder. The usage is that of a prompt of which nothing has been read from
// the cache, and no answer, also if the engine is ahead: the end of the stream replaces it.
func (e *encoder) Begin(b []byte) []byte {
	usage := engine.Usage{Prompt: e.reply.Usage()[0].Prompt}
	b = append(beginEvent(b, "message_start"), `,"message":`...)
	return endEvent(e.appendMessage(b, nil, "", "", usage))
}

// Delta implements dialect.Encoder.
func (e *encoder) Delta(b []byte, _ int, ev *engine.Event) []byte {
	e.pieces(ev, func(p *piece) {
		if p.begins(&e.open) {
			b = e.start(e.stop(b), p)
		}
		if p.text != "" {
			b = e.delta(b, p)
		}
	})
	e.note(ev)
	return b
}

// at begins an event about the last block that was begun.
func (e *encoder) at(b []byte, kind string) []byte {
	return strconv.AppendInt(append(beginEvent(b, kind), `,"index":`...), int64(e.blocks-1), 10)
}

// start begins a block, which is empty.
func (e *encoder) start(b []byte, p *piece) []byte {
	e.open = *p
	e.blocks++

	b = append(e.at(b, "content_block_start"), `,"content_block":`...)
	b = appendBlock(b, p)
	switch p.kind {
	case toolBlock:
		b = append(b, "{}"...)
	case thinkingBlock:
		b = append(b, `"","signature":""`...)
	default:
		b = append(b, `""`...)
	}
	return endEvent(append(b, '}'))
}

// deltas are the beginnings of what is new in a block, by its type.
var deltas = map[string]string{
	textBlock:     `,"delta":{"type":"text_delta","text":`,
	thinkingBlock: `,"delta":{"type":"thinking_delta","thinking":`,
	toolBlock:     `,"delta":{"type":"input_json_delta","partial_json":`,
}

// delta appends what is new in the open block.
func (e *encoder) delta(b []byte, p *piece) []byte {
	hidden := p.kind == thinkingBlock && e.req.thinking.omitted
	if hidden || p.kind == toolBlock {
		e.kept = append(e.kept, p.text...)
	}
	if hidden {
		return b
	}
	b = append(e.at(b, "content_block_delta"), deltas[p.kind]...)
	return endEvent(append(wire.AppendString(b, p.text), '}'))
}

// stop ends the open block, if there is one. Clients wait for a signature at the end of the thinking.
func (e *encoder) stop(b []byte) []byte {
	switch e.open.kind {
	case "":
		return b
	case toolBlock:
		e.called(e.kept)
	case thinkingBlock:
		_, signature := e.shown(e.kept)
		b = append(e.at(b, "content_block_delta"), `,"delta":{"type":"signature_delta","signature":`...)
		b = endEvent(append(wire.AppendString(b, signature), '}'))
	}
	e.open = piece{}
	e.kept = e.kept[:0]
	return endEvent(e.at(b, "content_block_stop"))
}

// End implements dialect.Encoder.
func (e *encoder) End(b []byte, usage []engine.Usage) []byte {
	b = e.stop(b)
	if e.blocks == 0 {
		b = e.stop(e.start(b, &piece{kind: textBlock})) // as in a complete answer
	}

	reason, sequence := e.stopReason(usage[0])
	b = append(beginEvent(b, "message_delta"), `,"delta":{`...)
	b = appendReason(b, reason, sequence)
	b = e.appendManaged(append(b, '}'), true)
	b = append(b, `,"usage":{`...)
	b = appendUsage(b, usage[0])
	b = endEvent(append(b, `,"output_tokens_details":null,"server_tool_use":null}`...))
	return endEvent(beginEvent(b, "message_stop"))
}

package prompt

import (
	"strings"

	"serve/engine"
)

// Collector assembles one answer from its events.
type Collector struct {
	Calls  []ToolCall // complete at the end of the answer; the ID is empty if the format has none
	Finish engine.Finish

	text      strings.Builder
	reasoning strings.Builder
	arguments []*strings.Builder // by call
}

// Text returns the content.
func (r *Collector) Text() string { return r.text.String() }

// Reasoning returns the reasoning that precedes the content.
func (r *Collector) Reasoning() string { return r.reasoning.String() }

// Add adds an event.
func (r *Collector) Add(e *engine.Event) {
	r.text.WriteString(e.Text)
	r.reasoning.WriteString(e.Reasoning)
	for i := range e.ToolCalls {
		r.addCall(&e.ToolCalls[i])
	}

	r.Finish = e.Finish
	if e.Finish == "" {
		return
	}
	for i := range r.Calls {
		r.Calls[i].Arguments = r.arguments[i].String()
	}
}

// addCall adds a part of a call.
func (r *Collector) addCall(d *engine.ToolCallDelta) {
	for len(r.Calls) <= d.Index {
		r.Calls = append(r.Calls, ToolCall{})
		r.arguments = append(r.arguments, &strings.Builder{})
	}
	if d.Name != "" {
		r.Calls[d.Index].ID = d.ID
		r.Calls[d.Index].Name = d.Name
	}
	r.arguments[d.Index].WriteString(d.Arguments)
}

// Piece returns the bytes of a token. For a control token it is its name.
func Piece(m *engine.ModelInfo, t engine.Token) []byte {
	if p := m.Pieces[t]; len(p) > 0 {
		return p
	}
	return m.Special[t]
}

// Text returns the text of tokens. Unknown tokens are skipped.
func Text(m *engine.ModelInfo, tokens []engine.Token) string {
	var b strings.Builder
	for _, t := range tokens {
		if t >= 0 && int(t) < len(m.Pieces) {
			b.Write(Piece(m, t))
		}
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

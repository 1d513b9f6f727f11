package anthropic

import (
	"reflect"
	"testing"

	"serve/engine"
)

// TestPieces keeps the parts of a call together, also if its name and its arguments come apart in one event.
func TestPieces(t *testing.T) {
	event := engine.Event{
		Text: "Now.",
		ToolCalls: []engine.ToolCallDelta{
			{Index: 0, Arguments: "}"},
			{Index: 1, Name: "f"},
			{Index: 1, Arguments: "{}"},
			{Index: 2, Name: "g", Arguments: "{"},
		},
	}

	var got []piece
	new(answer).pieces(&event, func(p *piece) { got = append(got, *p) })
	want := []piece{
		{kind: toolBlock, call: 0, text: "}"},
		{kind: textBlock, text: "Now."},
		{kind: toolBlock, call: 1, name: "f"},
		{kind: toolBlock, call: 1, text: "{}"},
		{kind: toolBlock, call: 2, name: "g", text: "{"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

package remote

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"testing"

	"serve/engine"
)

// FuzzReader reads nonsense as all that is ever read. It may be refused and nothing else.
func FuzzReader(f *testing.F) {
	m := newMessage(nil)
	m.batch(
		&engine.Batch{
			Tokens:    []engine.Token{1, 2},
			Positions: []int32{0, 1},
			Sequences: []int32{0, 0},
			Outputs:   []int8{0, 1},
		},
	)

	f.Add(m.b[4:])
	m = newMessage(nil)
	m.err(&engine.LengthError{Tokens: 5, Limit: 3})
	m.delta(&engine.Delta{Content: "a", ToolCalls: []engine.ToolCallDelta{{ID: "b"}}})
	m.chunks([]engine.Chunk{{Media: &engine.Media{Embeddings: make([]float32, 4), Len: 2, Span: 2}}})
	f.Add(m.b[4:])
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func(*reader){
			func(r *reader) { r.batch(new(engine.Batch)) },
			func(r *reader) { r.rows(new(engine.Batch), make([]engine.Row, 3), 100) },
			func(r *reader) { _ = r.failure(); r.delta(0) },
			func(r *reader) { _ = r.reading() },
			func(r *reader) {
				for _, c := range r.chunks(2) {
					if c.Media != nil && r.err == nil && len(c.Media.Embeddings) != 2*c.Media.Len {
						t.Errorf("%d floats for %d embeddings", len(c.Media.Embeddings), c.Media.Len)
					}
				}
			},
			func(r *reader) { (&child{}).readRows(r, nil) },
			func(r *reader) { _ = (&child{}).parse(r, new(message)) },
		} {
			r := &reader{b: data}
			read(r)
			if err := r.end(); err != nil && !errors.Is(err, errWire) {
				t.Errorf("an error of another kind: %v", err)
			}
		}
	})
}

// TestMessages writes and reads what goes over the sockets.
func TestMessages(t *testing.T) {
	batch := engine.Batch{
		Positions:  []int32{3, 3},
		Sequences:  []int32{1, 1},
		Outputs:    []int8{0, 0},
		Embeddings: []float32{1, -2.5},
		Grid:       []int32{1, 2, 3, 4, 5, 6},
		Whole:      true,

		Reproducible: true,
	}
	chunks := []engine.Chunk{
		{Tokens: []engine.Token{7}},
		{Media: &engine.Media{Embeddings: []float32{1, 2}, Len: 1, Span: 1, Whole: true}},
	}
	delta := engine.Delta{
		Content:   "c",
		Reasoning: "r",
		ToolCalls: []engine.ToolCallDelta{{Index: 1, ID: "i", Name: "n", Arguments: "{}"}},
	}
	reading := engine.Reading{Control: true, Quoted: []engine.Range{{From: 1, To: 3}, {From: 3, To: 9}}}
	m := newMessage(nil)
	m.reading(reading)
	m.batch(&batch)
	m.chunks(chunks)
	m.delta(&delta)
	errs := []error{nil, errors.New("plain"), engine.ErrNoSlot, &engine.LengthError{Tokens: 5, Limit: 3, AtLeast: true}}
	for _, err := range errs {
		m.err(err)
	}

	var wire bytes.Buffer
	if err := m.send(&wire); err != nil {
		t.Fatal(err)
	}

	frame, err := receive(bufio.NewReader(&wire), nil)
	if err != nil {
		t.Fatal(err)
	}

	r := &reader{b: frame}
	if got := r.reading(); !reflect.DeepEqual(got, reading) {
		t.Errorf("how to read comes as %+v", got)
	}
	var gotBatch engine.Batch
	r.batch(&gotBatch)
	if gotBatch.Len() != 2 || !reflect.DeepEqual(gotBatch.Embeddings, batch.Embeddings) ||
		!reflect.DeepEqual(gotBatch.Grid, batch.Grid) || !gotBatch.Whole || !gotBatch.Reproducible {
		t.Errorf("the batch comes as %+v", gotBatch)
	}
	if got := r.chunks(2); len(got) != 2 || got[0].Tokens[0] != 7 || !reflect.DeepEqual(got[1].Media, chunks[1].Media) {
		t.Errorf("the chunks come as %+v", got)
	}
	if got := r.delta(0); !reflect.DeepEqual(got, delta) {
		t.Errorf("the answer comes as %+v", got)
	}

	for _, want := range errs {
		got := r.failure()
		if (got == nil) != (want == nil) || want != nil && got.Error() != want.Error() {
			t.Errorf("%v comes as %v", want, got)
		}
		if errors.Is(want, engine.ErrNoSlot) != errors.Is(got, engine.ErrNoSlot) {
			t.Errorf("%v comes as another kind", want)
		}
	}

	if err := r.end(); err != nil {
		t.Error(err)
	}
	if _, err := receive(bufio.NewReader(bytes.NewReader([]byte{1, 2})), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a length cut off: %v", err)
	}
}

// TestChatCrossesAsJSON has a conversation go to the child as it is, not as base64 of it.
func TestChatCrossesAsJSON(t *testing.T) {
	chat := engine.Chat{
		Messages:     json.RawMessage(`[{"role":"user"}]`),
		TemplateArgs: map[string]json.RawMessage{"a": json.RawMessage(`[1]`)},
	}
	text, err := json.Marshal(chat)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, chat.Messages) || !bytes.Contains(text, []byte(`{"a":[1]}`)) {
		t.Errorf("it crosses as %s", text)
	}

	var got engine.Chat
	if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, chat) {
		t.Errorf("it comes as %+v, %v", got, err)
	}
}

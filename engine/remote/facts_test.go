package remote

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"serve/engine"
)

// trueFacts are those of a model of three tokens.
func trueFacts() *facts {
	return &facts{
		Model: engine.ModelInfo{
			Name: "n", Architecture: "a", Quantization: "q", Size: 1, Parameters: 2, TrainContext: 3, EmbeddingSize: 4,
			InputSize: 5, Vision: true, Generates: true, Ranks: true, Classes: 6, RankTemplate: "r", ChatTemplate: "c",
			Build: "b",
			Marks: engine.Marks{
				BOS: 1, EOS: 2, Separator: -1, AddBOS: true, AddEOS: true, AddSeparator: true,
				FIMPrefix: 1, FIMSuffix: 2, FIMMiddle: -1,
			},
			Pieces:         [][]byte{{1}, {2, 3}, {}},
			Special:        [][]byte{{1}, {2, 3}, {4}},
			EndsGeneration: []bool{false, true, true},
		},
		Limits: engine.Limits{
			Sequences: 1, Context: 2, Cells: 3, Shared: true, Batch: 4, Rows: 7, RollsBack: true, EmbedTokens: 5, EmbedInputs: 6,
			Reproducible: true, Saves: true, SavesWhole: true,
		},
		Vocabulary: 3,
	}
}

// TestFacts carries every field there is.
func TestFacts(t *testing.T) {
	f := trueFacts()
	for _, v := range []reflect.Value{
		reflect.ValueOf(f.Model), reflect.ValueOf(f.Model.Marks), reflect.ValueOf(f.Limits),
	} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s has a field that this test leaves out: %s", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
	got, err := decodeFacts(f.encode())
	if err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("%v: %+v", err, got)
	}
}

// TestFalseFacts refuses what no model has.
func TestFalseFacts(t *testing.T) {
	for name, lie := range map[string]func(*facts){
		"fewer special pieces":           func(f *facts) { f.Model.Special = f.Model.Special[:2] },
		"no ends":                        func(f *facts) { f.Model.EndsGeneration = nil },
		"a mark beyond the vocabulary":   func(f *facts) { f.Model.Marks.EOS = 3 },
		"a token of 1 MiB":               func(f *facts) { f.Model.Special[1] = make([]byte, 1<<20) },
		"a name of 1 MiB":                func(f *facts) { f.Model.Name = strings.Repeat("x", 1<<20) },
		"sequences without number":       func(f *facts) { f.Limits.Sequences = math.MaxInt },
		"fewer sequences than none":      func(f *facts) { f.Limits.Sequences = -1 },
		"a context without end":          func(f *facts) { f.Limits.Context = math.MaxInt },
		"cells without number":           func(f *facts) { f.Limits.Cells = math.MaxInt },
		"rows without number":            func(f *facts) { f.Limits.Rows = math.MaxInt },
		"a batch without end":            func(f *facts) { f.Limits.Batch = math.MaxInt },
		"embeddings of 4 TB":             func(f *facts) { f.Model.EmbeddingSize = 1 << 40 },
		"inputs to embed without number": func(f *facts) { f.Limits.EmbedInputs = math.MaxInt },
		"a negative context":             func(f *facts) { f.Model.TrainContext = -5 },
		"bytes without number":           func(f *facts) { f.Model.Size = math.MaxUint64 },
	} {
		f := trueFacts()
		lie(f)
		if _, err := decodeFacts(f.encode()); !errors.Is(err, errWire) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzFacts reads nonsense as facts. What is accepted can be used.
func FuzzFacts(f *testing.F) {
	f.Add(trueFacts().encode())
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeFacts(data)
		if err != nil {
			if !errors.Is(err, errWire) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if n := len(got.Model.Pieces); len(got.Model.Special) != n || len(got.Model.EndsGeneration) != n {
			t.Errorf("%d tokens, %d, %d", n, len(got.Model.Special), len(got.Model.EndsGeneration))
		}
	})
}

// TestFalseAnswers refuses answers that do not fit what was asked.
func TestFalseAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		write func(*message)
		read  func(*reader)
	}{
		"a token beyond the vocabulary": {
			func(m *message) { m.i32s([]engine.Token{1, 5}) },
			func(r *reader) { r.tokens(5, 10) },
		},
		"a negative token": {
			func(m *message) { m.i32s([]engine.Token{-1}) },
			func(r *reader) { r.tokens(5, 10) },
		},
		"more tokens than text": {
			func(m *message) { m.i32s(make([]engine.Token, mostTokens(2)+1)) },
			func(r *reader) { r.tokens(5, mostTokens(2)) },
		},
		"more alternatives than were asked for": {
			func(m *message) {
				m.bool(false)
				m.err(nil)
				m.u32(0)
				m.f32(-1)
				m.bool(false)
				m.u32(2)
				for range 2 {
					m.u32(0)
					m.f32(-1)
				}
			},
			func(r *reader) { r.rows(new(engine.Batch), []engine.Row{{Top: 1}}, 5) },
		},
		"a probability that is no number": {
			func(m *message) {
				m.bool(false)
				m.err(nil)
				m.u32(0)
				m.f32(float32(math.NaN()))
				m.bool(false)
				m.u32(0)
			},
			func(r *reader) { r.rows(new(engine.Batch), make([]engine.Row, 1), 5) },
		},
		"a row that is refused and no guess": {
			func(m *message) { m.bool(true) },
			func(r *reader) { r.rows(new(engine.Batch), make([]engine.Row, 1), 5) },
		},
		"a guess that is not refused and wrong": {
			func(m *message) {
				for range 2 {
					m.bool(false)
					m.err(nil)
					m.u32(3)
					m.f32(-1)
					m.u32(0)
				}
			},
			func(r *reader) {
				r.rows(&engine.Batch{Tokens: []engine.Token{1, 2}}, []engine.Row{{}, {Index: 1, Draft: true}}, 5)
			},
		},
		"an image that is longer than it may be": {
			func(m *message) { m.chunks([]engine.Chunk{{Tokens: make([]engine.Token, 20)}}) },
			func(r *reader) { r.checkChunks(r.chunks(2), 5, 10) },
		},
		"an image's token beyond the vocabulary": {
			func(m *message) { m.chunks([]engine.Chunk{{Tokens: []engine.Token{9}}}) },
			func(r *reader) { r.checkChunks(r.chunks(2), 5, 10) },
		},
		"an image that takes more positions than it has": {
			func(m *message) {
				m.chunks([]engine.Chunk{{Media: &engine.Media{Embeddings: make([]float32, 2), Len: 1, Span: 9}}})
			},
			func(r *reader) { r.checkChunks(r.chunks(2), 5, 10) },
		},
		"a position far away": {
			func(m *message) {
				m.chunks([]engine.Chunk{{Media: &engine.Media{
					Embeddings: make([]float32, 2), Len: 1, Span: 1, Grid: []int32{0, 1 << 30, 0, 0},
				}}})
			},
			func(r *reader) { r.checkChunks(r.chunks(2), 5, 10) },
		},
		"a vector of another length": {
			func(*message) {},
			func(r *reader) { r.checkVectors([][]float32{{1}}, &engine.ModelInfo{EmbeddingSize: 2}) },
		},
		"a tool call out of nowhere": {
			func(m *message) { m.delta(&engine.Delta{ToolCalls: []engine.ToolCallDelta{{Index: 1 << 20}}}) },
			func(r *reader) { r.delta(3) },
		},
	} {
		m := newMessage(nil)
		c.write(&m)
		r := &reader{b: m.b[4:]}
		c.read(r)
		if !errors.Is(r.err, errWire) {
			t.Errorf("%s: %v", name, r.err)
		}
	}
}

// TestLongError cuts an error's text.
func TestLongError(t *testing.T) {
	m := newMessage(nil)
	m.err(errors.New(strings.Repeat("x", 1<<20)))
	r := &reader{b: m.b[4:]}
	if err := r.failure(); len(err.Error()) != maxText || r.end() != nil {
		t.Errorf("%d bytes, %v", len(err.Error()), r.end())
	}
}

package loader

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"serve/engine"
)

// TestExpectation refuses what is not the model of the header, or more than was asked for.
func TestExpectation(t *testing.T) {
	asked := ModelOptions{Context: 512, Parallel: 4}
	expected := expectation{Architecture: "llama", Vocabulary: 3, TrainContext: 1024, Bytes: 100}
	said := func(change func(*engine.ModelInfo, *engine.Limits)) error {
		m := engine.ModelInfo{
			Architecture: "llama", Pieces: make([][]byte, 3), TrainContext: 1024, Size: 90, Generates: true,
		}
		l := engine.Limits{Sequences: 4, Context: 512, Cells: 2048, Batch: 512}
		change(&m, &l)
		return expected.check(&m, l, &asked)
	}

	if err := said(func(*engine.ModelInfo, *engine.Limits) {}); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*engine.ModelInfo, *engine.Limits){
		"another architecture": func(m *engine.ModelInfo, _ *engine.Limits) { m.Architecture = "qwen3" },
		"another vocabulary":   func(m *engine.ModelInfo, _ *engine.Limits) { m.Pieces = m.Pieces[:2] },
		"another training":     func(m *engine.ModelInfo, _ *engine.Limits) { m.TrainContext = 1 << 30 },
		"another size":         func(m *engine.ModelInfo, _ *engine.Limits) { m.Size = 1 << 40 },
		"more sequences":       func(_ *engine.ModelInfo, l *engine.Limits) { l.Sequences = 5 },
		"no sequences":         func(_ *engine.ModelInfo, l *engine.Limits) { l.Sequences = 0 },
		"a longer context":     func(_ *engine.ModelInfo, l *engine.Limits) { l.Context = 1 << 20 },
		"more cells":           func(_ *engine.ModelInfo, l *engine.Limits) { l.Cells = 1 << 30 },
		"no batch":             func(_ *engine.ModelInfo, l *engine.Limits) { l.Batch = 0 },
	} {
		if said(change) == nil {
			t.Errorf("%s: it is believed", name)
		}
	}
}

// TestAnswers refuses answers that would end serve, and escapes what a terminal would obey.
func TestAnswers(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":            "",
		"no memory":          "{}",
		"no devices":         `{"Memory":{"Devices":[]}}`,
		"more than there is": `{"Memory":{"Devices":[{"name":"host","weights":18446744073709551615}]}}`,
		"too many devices":   fmt.Sprintf(`{"Memory":{"Devices":[%s{}]}}`, strings.Repeat("{},", maxDevices)),
		"too long":           `{"Changed":"` + strings.Repeat("x", maxAnswer) + `"}`,
	} {
		if _, err := readAnswer([]byte(text), true); !errors.Is(err, ErrModel) {
			t.Errorf("%s: %v", name, err)
		}
	}

	a, err := readAnswer([]byte(`{"Memory":{"Devices":[{"name":"a\u001b[2J"}]},"Devices":[{"name":"\u001b]0;x\u0007"}],`+
		`"ChatError":"x\ny"}`), true)
	if err != nil {
		t.Fatal(err)
	}
	if a.Memory.Devices[0].Name != `a\x1b[2J` || a.Devices[0].Name != `\x1b]0;x\a` || a.ChatError != "x; y" {
		t.Errorf("%+v %+v %q", a.Memory, a.Devices, a.ChatError)
	}
	if a, err := readAnswer([]byte(`{"Failed":{"Text":"no"}}`), true); err != nil || a.Failed == nil {
		t.Errorf("a failure: %v %+v", err, a)
	}
}

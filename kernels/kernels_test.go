package kernels

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var build = []Variant{
	{Name: "sse42", Score: 3},
	{Name: "haswell", Score: 63},
	{Name: "alderlake", Score: 0},
	{Name: "zen4", Score: 511},
}

func TestUsable(t *testing.T) {
	for name, test := range map[string]struct {
		refused map[string]Refusal
		want    []string
	}{
		"the processor lacks some": {nil, []string{"zen4", "haswell", "sse42"}},
		"one is refused":           {map[string]Refusal{"zen4": {}}, []string{"haswell", "sse42"}},
		"all are refused":          {map[string]Refusal{"zen4": {}, "haswell": {}, "sse42": {}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Usable(build, test.refused); !slices.Equal(got, test.want) {
				t.Errorf("Usable = %q, want %q", got, test.want)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	usable := []string{"zen4", "haswell", "sse42"}
	for name, test := range map[string]struct {
		usable  []string
		timings []Timing
		want    []string
	}{
		"not measured": {
			usable, nil,
			usable,
		},
		"more instructions are slower": {
			usable, []Timing{{Kernels: "haswell"}, {Kernels: "zen4"}},
			[]string{"haswell", "sse42", "zen4"},
		},
		"the fastest is not usable": {
			usable, []Timing{{Kernels: "sapphirerapids"}, {Kernels: "zen4"}},
			usable,
		},
		"nothing that was measured is": {
			[]string{"sse42"}, []Timing{{Kernels: "haswell"}},
			[]string{"sse42"},
		},
		"no kernels can compute at all": {
			nil, []Timing{{Kernels: "haswell"}},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Order(test.usable, test.timings); !slices.Equal(got, test.want) {
				t.Errorf("Order = %q, want %q", got, test.want)
			}
		})
	}
}

// TestRecord finds again what was remembered, by machine, whatever else is in the file.
func TestRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", "kernels.json")
	xeon := Machine{Processor: "xeon", Build: "1", Threads: 2}
	slow := Timing{Kernels: "zen4", Prefill: 100, Decode: 10, Decode8: 40}
	fast := Timing{Kernels: "haswell", Prefill: 100, Decode: 12, Decode8: 60}

	r := open(t, path, xeon)
	if err := r.Remember("llama", []Timing{slow, fast}); err != nil {
		t.Fatal(err)
	}
	if err := r.Refuse("sapphirerapids", Refusal{Reason: "signal: illegal instruction"}); err != nil {
		t.Fatal(err)
	}
	other := open(t, path, Machine{Processor: "epyc", Build: "1", Threads: 2})
	if len(other.Timings("llama")) > 0 || len(other.Refused()) > 0 {
		t.Error("what holds for one processor is said of another")
	}
	if err := other.Remember("llama", []Timing{slow}); err != nil {
		t.Fatal(err)
	}

	again := open(t, path, xeon)
	if got := again.Timings("llama"); !slices.Equal(got, []Timing{fast, slow}) {
		t.Errorf("Timings = %v, want the fastest first", got)
	}
	if got := again.Refused()["sapphirerapids"].Reason; got != "signal: illegal instruction" {
		t.Errorf("refused because %q", got)
	}
	if again.Timings("qwen") != nil {
		t.Error("a shape that was never measured has timings")
	}
}

// TestDamagedRecord starts anew where the file makes no sense, and leaves alone what cannot be read.
func TestDamagedRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kernels.json")
	for _, text := range []string{"", "{", `[null]`, `[{"models": 3}]`, `{"machines": []}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := open(t, path, Machine{})
		if err := r.Remember("llama", []Timing{{Kernels: "haswell"}}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if len(open(t, path, Machine{}).Timings("llama")) != 1 {
			t.Errorf("%q is not replaced", text)
		}
	}
	if _, err := Open(t.TempDir(), Machine{}); err == nil {
		t.Error("a folder is taken for a record")
	}
}

// TestRecordLimits keeps the file small, whatever comes.
func TestRecordLimits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kernels.json")
	for i := range maxMachines + 3 {
		if err := open(t, path, Machine{Threads: i}).Remember("llama", nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(open(t, path, Machine{}).other); n > maxMachines {
		t.Errorf("%d machines are kept", n)
	}
	r := open(t, path, Machine{})
	for i := range maxModels + 1 {
		if err := r.Remember(string(rune('a'+i)), []Timing{{}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.here.Models); n > maxModels {
		t.Errorf("%d models are kept", n)
	}
}

func open(t *testing.T, path string, m Machine) *Record {
	t.Helper()
	r, err := Open(path, m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

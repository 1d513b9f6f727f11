package openai

import (
	"encoding/json"
	"testing"
)

// TestInputReader cuts arguments everywhere.
func TestInputReader(t *testing.T) {
	for arguments, want := range map[string]string{
		`{"input":"a\n\"b\"\\ \u00e9 \ud83d\ude00 é😀"}`: "a\n\"b\"\\ é 😀 é😀",
		` { "input" : "x" , "more" : 1}`:                "x",
		`{"more":1,"input":"x"}`:                        "x", // only whole
		`{"input":""}`:                                  "",
		`{"input":"\ud83d!\ud83d\n"}`:                   "\ufffd!\ufffd\n",
		`{"input":"cut`:                                 "cut",
		`{"input":"cut\u00`:                             "cut",
		`no JSON`:                                       "no JSON",
		`{"output":"x"}`:                                `{"output":"x"}`,
	} {
		for size := 1; size <= len(arguments); size++ {
			var r inputReader
			got := ""
			for at := 0; at < len(arguments); at += size {
				got += r.add(arguments[at:min(at+size, len(arguments))])
			}
			got += r.end()
			if got != want {
				t.Errorf("%s in parts of %d: %q", arguments, size, got)
			}
		}
	}
}

func FuzzInputReader(f *testing.F) {
	f.Add("a\n\"b\" \U0001f600", uint8(3))
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		b, err := json.Marshal(map[string]string{customInput: text})
		if err != nil {
			t.Skip()
		}
		var want struct{ Input string }
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		var r inputReader
		got := ""
		step := int(size)%16 + 1
		for at := 0; at < len(b); at += step {
			got += r.add(string(b[at:min(at+step, len(b))]))
		}
		if got += r.end(); got != want.Input {
			t.Errorf("%q became %q", text, got)
		}
	})
}

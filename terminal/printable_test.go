package terminal

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain é 語 \u3000 👩\u200d🚀\n\ttext": "plain é 語 \u3000 👩\u200d🚀\n\ttext",
		"a\x1b[31mb\x07\r\n\tc\u009b2J\x7f": "a\\x1b[31mb\\a\n\tc\\u009b2J\\x7f",
		"\u202efdp.exe\u2066":               `\u202efdp.exe\u2066`,
		"over\rwritten":                     `over\rwritten`,
		"\x9b2J":                            `\x9b2J`,
		"\u2028":                            `\u2028`,
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestNothingEscapes prints what a hostile file or host could contain in every way there is.
func TestNothingEscapes(t *testing.T) {
	const hostile = "name\x1b]0;title\x07\u202e\u009b\x9b\nserve: error: all is lost"
	var out, err bytes.Buffer
	term := New(&out, &err, func(string) string { return "" })
	term.Note("%s", hostile)
	term.Warn("%s", hostile)
	term.Fact("model", "%s", hostile)
	term.Fail(Failure{Message: hostile, Hint: hostile}, true)
	if e := term.Table([][]string{{"a", hostile, "b\tc"}}); e != nil {
		t.Error(e)
	}
	value := map[string]string{"a": "\u202e\u009b\x1b\u2028\x7f\U000e0041"}
	if e := term.PrintJSON(value); e != nil {
		t.Error(e)
	}

	for _, printed := range []string{out.String(), err.String()} {
		if strings.ContainsAny(printed, "\x1b\x07\u202e\u009b\u2028") || strings.Contains(printed, "\x9b") {
			t.Errorf("printed %q", printed)
		}
		if strings.Contains(printed, "\nserve: error: all is lost") {
			t.Errorf("a line is forged in %q", printed)
		}
	}
	var read map[string]string
	last := out.String()[strings.LastIndex(out.String(), "{"):]
	if e := json.Unmarshal([]byte(last), &read); e != nil || read["a"] != value["a"] {
		t.Errorf("%q, %v", read, e)
	}
}

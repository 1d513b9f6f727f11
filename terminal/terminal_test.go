package terminal

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func plain(t *testing.T) (term *Terminal, out, err *bytes.Buffer) {
	t.Helper()
	out = new(bytes.Buffer)
	err = new(bytes.Buffer)
	return New(out, err, func(string) string { return "" }), out, err
}

// TestFail tells a person, and a script that has not had its result.
func TestFail(t *testing.T) {
	f := Failure{Message: "it failed.", Hint: "try again", Code: 7}
	term, out, err := plain(t)
	term.Fail(f, false)
	if out.Len() > 0 || err.String() != "serve: error: it failed\nserve: hint: try again\n" {
		t.Errorf("a person is told %q and %q", out, err)
	}

	term.Fail(f, true)
	for _, want := range []string{`"message": "it failed"`, `"hint": "try again"`, `"exit_code": 7`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("a script is not told %s: %s", want, out)
		}
	}

	term, out, _ = plain(t)
	if err := term.PrintJSON([]int{1}); err != nil {
		t.Fatal(err)
	}
	term.Fail(f, true)
	if strings.Contains(out.String(), "error") {
		t.Errorf("two documents: %s", out)
	}
}

// TestLines shows a download where there is no terminal.
func TestLines(t *testing.T) {
	term, _, err := plain(t)
	now := time.Unix(0, 0)
	l := &lines{t: term, now: func() time.Time { return now }}
	l.Start("model.gguf", 1<<30, 1<<29)
	now = now.Add(10 * time.Second)
	l.Add(1 << 28)
	l.Add(1)
	want := "serve: model.gguf: 1.0 GiB, 512.0 MiB already downloaded\n" +
		"serve: model.gguf: 70%, 25.6 MiB/s, 10s left\n"
	if err.String() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestFormatCount(t *testing.T) {
	for n, want := range map[uint64]string{500: "0.5K", 3_200_000: "3.2M", 7_248_000_000: "7.2B"} {
		if got := FormatCount(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

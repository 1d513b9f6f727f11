package terminal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestConfirm takes yes for yes, and all else for no.
func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"yes\n": true, " YES \n": true, "yes": true, "y\n": false, "no\n": false, "": false} {
		var errOut bytes.Buffer
		term := New(io.Discard, &errOut, func(string) string { return "" })
		got, err := term.Confirm(t.Context(), strings.NewReader(answer), "the license\x1b[2J; do you accept it?")
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", answer, got, err)
		}
		if s := errOut.String(); !strings.Contains(s, "do you accept it? Type yes or no: ") || strings.Contains(s, "\x1b") {
			t.Errorf("asked %q", s)
		}
		if term.Interactive() {
			t.Error("a buffer is a terminal")
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, w := io.Pipe()
	defer w.Close()
	if _, err := New(io.Discard, io.Discard, func(string) string { return "" }).Confirm(ctx, in, "?"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

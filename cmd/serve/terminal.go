package main

// Everything that serve says in a terminal is said through this file.
//
// Results go to stdout, all else to stderr. Lines begin with "serve: ", with no
// capital letter and no full stop at the end. An error may have a hint: what to
// do about it. A script that asked for --json gets an error on stdout, too, as
// {"error": {"message", "hint", "exit_code"}}. Colours are for a terminal that has
// them, and for nobody who sets NO_COLOR.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
)

// terminal is where a command speaks.
type terminal struct {
	out, err io.Writer
	colours  bool // err shows them
	answered bool // a result went to out as JSON
}

// newTerminal looks whether colours are wanted.
func newTerminal(out, err io.Writer, lookup func(string) string) *terminal {
	f, ok := err.(*os.File)
	colours := ok && term.IsTerminal(int(f.Fd())) && lookup("NO_COLOR") == "" && lookup("TERM") != "dumb" && lookup("TERM") != ""
	return &terminal{out: out, err: err, colours: colours}
}

// How words are painted: the numbers of ECMA-48.
const (
	red    = "1;31"
	yellow = "33"
	green  = "32"
	bold   = "1"
)

func (t *terminal) paint(colour, text string) string {
	if !t.colours {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// note prints a line about what is going on.
func (t *terminal) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, begin := range []struct{ words, colour string }{{"error:", red}, {"warning:", yellow}, {"hint:", bold}} {
		if rest, ok := strings.CutPrefix(text, begin.words); ok {
			text = t.paint(begin.colour, begin.words) + rest
		}
	}
	fmt.Fprintf(t.err, "serve: %s\n", text)
}

// fact prints a line of a label and what it stands for.
func (t *terminal) fact(label, format string, args ...any) {
	colour := bold
	if label == "ready" {
		colour = green
	}
	t.note("%s %s", t.paint(colour, fmt.Sprintf("%-9s", label)), fmt.Sprintf(format, args...))
}

// Warn implements loader.Reporter, as do the methods after it.
func (t *terminal) Warn(format string, args ...any) { t.note("warning: "+format, args...) }

// Error reports what went wrong while serve goes on.
func (t *terminal) Error(format string, args ...any) { t.note("error: "+format, args...) }

// Hint says what to do about the line before.
func (t *terminal) Hint(format string, args ...any) { t.note("hint: "+format, args...) }

// Fact is fact.
func (t *terminal) Fact(label, format string, args ...any) { t.fact(label, format, args...) }

// fail prints an error and its hint, for a person and, where that was asked for, for a script.
func (t *terminal) fail(err error, asJSON bool) {
	said := struct {
		Message string `json:"message"`
		Hint    string `json:"hint,omitempty"`
		Code    int    `json:"exit_code"`
	}{strings.TrimSuffix(err.Error(), "."), "", exitCode(err)}
	t.note("error: %s", said.Message)
	if said.Hint = hintOf(err); said.Hint != "" {
		t.note("hint: %s", said.Hint)
	}
	if asJSON && !t.answered { // doctor's and verify's results say what is wrong themselves
		_ = t.printJSON(map[string]any{"error": said}) // there is nobody else to tell
	}
}

// printJSON writes a result as one JSON document.
func (t *terminal) printJSON(v any) error {
	t.answered = true
	e := json.NewEncoder(t.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table writes rows of cells in columns; the first is the head.
func (t *terminal) table(rows [][]string) error {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// count writes a large number in the unit that suits it.
func count(n uint64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1fB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1fK", float64(n)/1e3)
}

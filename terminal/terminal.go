// Package terminal is how commands speak.
//
// Results go to stdout, all else to stderr. Lines begin with "serve: ", with no capital letter
// and no period at the end. An error may have a hint: what to do about it. A script that asked
// for JSON gets an error on stdout, too, as {"error": {"message", "hint", "exit_code"}}. Colors
// are for a terminal that has them, and for nobody who sets NO_COLOR.
package terminal

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
)

// Terminal is where a command speaks.
type Terminal struct {
	Out io.Writer // takes results
	Err io.Writer // takes all else

	colors   bool // Err shows them
	answered bool // a result went to Out as JSON
}

// New returns a Terminal. lookup returns environment variables, which say whether colors are
// wanted.
func New(out, err io.Writer, lookup func(string) string) *Terminal {
	t := &Terminal{Out: out, Err: err}
	kind := lookup("TERM")
	if f, ok := err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		t.colors = lookup("NO_COLOR") == "" && kind != "" && kind != "dumb"
	}
	return t
}

// How words are colored: the numbers of ECMA-48.
const (
	red    = "1;31"
	yellow = "33"
	green  = "32"
	bold   = "1"
)

func (t *Terminal) paint(color, text string) string {
	if !t.colors {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// Note prints a line about what is going on.
func (t *Terminal) Note(format string, args ...any) {
	fmt.Fprintf(t.Err, "serve: %s\n", fmt.Sprintf(format, args...))
}

// Warn prints what does not work as it should.
func (t *Terminal) Warn(format string, args ...any) { t.labeled(yellow, "warning:", format, args...) }

// Error prints what failed while the command goes on.
func (t *Terminal) Error(format string, args ...any) { t.labeled(red, "error:", format, args...) }

// Hint prints what to do about the line before.
func (t *Terminal) Hint(format string, args ...any) { t.labeled(bold, "hint:", format, args...) }

func (t *Terminal) labeled(color, label, format string, args ...any) {
	t.Note("%s %s", t.paint(color, label), fmt.Sprintf(format, args...))
}

// Fact prints a line of a label and what it stands for.
func (t *Terminal) Fact(label, format string, args ...any) {
	color := bold
	if label == "ready" {
		color = green
	}
	t.labeled(color, fmt.Sprintf("%-9s", label), format, args...)
}

// Failure is what a command failed with.
type Failure struct {
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Code    int    `json:"exit_code"`
}

// Fail prints an error and its hint, for a person and, if JSON was asked for, for a script.
func (t *Terminal) Fail(f Failure, asJSON bool) {
	f.Message = strings.TrimSuffix(f.Message, ".")
	t.Error("%s", f.Message)
	if f.Hint != "" {
		t.Hint("%s", f.Hint)
	}
	if asJSON && !t.answered { // results of doctor and verify say what is wrong themselves
		_ = t.PrintJSON(map[string]any{"error": f}) // there is nobody else to tell
	}
}

// PrintJSON writes a result as one JSON document.
func (t *Terminal) PrintJSON(v any) error {
	t.answered = true
	e := json.NewEncoder(t.Out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Table writes rows of cells in columns; the first is the head.
func (t *Terminal) Table(rows [][]string) error {
	w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// Columns that a result takes, unless the terminal says otherwise.
const (
	defaultColumns = 80
	leastColumns   = 40
	mostColumns    = 120
)

// Width is how many columns results may take.
func (t *Terminal) Width() int {
	if f, ok := t.Out.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns >= leastColumns {
			return min(columns, mostColumns)
		}
	}
	return defaultColumns
}

// FormatCount writes a large number in the unit that suits it.
func FormatCount(n uint64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1fB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1fK", float64(n)/1e3)
}

// KeepStart keeps the beginning of a text.
func KeepStart(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

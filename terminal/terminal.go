// Package terminal prints the output of commands.
//
// Results go to stdout, everything else to stderr. Lines begin with "serve: ", without an initial
// capital or a final period. An error may have a hint: what to do about it. With --json, errors are
// also printed to stdout, as {"error": {"message", "hint", "exit_code"}}. Colors are used on
// terminals that have them, unless NO_COLOR is set.
package terminal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
)

// Terminal prints the output of a command.
type Terminal struct {
	Out io.Writer // for results
	Err io.Writer // for everything else

	colors   bool // Err supports them
	answered bool // a result was written to Out as JSON
}

// New returns a Terminal. lookup returns environment variables, which determine whether colors
// are used.
func New(out, err io.Writer, lookup func(string) string) *Terminal {
	t := &Terminal{Out: out, Err: err}
	kind := lookup("TERM")
	if f, ok := err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		t.colors = lookup("NO_COLOR") == "" && kind != "" && kind != "dumb"
	}
	return t
}

// Colors, by their numbers in ECMA-48.
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

// Note prints a line of information.
func (t *Terminal) Note(format string, args ...any) {
	fmt.Fprintf(t.Err, "serve: %s\n", line(fmt.Sprintf(format, args...)))
}

// Warn prints a warning.
func (t *Terminal) Warn(format string, args ...any) { t.labeled(yellow, "warning:", format, args...) }

// Error prints an error that does not end the command.
func (t *Terminal) Error(format string, args ...any) { t.labeled(red, "error:", format, args...) }

// Hint prints advice about the line before.
func (t *Terminal) Hint(format string, args ...any) { t.labeled(bold, "hint:", format, args...) }

func (t *Terminal) labeled(color, label, format string, args ...any) {
	fmt.Fprintf(t.Err, "serve: %s %s\n", t.paint(color, label), line(fmt.Sprintf(format, args...)))
}

// Fact prints a line with a label and a value.
func (t *Terminal) Fact(label, format string, args ...any) {
	color := bold
	if label == "ready" {
		color = green
	}
	t.labeled(color, fmt.Sprintf("%-9s", label), format, args...)
}

// Failure is the error of a command.
type Failure struct {
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Code    int    `json:"exit_code"`
}

// Fail prints an error and its hint, and also as JSON if asJSON is set.
func (t *Terminal) Fail(f Failure, asJSON bool) {
	f.Message = strings.TrimSuffix(f.Message, ".")
	t.Error("%s", f.Message)
	if f.Hint != "" {
		t.Hint("%s", f.Hint)
	}
	if asJSON && !t.answered { // results of doctor and verify already contain the problems
		_ = t.PrintJSON(map[string]any{"error": f}) // an error of this cannot be reported
	}
}

// PrintJSON writes a result as one JSON document.
func (t *Terminal) PrintJSON(v any) error {
	t.answered = true
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(t.Out, printableJSON(b.String()))
	return err
}

// Table writes rows of cells in columns; the first row is the header.
func (t *Terminal) Table(rows [][]string) error {
	w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i := range row {
			cells[i] = cell(row[i])
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// Width of results, in columns, unless the terminal has another.
const (
	defaultColumns = 80
	leastColumns   = 40
	mostColumns    = 120
)

// Width returns the maximum width of results, in columns.
func (t *Terminal) Width() int {
	if f, ok := t.Out.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns >= leastColumns {
			return min(columns, mostColumns)
		}
	}
	return defaultColumns
}

// FormatCount formats a large number with a suitable unit.
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

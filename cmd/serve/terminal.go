package main

// Everything that serve says in a terminal is said through this file.
//
// Results go to stdout, all else to stderr. Lines begin with "serve: ", with no
// capital letter and no full stop at the end. An error may have a hint: what to
// do about it.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// terminal is where a command speaks.
type terminal struct{ out, err io.Writer }

// note prints a line about what is going on.
func (t *terminal) note(format string, args ...any) {
	fmt.Fprintf(t.err, "serve: "+format+"\n", args...)
}

// fact prints a line of a label and what it stands for.
func (t *terminal) fact(label, format string, args ...any) {
	t.note("%-9s %s", label, fmt.Sprintf(format, args...))
}

// fail prints an error and its hint.
func (t *terminal) fail(err error) {
	t.note("error: %s", strings.TrimSuffix(err.Error(), "."))
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		fmt.Fprintf(t.err, "serve: hint: %s\n", h.Hint())
	}
}

// printJSON writes a result as one JSON document.
func (t *terminal) printJSON(v any) error {
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

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }
func (h *hinted) Hint() string  { return h.hint }

func withHint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// size writes bytes in the unit that suits them.
func size(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
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

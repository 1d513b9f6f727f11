package terminal

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf16"

	"golang.org/x/term"

	"serve/worker"
)

// Printable returns a text from a file or a network as a terminal may show it: what would move its cursor, change
// its colors or the direction of the text, or worse, is escaped. Newlines and tabs stay.
func Printable(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i, line := range lines {
		lines[i] = worker.Printable(line)
	}
	return strings.Join(lines, "\n")
}

// cell returns a text as a table may have it: in one line, and in one column.
func cell(text string) string {
	return strings.ReplaceAll(worker.Printable(text), "\t", `\t`)
}

// line returns a text as it may follow serve's name: whatever is in it, no other line looks like one of serve's.
func line(text string) string {
	return strings.ReplaceAll(Printable(text), "\n", "\n  ")
}

// printableJSON returns JSON with everything escaped that Printable escapes. It can only be in strings.
func printableJSON(text string) string {
	if Printable(text) == text {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if s := string(r); r == '\n' || worker.Printable(s) == s {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// Text prints a text that a file contains. It is left as it is where no terminal reads it.
func (t *Terminal) Text(text string) {
	if f, ok := t.Out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		text = Printable(text)
	}
	fmt.Fprintln(t.Out, text)
}

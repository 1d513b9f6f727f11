package testfiles

import (
	"os"
	"strings"
	"testing"
)

// Section compares a section of a document with the text that it is made from. The section lies between
// the lines <!-- name: begin --> and <!-- name: end -->. With update it is written instead.
func Section(t testing.TB, path, name, text string, update bool) {
	t.Helper()

	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	document := string(b)

	begin := "<!-- " + name + ": begin -->\n"
	end := "<!-- " + name + ": end -->\n"
	before, rest, found := strings.Cut(document, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no section between %q and %q", path, begin, end)
	}

	made := before + begin + "\n" + text + "\n" + end + after
	switch {
	case made == document:
	case update:
		if err := os.WriteFile(path, []byte(made), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the section %q of %s is out of date: go test -run %s -update", name, path, t.Name())
	}
}

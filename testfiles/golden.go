package testfiles

import (
	"os"
	"path/filepath"
	"testing"
)

// Golden compares a text with a file in testdata. With update it is written instead.
func Golden(t testing.TB, name, got string, update bool) {
	t.Helper()

	path := filepath.Join("testdata", name)
	if update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// Package testfiles reads what tests compare the code with. It imports nothing of ours, so that
// the tests of any package can use it.
package testfiles

import (
	"os"
	"path/filepath"
	"testing"
)

// Like returns the contents of the files whose names match, by name.
func Like(t testing.TB, patterns ...string) map[string][]byte {
	t.Helper()

	files := map[string][]byte{}
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if files[name], err = os.ReadFile(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

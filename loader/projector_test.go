package loader

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"serve/models"
)

// TestProjectors gives models the files that are meant for them, and refuses what makes no sense.
func TestProjectors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.gguf")
	if err := os.WriteFile(file, []byte("not a projector"), 0o600); err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		name  string
		given Projectors
		first bool
		left  int
		kind  error
		words string
	}{
		{name: "none is given", first: true},
		{name: "another's", given: Projectors{"b=" + file}, left: 1},
		{name: "the first model's, of a later one", given: Projectors{file}, left: 1},
		{name: "taken away", given: Projectors{"a=none"}},
		{name: "two", given: Projectors{"none", "a=none"}, first: true, kind: ErrOptions, words: "already has a projector"},
		{name: "no file", given: Projectors{"a=" + file + "x"}, kind: ErrOptions, words: "there is no file"},
		{name: "no projector", given: Projectors{file}, first: true, kind: ErrModel},
	} {
		p := tt.given
		unusable, err := p.Choose(&models.Local{Name: "a"}, tt.first)
		if unusable != nil || !errors.Is(err, tt.kind) || err != nil && !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: got %v, %v", tt.name, unusable, err)
		}
		if err == nil && len(p) != tt.left {
			t.Errorf("%s: %q is left", tt.name, p)
		}
	}

	if err := (Projectors{"b=x"}).Check(); !errors.Is(err, ErrOptions) {
		t.Errorf("left over: %v", err)
	}
}

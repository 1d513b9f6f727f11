package llama

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestNothingIsThrownAtGo reads shim.h: a function takes a serve_error, to which guard turns
// what is thrown, or is noexcept. Those that only free run destructors, which are so by themselves.
func TestNothingIsThrownAtGo(t *testing.T) {
	text, err := os.ReadFile("shim.h")
	if err != nil {
		t.Fatal(err)
	}
	prototypes := regexp.MustCompile(`(?m)^[\w *]+?(serve_\w+)\([^;{]*;`).FindAllStringSubmatch(string(text), -1)
	if len(prototypes) < 60 {
		t.Fatalf("only %d functions found", len(prototypes))
	}
	frees := regexp.MustCompile(`_(free|close)$`)
	for _, p := range prototypes {
		if !strings.Contains(p[0], "serve_error *") && !strings.Contains(p[0], "SERVE_NOEXCEPT") && !frees.MatchString(p[1]) {
			t.Errorf("%s may throw", p[1])
		}
	}
}

package openai

import (
	"testing"

	"serve/fault"
)

// TestEveryFaultHasAStatus holds the table of errors against the kinds that there are.
func TestEveryFaultHasAStatus(t *testing.T) {
	for _, kind := range fault.Kinds() {
		f, ok := failures[kind]
		if !ok || f.status < 400 || f.kind == "" {
			t.Errorf("kind %d becomes %+v", kind, f)
		}
		if f.status == 400 && f.final {
			t.Errorf("kind %d: nobody repeats a 4xx anyway", kind)
		}
	}
}

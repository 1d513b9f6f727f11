package ollama

import (
	"testing"

	"serve/fault"
)

// TestEveryFaultHasAStatus holds the table of errors against the kinds that there are.
func TestEveryFaultHasAStatus(t *testing.T) {
	for _, kind := range fault.Kinds() {
		if status, ok := statuses[kind]; !ok || status < 400 {
			t.Errorf("kind %d becomes %d", kind, status)
		}
	}
}

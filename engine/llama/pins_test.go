package llama

import (
	"encoding/base64"
	"regexp"
	"testing"
)

// TestPinned finds in build.sh what a bill of materials has of it.
func TestPinned(t *testing.T) {
	p := Pinned()
	sum, err := base64.StdEncoding.DecodeString(p.Integrity)
	if !regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(p.Tree) || err != nil || len(sum) != 64 || p.Version == "" || p.Package == "" {
		t.Errorf("got %+v, %v", p, err)
	}
}

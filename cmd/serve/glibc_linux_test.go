package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"serve/release/glibc"
)

// TestGlibc reads which glibc this program needs. It is the test's own binary, linked with the same libraries as serve;
// release/main.go looks at serve itself.
func TestGlibc(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	version, symbols, err := glibc.Needs(self)
	if err != nil {
		t.Fatal(err)
	}

	// Releases are built on Debian 12, which has 2.36. A newer system's headers ask for its own symbols.
	out, err := exec.Command("getconf", "GNU_LIBC_VERSION").Output()
	here := strings.TrimPrefix(strings.TrimSpace(string(out)), "glibc ")
	if err != nil || glibc.Compare(here, "2.36") > 0 {
		t.Skipf("releases are not built here, with glibc %q", here)
	}

	if glibc.Compare(version, glibc.Oldest) > 0 {
		t.Errorf("it needs glibc %s for %v; README.md says %s. See engine/llama/glibc_linux.cpp",
			version, symbols, glibc.Oldest)
	}
}

package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"serve/doctor"
	"serve/engine/llama"
	"serve/kernels"
)

// TestResultsOf checks the kernels that are asked for, and no others.
func TestResultsOf(t *testing.T) {
	environ, _ := homeOf(t)
	usable := kernels.Usable(llama.Kernels(), nil)
	for flag, want := range map[string][]string{
		"auto":                usable[:1],
		"all":                 usable,
		usable[len(usable)-1]: usable[len(usable)-1:],
	} {
		code, out, said := command(environ, "doctor", "--port", "0", "--kernels", flag, "--json")
		var list []doctor.Finding
		if err := json.Unmarshal([]byte(out), &list); code != 0 || err != nil {
			t.Fatal(code, err, out, said)
		}
		var got []string
		for _, f := range list {
			if name, _, found := strings.Cut(f.Seen, ": "); f.About == "results" && found {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("--kernels %s checks %q, want %q", flag, got, want)
		}
	}

	code, _, said := command(environ, "doctor", "--kernels", "abacus")
	if code != exitUsage || !strings.Contains(said, usable[0]) {
		t.Errorf("unknown kernels: %d %s", code, said)
	}
}

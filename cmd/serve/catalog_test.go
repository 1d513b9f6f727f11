package main

import (
	"encoding/json"
	"strings"
	"testing"

	"serve/hub/hubtest"
	"serve/library"
	"serve/models"
	"serve/models/testmodel"
)

// TestCatalogKinds asks for models of a kind.
func TestCatalogKinds(t *testing.T) {
	env := environ(t, newHub(t))
	for _, kind := range models.ServedKinds() {
		var rows []library.Row
		out := must(t, env, "catalog", "--json", "--kind", kind)
		if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) == 0 {
			t.Errorf("--kind %s: %d rows, %v", kind, len(rows), err)
		}
		for _, row := range rows {
			if !row.Is(kind) {
				t.Errorf("%s is of the kinds %v, not %s", row.Name, row.Kinds, kind)
			}
		}
	}

	both := must(t, env, "catalog", "--kind", "code,vision")
	if !strings.Contains(both, "qwen-3.8-27b") || strings.Contains(both, "qwen-2.5-coder-7b") {
		t.Errorf("code and vision: %s", both)
	}

	for kind, words := range map[string]string{
		"draft": "does not support models of this kind yet",
		"poems": "unknown kind of model",
	} {
		code, _, errOut := command(env, "catalog", "--kind", kind)
		if code != exitUsage || !strings.Contains(errOut, words) || !strings.Contains(errOut, "hint: the kinds are chat") {
			t.Errorf("--kind %s: exit code %d: %s", kind, code, errOut)
		}
	}
}

// TestFamilyName pulls what the name of a series means, and then needs no network for it.
func TestFamilyName(t *testing.T) {
	h := newHub(t)
	h.Add("bartowski/Phi-3-mini-4k-instruct-GGUF", hubtest.Repo{Files: map[string][]byte{
		"Phi-3-mini-4k-instruct-Q4_K_M.gguf": testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML}),
	}})
	env := environ(t, h)
	const said = "phi3 stands for phi-3-mini"

	for _, tt := range []struct {
		args  []string
		code  int
		times int    // that it says what the name means
		words string // in the error
	}{
		{[]string{"pull", "phi3", "--json"}, exitOK, 1, ""},
		{[]string{"show", "phi3", "--offline", "--json"}, exitOK, 1, ""},
		{[]string{"show", "phi-3-mini", "--json"}, exitOK, 0, ""}, // a whole name
		{[]string{"pull", "whisper-tiny"}, exitNotFound, 0, "whisper-tiny cannot be served"},
	} {
		code, out, errOut := command(env, tt.args...)
		if code != tt.code || strings.Count(errOut, said) != tt.times || !strings.Contains(errOut, tt.words) {
			t.Errorf("%v: exit code %d: %s%s", tt.args, code, out, errOut)
		}
	}
}

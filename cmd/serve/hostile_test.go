package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"serve/models/testmodel"
)

// TestHostileTemplate loads models whose chat templates reach for what is not
// theirs, as those of CVE-2024-34359 do: it is said at the start, a chat is an
// error, nothing is read or run, and completions work.
func TestHostileTemplate(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("the secret"), 0o644); err != nil {
		t.Fatal(err)
	}

	for template, starts := range map[string]bool{
		`{{ ''.__class__.__mro__[1].__subclasses__() }}`:                                                           true,
		`{% for c in [].__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}`:                                 true,
		`{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('cat ` + secret + `').read() }}`: true,
		`{% include '` + secret + `' %}`:                                                                           false,
		`{{ raise_exception('no') }}`:                                                                              true,
		`{% if %}`:                                                                                                 false,
	} {
		path := filepath.Join(t.TempDir(), "tiny.gguf")
		if err := testmodel.Write(path, testmodel.Options{ChatTemplate: template}); err != nil {
			t.Fatal(err)
		}

		if !starts {
			code, _, said := command(nil, path, "--port", "0")
			if code != exitModel ||
				!strings.Contains(said, "chat template cannot be used") {
				t.Errorf("%s: exit code %d\n%s", template, code, said)
			}
			continue
		}

		r := startServe(t, path, "--ctx-size", "128", "--parallel", "1")
		status, body := r.post(
			t, "/v1/chat/completions", `{"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":"x"}]}`,
		)
		if status >= 500 || strings.Contains(body, "the secret") {
			t.Errorf("%s: %d %s", template, status, body)
		}
		if status != 200 && !strings.Contains(r.errOut.String(), "chat template fails") {
			t.Errorf("%s: nothing was said at the start:\n%s", template, r.errOut)
		}
		if status, body := r.post(t, "/v1/completions", `{"model":"tiny","max_tokens":1,"prompt":"x"}`); status != 200 {
			t.Errorf("%s: a completion: %d %s", template, status, body)
		}
	}
}

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"serve/access"
	"serve/audit"
	"serve/hub/hubtest"
	"serve/models/testmodel"
)

// TestPage has a browser use the page: web/test/page.mjs, library.mjs and admin.mjs. It needs the page built,
// and a Chromium, which TEST_CHROMIUM names (make page-test).
func TestPage(t *testing.T) {
	chromium := os.Getenv("TEST_CHROMIUM")
	if chromium == "" {
		t.Skip("needs a browser: make page-test")
	}

	chromium, err := exec.LookPath(chromium) // Playwright looks nowhere
	if err != nil {
		t.Fatal(err)
	}

	// Answers go on for as long as a person would need to stop them. (A model of 0.2 ms a token
	// is done before a browser that the kernel keeps off its core has seen the first.)
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	o := testmodel.Options{ChatTemplate: testmodel.ChatML, Context: 8192, Calm: true, Hidden: 32768}
	if err := testmodel.Write(path, o); err != nil {
		t.Fatal(err)
	}

	// The Hub's model comes halfway, until somebody cancels that and resumes it.
	h := newHub(t)
	model := testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML, Hidden: 4096})
	h.Add(tinyRepo, hubtest.Repo{License: "mit", Files: map[string][]byte{"tiny-Q4_K_M.gguf": model}})
	h.Fail("cdn", hubtest.Times(1, hubtest.Hold(h, len(model)/2, func() {}, nil)))

	home := append(environ(t, h), "SERVE_HOME="+t.TempDir())
	r := startServeIn(t, home, "demo", path, "--parallel", "2", "--threads", "1")
	keys, secrets := pageKeys(t)
	keyed := startServeIn(t, append(home, "SERVE_HOME="+t.TempDir()), "demo", "--threads", "1", "--keys", keys, "--audit", pageAudit(t))
	cmd := exec.CommandContext(t.Context(), "node", "--test", "--test-concurrency", "1",
		"--test-reporter", "spec", "test/page.mjs", "test/library.mjs", "test/admin.mjs")
	cmd.Dir = "../../web"
	cmd.Env = append(os.Environ(), "PAGE_URL="+r.url, "KEYED_URL="+keyed.url, "KEYS="+secrets, "CHROMIUM="+chromium)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// pageAudit makes an audit log.
func pageAudit(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	if _, err := audit.Init(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pageKeys writes the keys of the server that wants one, and returns their secrets by name, as JSON.
func pageKeys(t *testing.T) (path, secrets string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys.json")
	byName := map[string]string{}
	everything := access.Inference | access.Models | access.Metrics | access.Admin
	for _, n := range []access.NewKey{
		{Name: "root", Scopes: everything},
		{Name: "alice"},
		{Name: "scraper", Scopes: access.Metrics},
		{Name: "lead", Tenant: "research", Scopes: access.Inference | access.Models | access.Admin},
	} {
		_, secret, err := access.Create(path, n)
		if err != nil {
			t.Fatal(err)
		}
		byName[n.Name] = secret
	}
	text, err := json.Marshal(byName)
	if err != nil {
		t.Fatal(err)
	}
	return path, string(text)
}

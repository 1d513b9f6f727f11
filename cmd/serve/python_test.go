package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"serve/hub/hubtest"
	"serve/models/testmodel"
)

// python runs a script of testdata/python with the packages of make judges.
func python(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	interpreter := os.Getenv("TEST_PYTHON")
	if interpreter == "" {
		t.Skip("TEST_PYTHON is not set: make judges runs this with packages of PyPI")
	}
	cmd := exec.Command(interpreter, append([]string{filepath.Join("testdata", "python", args[0])}, args[1:]...)...)
	cmd.Env = append(
		slices.Clone(environ),
		"PATH="+os.Getenv("PATH"),
		"HF_HUB_DISABLE_XET=1",
		"HF_HUB_DISABLE_TELEMETRY=1",
		"HF_HUB_DISABLE_PROGRESS_BARS=1",
	)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", args[0], err, errOut.String())
	}
	return string(out)
}

// TestHuggingFaceHub lets Hugging Face's own library read what serve wrote, and
// serve read what it wrote. Neither asks the Hub for what the other fetched.
func TestHuggingFaceHub(t *testing.T) {
	h := newHub(t)
	parts := testmodel.Split(testmodel.Options{ChatTemplate: testmodel.ChatML}, 2)
	h.Add("tests/Split-GGUF", hubtest.Repo{Files: map[string][]byte{
		"Q8_0/m-00001-of-00002.gguf": parts[0], "Q8_0/m-00002-of-00002.gguf": parts[1], "README.md": []byte("# Split")}})
	ours := environ(t, h)
	must(t, ours, "pull", tinyRepo, "tests/Split-GGUF:Q8_0")
	h.Requests()
	path := strings.Fields(python(t, ours, "cache.py", "read", tinyRepo, "tiny-Q4_K_M.gguf", "LICENSE"))[0]
	b, err := os.ReadFile(path)
	if err != nil ||
		hubtest.SHA256(b) != hubtest.SHA256(testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML})) {
		t.Errorf("%s is wrong: %v", path, err)
	}
	python(t, ours, "cache.py", "read", "tests/Split-GGUF", "Q8_0/m-00001-of-00002.gguf", "Q8_0/m-00002-of-00002.gguf")
	if r := h.Requests(); len(r) != 0 {
		t.Errorf("it asked for %v", r)
	}

	theirs := environ(t, h)
	python(t, theirs, "cache.py", "fetch", tinyRepo, "tiny-Q4_K_M.gguf")
	python(t, theirs, "cache.py", "fetch", "tests/Split-GGUF", "Q8_0/m-00001-of-00002.gguf", "Q8_0/m-00002-of-00002.gguf")
	h.Requests()
	out := must(t, theirs, "list")
	if !strings.Contains(out, tinyRepo+":Q4_K_M") ||
		!strings.Contains(out, "tests/Split-GGUF:Q8_0") {
		t.Errorf("list: %s", out)
	}
	for _, name := range []string{tinyRepo, "tests/Split-GGUF:Q8_0"} {
		r := startServeIn(t, theirs, name, "--ctx-size", "128")
		if sayHello(t, r, name) == "" {
			t.Error("no answer")
		}
	}
	must(t, theirs, "verify")
	if r := h.Requests(); len(r) != 0 {
		t.Errorf("serve asked for %v", r)
	}
}

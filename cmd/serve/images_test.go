package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"serve/hub/hubtest"
	"serve/models/testmodel"
)

// dot is an image of one pixel.
const dot = "data:image/png;base64," +
	"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

func projectorFile(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mmproj.gguf")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// looks asks a server about an image, and returns the status and the answer.
func (r *running) looks(t *testing.T, model string) (int, string) {
	t.Helper()
	return r.post(
		t,
		"/v1/chat/completions",
		`{"model":"`+model+`","max_tokens":8,"temperature":0,"messages":[{"role":"user",`+
			`"content":[{"type":"image_url","image_url":{"url":"`+dot+`"}},{"type":"text","text":"What?"}]}]}`,
	)
}

// TestProjectorsOfTheHub fetches a model that comes with a projector.
func TestProjectorsOfTheHub(t *testing.T) {
	const seeing, hearing = "tests/Seeing-GGUF", "tests/Hearing-GGUF"
	h := newHub(t)
	model := testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML})
	good := testmodel.Projector(testmodel.MLP)
	h.Add(
		seeing,
		hubtest.Repo{License: "mit", Files: map[string][]byte{"m-Q4_K_M.gguf": model, "mmproj-m-f16.gguf": good}},
	)
	useless := strings.Replace(string(good), "clip.has_vision_encoder", "clip.has_sounds_encoder", 1)
	h.Add(
		hearing,
		hubtest.Repo{License: "mit", Files: map[string][]byte{"m-Q4_K_M.gguf": model, "mmproj-m-f16.gguf": []byte(useless)}},
	)
	env := environ(t, h)
	for _, tt := range []struct {
		name   string
		args   []string
		says   string
		status int
	}{
		{seeing, nil, "images    read with mmproj-m-f16.gguf", 200},
		{seeing, []string{"--mmproj", "none"}, "ready", 400},
		{seeing, []string{"--mmproj", seeing + "=" + projectorFile(t, good)}, "images    read with mmproj.gguf", 200},
		{hearing, nil, "warning: " + hearing + " cannot read images", 400},
	} {
		r := startServeIn(t, env, append([]string{tt.name, "--ctx-size", "256"}, tt.args...)...)
		if text := r.errOut.String(); !strings.Contains(text, tt.says) {
			t.Errorf("%s %v: it says nothing of %q:\n%s", tt.name, tt.args, tt.says, text)
		}
		if status, body := r.looks(t, tt.name); status != tt.status {
			t.Errorf("%s %v: %d %s", tt.name, tt.args, status, body)
		}
		if sayHello(t, r, tt.name) == "" {
			t.Errorf("%s %v: it says nothing", tt.name, tt.args)
		}
	}
}

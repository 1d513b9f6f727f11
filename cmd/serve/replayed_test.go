package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"serve/audit"
	"serve/engine/llama"
	"serve/models/testmodel"
)

// TestReplayed asks a server that captures, stops it, and has serve replay ask the next one the same: the answers are
// the same, byte for byte, as long as the model's file is.
func TestReplayed(t *testing.T) {
	model := templated(t, "Qwen-Qwen2.5-7B-Instruct")
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "audit")
	key := filepath.Join(t.TempDir(), "key")
	if _, err := audit.Init(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte(identity.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--alias", "it", "--ctx-size", "1024", "--parallel", "2", "--reproducible"}
	first := startServe(t, append(flags, model, "--audit", dir, "--capture", identity.Recipient().String())...)
	const ask = `"model":"it","max_tokens":24,"messages":[{"role":"user","content":"How is the weather?"}]`
	const tools = `"tool_choice":"required","tools":[{"type":"function","function":{"name":"look","strict":true,"parameters":` +
		`{"type":"object","properties":{"city":{"enum":["Paris","Oslo"]}},"required":["city"],"additionalProperties":false}}}]`
	ids := []string{
		first.askID(t, "/v1/chat/completions", `{`+ask+`,"temperature":0,"logprobs":true}`),
		first.askID(t, "/v1/messages", `{"stream":true,`+ask+`}`),
		first.askID(t, "/v1/chat/completions", `{`+ask+`,"seed":7,`+tools+`}`),
	}
	first.stop()
	first.done <- <-first.done

	replay := func(r *running, id string) (code int, said string) {
		var out bytes.Buffer
		args := []string{"replay", id, "--audit", dir, "--identity", key, "--url", r.url}
		environ := append([]string{"SERVE_KERNELS=" + llama.CurrentKernels()}, withHome(nil)...)
		code = run(t.Context(), args, environ, &out, &out)
		return code, out.String()
	}
	second := startServe(t, append(flags, model, "--threads", "1")...)
	for _, id := range ids {
		if code, said := replay(second, id); code != exitOK || !strings.Contains(said, "is the same, byte for byte") {
			t.Errorf("%d: %s", code, said)
		}
	}

	changed := filepath.Join(t.TempDir(), filepath.Base(model))
	if err := testmodel.Write(changed, testmodel.Options{ChatTemplate: testmodel.ChatML, Width: 128}); err != nil {
		t.Fatal(err)
	}
	third := startServe(t, append(flags, changed)...)
	if code, said := replay(third, ids[0]); code != exitError || !strings.Contains(said, "the SHA-256 of") {
		t.Errorf("of another model: %d %s", code, said)
	}
}

// askID asks and returns the id of the request.
func (r *running) askID(t *testing.T, path, body string) string {
	t.Helper()
	res, err := http.Post(r.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s, %v", res.StatusCode, text, err)
	}
	return res.Header.Get("X-Request-Id")
}

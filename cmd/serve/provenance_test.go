package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"serve/hub/hubtest"
	"serve/models/testmodel"
	"serve/provenance"
)

// signingKey writes a key, and returns the files of its halves.
func signingKey(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	half, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	private = filepath.Join(dir, "key.pem")
	public = filepath.Join(dir, "public.pem")
	writeFile(t, private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	writeFile(t, public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: half}))
	return private, public
}

func writeFile(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// fails runs serve, which must end with a code and say something.
func fails(t *testing.T, environ []string, code int, says string, args ...string) {
	t.Helper()
	got, out, errOut := command(environ, args...)
	if got != code || !strings.Contains(errOut, says) {
		t.Errorf("serve %v: exit code %d, not %d, or not %q\n%s%s", args, got, code, says, out, errOut)
	}
}

// signedRepo signs a repository's files with serve, and returns its signature.
func signedRepo(t *testing.T, env []string, key string, files map[string][]byte) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	for name, b := range files {
		writeFile(t, filepath.Join(dir, name), b)
	}
	must(t, env, "sign", dir, "--key", key)
	sig, err := os.ReadFile(filepath.Join(dir, "model.sig"))
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// TestSignAndVerify signs a model of the cache, whose files are links, a file and a folder, and verifies them.
func TestSignAndVerify(t *testing.T) {
	h := newHub(t)
	env := environ(t, h)
	key, public := signingKey(t)
	_, other := signingKey(t)
	must(t, env, "pull", tinyRepo)

	fails(t, env, exitIntegrity, "there is none", "verify", "--oms", tinyRepo, "--public-key", public)
	must(t, env, "sign", tinyRepo, "--key", key)
	var list []provenance.Verified
	if err := json.Unmarshal([]byte(must(t, env, "verify", "--oms", tinyRepo, "--public-key", public, "--json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || !list[0].OK || len(list[0].SignedBy) != 64 {
		t.Errorf("got %+v", list)
	}
	must(t, env, "verify", "--oms", "--public-key", other, "--public-key", public)
	fails(t, env, exitIntegrity, "not made with a key that is trusted", "verify", "--oms", tinyRepo, "--public-key", other)
	must(t, env, "verify")

	file := filepath.Join(t.TempDir(), "own.gguf")
	writeFile(t, file, testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML}))
	must(t, env, "sign", file, "--key", key)
	must(t, env, "verify", "--oms", file, "--public-key", public)
	fails(t, env, exitUsage, "is no signature", "sign", file, "--key", key, "--output", file)
	writeFile(t, file, testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML, Context: 99}))
	fails(t, env, exitIntegrity, "is not what was signed", "verify", "--oms", file, "--public-key", public)

	dir := filepath.Dir(file)
	must(t, env, "sign", dir, "--key", key)
	must(t, env, "verify", "--oms", dir, "--public-key", public)
	writeFile(t, filepath.Join(dir, "more.txt"), nil)
	fails(t, env, exitIntegrity, `"more.txt" is not signed`, "verify", "--oms", dir, "--public-key", public)
	must(t, env, "verify", "--oms", dir, "--public-key", public, "--ignore-unsigned-files")

	commit, err := filepath.Glob(filepath.Join(strings.TrimPrefix(env[0], "HOME="), ".cache/huggingface/hub/models--*/snapshots/*"))
	if err != nil || len(commit) != 1 {
		t.Fatalf("%v, %v", commit, err)
	}
	fails(t, env, exitIntegrity, "give the model's name instead", "sign", commit[0], "--key", key)
	for _, args := range [][]string{
		{"verify", "--oms"}, {"verify", "--public-key", public}, {"sign", file}, {"sign", file, "--key", public},
		{"verify", "--oms", file, "--public-key", key}, {"verify", "--oms", file, "--public-key", public, "--identity", "x"},
		{"sign", file, "--key", key, "--allow-symlinks"},
	} {
		fails(t, env, exitUsage, "", args...)
	}
}

// TestPolicy serves what the policy admits, and nothing else: at a pull, before weights are downloaded; at an import; at
// the start; and when a client asks for a stored model.
func TestPolicy(t *testing.T) {
	h := newHub(t)
	env := environ(t, h)
	key, public := signingKey(t)
	model := testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML})
	files := map[string][]byte{"signed-Q4_K_M.gguf": model, "README.md": []byte("# Signed")}
	sig := signedRepo(t, env, key, files)
	files["model.sig"] = sig
	h.Add("tests/Signed-GGUF", hubtest.Repo{License: "mit", Files: files})
	h.Add("tests/Forged-GGUF", hubtest.Repo{License: "mit", Files: map[string][]byte{
		"signed-Q4_K_M.gguf": testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML, Context: 99}), "model.sig": sig,
	}})

	rules := filepath.Join(t.TempDir(), "policy.json")
	writeFile(t, rules, fmt.Appendf(nil,
		`{"version": 1, "signers": {"team": {"public_key": %q}}, "allow": [{"signed_by": ["team"]}]}`, public))
	must(t, env, "pull", "tests/Signed-GGUF", "--policy", rules)
	h.Requests()
	fails(t, env, exitRefused, "does not admit tests/Forged-GGUF", "pull", "tests/Forged-GGUF", "--policy", rules)
	for _, r := range h.Requests() {
		if strings.Contains(r.Path, ".gguf") {
			t.Errorf("a model that is not admitted was downloaded: %+v", r)
		}
	}

	// What is here already is asked about when it is loaded.
	must(t, env, "pull", "tests/Forged-GGUF", tinyRepo)
	for _, name := range []string{"tests/Forged-GGUF", tinyRepo, "demo"} {
		fails(t, env, exitRefused, "does not admit "+name, name, "--policy", rules, "--port", "0")
	}
	fails(t, env, exitRefused, "does not admit", "pull", tinyRepo, "--policy", rules)
	r := startServeIn(t, append(env, "SERVE_POLICY="+rules), "tests/Signed-GGUF", "--ctx-size", "128")
	if sayHello(t, r, "tests/Signed-GGUF") == "" {
		t.Error("the model says nothing")
	}
	status, body := r.send(t, http.MethodPost, "/api/chat", `{"model": "`+tinyRepo+`", "messages": []}`)
	if status != http.StatusForbidden || !strings.Contains(body, "does not admit") {
		t.Errorf("a stored model: %d %s", status, body)
	}
	status, body = r.send(t, http.MethodPost, "/api/pull", `{"model": "tests/Forged-GGUF:q8_0", "stream": false}`)
	if status == http.StatusOK {
		t.Errorf("a pull: %d %s", status, body)
	}

	bundle := filepath.Join(t.TempDir(), "models.tar")
	must(t, env, "bundle", "export", "tests/Signed-GGUF", bundle)
	away := environ(t, h)
	must(t, away, "bundle", "import", bundle, "--policy", rules)
	must(t, away, "verify", "--oms", "tests/Signed-GGUF", "--public-key", public)
	must(t, env, "bundle", "export", "tests/Forged-GGUF", bundle)
	fails(t, away, exitRefused, "does not admit tests/Forged-GGUF", "bundle", "import", bundle, "--policy", rules)
	if out := must(t, away, "list"); strings.Contains(out, "Forged") {
		t.Errorf("it was imported: %s", out)
	}
	fails(t, env, exitUsage, "no condition", "pull", tinyRepo, "--policy", func() string {
		bad := filepath.Join(t.TempDir(), "bad.json")
		writeFile(t, bad, []byte(`{"version": 1, "allow": [{}]}`))
		return bad
	}())
}

// TestLicenses accepts a license once, by a flag, before anything is downloaded.
func TestLicenses(t *testing.T) {
	h := newHub(t)
	env := environ(t, h)
	h.Add("tests/Limited-GGUF", hubtest.Repo{License: "gemma", Files: map[string][]byte{
		"limited-Q4_K_M.gguf": testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML}), "LICENSE": []byte("limited"),
	}})
	fails(t, env, exitAccess, "has the license gemma", "pull", "tests/Limited-GGUF")
	fails(t, env, exitAccess, "--accept-license gemma", "tests/Limited-GGUF")
	for _, r := range h.Requests() {
		if strings.Contains(r.Path, ".gguf") {
			t.Errorf("it was downloaded: %+v", r)
		}
	}
	if _, _, errOut := command(env, "licenses"); !strings.Contains(errOut, "no license has been accepted") {
		t.Error(errOut)
	}

	r := startServeIn(t, env, tinyRepo, "--ctx-size", "128")
	status, body := r.send(t, http.MethodPost, "/api/pull", `{"model": "tests/Limited-GGUF", "stream": false}`)
	if status != http.StatusForbidden || !strings.Contains(body, "gemma") {
		t.Errorf("a client's pull: %d %s", status, body)
	}
	must(t, env, "pull", "tests/Limited-GGUF", "--accept-license", "gemma")
	if out := must(t, env, "licenses"); !strings.Contains(out, "gemma") || !strings.Contains(out, "tests/Limited-GGUF") {
		t.Error(out)
	}
	must(t, env, "rm", "tests/Limited-GGUF")
	must(t, env, "pull", "tests/Limited-GGUF")
	if n := strings.Count(must(t, env, "licenses", "--json"), `"how": "flag"`); n != 1 {
		t.Errorf("accepted %d times", n)
	}
}

// TestSBOM prints what the program and a model are made of.
func TestSBOM(t *testing.T) {
	h := newHub(t)
	env := environ(t, h)
	must(t, env, "pull", tinyRepo)
	for args, wants := range map[string][]string{
		"":       {`"specVersion": "1.7"`, `"name": "serve"`, `"pkg:golang/github.com/gin-gonic/gin@`, `"name": "llama.cpp"`},
		tinyRepo: {`"machine-learning-model"`, hubtest.SHA256(testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML})), `"id": "MIT"`},
		"demo":   {`"machine-learning-model"`, `"SHA-256"`},
	} {
		out := must(t, env, strings.Fields("sbom "+args)...)
		var v any
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Errorf("%q: %v", args, err)
		}
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%q: no %s in %s", args, want, out)
			}
		}
	}
}

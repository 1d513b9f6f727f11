package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"serve/models/testmodel"
	"serve/server"
	"serve/server/servertest"
)

// startForOllama serves a model and has another one stored, which it does not serve.
func startForOllama(t *testing.T) *running {
	t.Helper()
	h := newHub(t)
	environ := environ(t, h)
	must(t, environ, "pull", tinyRepo)
	return startServeIn(t, environ, modelFile(t), "--ctx-size", "512", "--parallel", "2")
}

// TestOllamaPython runs Ollama's client for Python, and LangChain's, against the server; and what Home Assistant's
// integration does with the former, whose own packages need a newer Python: models and forms of the server, and a
// conversation with a scripted model that calls tools.
func TestOllamaPython(t *testing.T) {
	r := startForOllama(t)
	python(t, os.Environ(), "ollama_client.py", r.url, "tiny", tinyRepo+":Q4_K_M", "none")

	scripted, _ := servertest.Play(t, server.Options{},
		servertest.Line{After: "Thanks!", Say: "You are welcome."},
		servertest.Line{After: `"of": "HassTurnOn"`, Say: "Both lights are on."},
		servertest.Line{
			After:  `"of": "GetLiveContext"`,
			Tool:   "HassTurnOn",
			Call:   "HassTurnOn",
			Input:  `{"name":"Kitchen"}`,
			Beside: []servertest.Line{{Call: "HassTurnOn", Input: `{"name":"Hall","domain":["light"]}`}},
		},
		servertest.Line{Call: "GetLiveContext", Input: `{}`},
	)
	python(t, os.Environ(), "home_assistant.py", scripted.URL, r.url, "tiny", tinyRepo+":Q4_K_M")
}

// TestOllamaNode runs the npm package ollama against the server.
func TestOllamaNode(t *testing.T) {
	if _, err := os.Stat("testdata/node/node_modules/ollama"); err != nil {
		t.Skip("make test installs the npm package ollama; it is not here: ", err)
	}
	r := startForOllama(t)
	cmd := exec.Command("node", "ollama.mjs", r.url, "tiny", tinyRepo+":Q4_K_M", "none")
	cmd.Dir = "testdata/node"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestOllamaVision reads images that come as bare base64.
func TestOllamaVision(t *testing.T) {
	projector := projectorFile(t, testmodel.Projector(testmodel.MLP))
	r := startServe(t, modelFile(t), "--mmproj", projector, "--ctx-size", "4096")
	_, pixels, _ := strings.Cut(dot, "base64,")
	body := `{"model":"tiny","stream":false,"options":{"num_predict":4},"messages":[{"role":"user","content":"?",` +
		`"images":["` +
		pixels + `"]}]}`
	if status, text := r.post(t, "/api/chat", body); status != http.StatusOK || !strings.Contains(text, `"eval_count":4`) {
		t.Errorf("%d %s", status, text)
	}
	_, text := r.post(t, "/api/show", `{"model":"tiny"}`)
	if !strings.Contains(text, `"vision"`) ||
		!strings.Contains(text, `"clip.has_vision_encoder":true`) {
		t.Errorf("show: %s", text)
	}
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestOllamaPort listens where Ollama's clients look, too.
func TestOllamaPort(t *testing.T) {
	port := freePort(t)
	startServe(t, modelFile(t), "--ctx-size", "128", "--ollama-port", port)
	res, err := http.Get("http://127.0.0.1:" + port + "/api/version")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", res, err)
	}
	res.Body.Close()
}

// TestOllamaPull downloads a model that the server then answers by, and deletes it.
func TestOllamaPull(t *testing.T) {
	h := newHub(t)
	r := startServeIn(t, environ(t, h), modelFile(t), "--ctx-size", "256")
	name := "hf.co/" + tinyRepo + ":Q4_K_M"
	if _, text := r.send(t, http.MethodGet, "/api/tags", ""); strings.Contains(text, tinyRepo) {
		t.Fatalf("it is here already: %s", text)
	}

	_, lines := r.post(t, "/api/pull", `{"model":"`+name+`"}`)
	for _, want := range []string{`{"status":"pulling manifest"}`, `"digest":"sha256:`, `"completed":`,
		`{"status":"success"}`} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %s in %s", want, lines)
		}
	}
	status, text := r.post(
		t,
		"/api/chat",
		`{"model":"`+name+`","stream":false,"options":{"num_predict":2},"messages":[{"role":"user","content":"x"}]}`,
	)
	if status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	for _, want := range []int{http.StatusOK, http.StatusNotFound} {
		if status, text := r.send(t, http.MethodDelete, "/api/delete", `{"model":"`+name+`"}`); status != want {
			t.Errorf("delete: %d %s", status, text)
		}
	}
	for _, path := range []string{"/etc/passwd", "./x.gguf", "~/x.gguf", "x.gguf"} {
		if status, text := r.post(t, "/api/show", `{"model":"`+path+`"}`); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

// TestOllamaPullFails tells a client why a model cannot be downloaded.
func TestOllamaPullFails(t *testing.T) {
	h := newHub(t)
	env := environ(t, h)
	h.Close()
	r := startServeIn(t, env, modelFile(t), "--ctx-size", "256")
	name := "hf.co/" + tinyRepo + ":Q4_K_M"

	status, text := r.post(t, "/api/pull", `{"model":"`+name+`","stream":false}`)
	if status != http.StatusBadGateway || !strings.Contains(text, "cannot be downloaded") {
		t.Errorf("%d %s", status, text)
	}
	status, text = r.post(t, "/api/pull", `{"model":"`+name+`"}`)
	if status != http.StatusOK || !strings.Contains(text, `"error":"The model`) {
		t.Errorf("%d %s", status, text)
	}
}

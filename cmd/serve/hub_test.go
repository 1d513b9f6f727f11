package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"serve/egress"
	"serve/hub/hubtest"
	"serve/library"
	"serve/models"
	"serve/models/testmodel"
	"serve/sandbox"
)

// TestMain lets this binary be serve itself, for tests that need a process to
// kill or to watch.
func TestMain(m *testing.M) {
	sandbox.Enter()
	hardware.Variables = []string{"TEST_*"}
	failKernels(os.Getenv("TEST_CRASHING_KERNELS"), os.Getenv("TEST_WRONG_KERNELS"), os.Getenv("TEST_REFUSING_CARD"))
	playDriver()
	// A fuzzer's worker inherits the variable, and is a test.
	if os.Getenv("TEST_AS_SERVE") == "1" && !slices.Contains(os.Args, "-test.fuzzworker") {
		main()
	}
	// The tests go on after a command that is offline. Those of processes have them restricted.
	disconnect = func(*egress.Net, context.Context, egress.Disconnection) {}
	os.Setenv("TEST_AS_SERVE", "1") // of the engines, which are this program too
	os.Setenv("GORACE", endsAtOnce)
	os.Exit(runTests(m))
}

// endsAtOnce are options of the race detector, with which a program otherwise sleeps for a second before it ends.
const endsAtOnce = "atexit_sleep_ms=0"

// testHome is SERVE_HOME of the tests that name none.
var testHome string

func runTests(m *testing.M) int {
	var err error
	if testHome, err = os.MkdirTemp("", "serve-tests-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(testHome)
	return m.Run()
}

// tinyRepo is a repository of the fake Hub with a model that chats.
const tinyRepo = "tests/Tiny-GGUF"

func newHub(t testing.TB) *hubtest.Hub {
	t.Helper()
	h := hubtest.New()
	t.Cleanup(func() {
		h.Close()
		for _, r := range h.Requests() {
			if r.Host == "cdn" && r.Authorization != "" {
				t.Errorf("the CDN was sent the token: %+v", r)
			}
		}
	})
	h.Add(tinyRepo, hubtest.Repo{License: "mit", Files: map[string][]byte{
		"tiny-Q4_K_M.gguf": testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML}),
		"LICENSE":          []byte("do what you like\n"),
	}})
	return h
}

// environ is a home of its own and a Hub.
func environ(t testing.TB, h *hubtest.Hub) []string {
	return []string{"HOME=" + t.TempDir(), "HF_ENDPOINT=" + h.URL, "HF_TOKEN=" + hubtest.Token}
}

// command runs serve until it ends.
func command(environ []string, args ...string) (code int, stdout, stderr string) {
	var out, errOut bytes.Buffer
	code = run(context.Background(), args, withHome(environ), &out, &errOut)
	return code, out.String(), errOut.String()
}

// must runs serve and fails the test if it does.
func must(t testing.TB, environ []string, args ...string) (stdout string) {
	t.Helper()
	code, out, errOut := command(environ, args...)
	if code != 0 {
		t.Fatalf("serve %v: exit code %d\n%s", args, code, errOut)
	}
	return out
}

// sayHello streams a chat by the official client and returns the text.
func sayHello(t testing.TB, r *running, model string) string {
	t.Helper()
	client := openai.NewClient(option.WithBaseURL(r.url+"/v1"), option.WithAPIKey("none"))
	stream := client.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{
		Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("tell the world")},
		MaxCompletionTokens: openai.Int(8), Temperature: openai.Float(0),
	})
	var text strings.Builder
	for stream.Next() {
		for _, c := range stream.Current().Choices {
			text.WriteString(c.Delta.Content)
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestServeByName goes from an empty cache to a streamed chat in one command. The
// second start asks nobody, and the third may not.
func TestServeByName(t *testing.T) {
	h := newHub(t)
	env := environ(t, h)
	r := startServeIn(t, env, tinyRepo, "--ctx-size", "256")
	first := sayHello(t, r, tinyRepo)
	if first == "" {
		t.Error("the model says nothing")
	}

	for _, words := range []string{"pulled    " + tinyRepo + ": tiny-Q4_K_M.gguf", "license   mit", "ready"} {
		if !strings.Contains(r.errOut.String(), words) {
			t.Errorf("start-up does not say %q:\n%s", words, r.errOut)
		}
	}

	if n := len(h.Requests()); n != 4 { // the listing, the file, where it is, the license
		t.Errorf("%d requests", n)
	}

	again := startServeIn(t, env, tinyRepo, "--ctx-size", "256")
	if got := sayHello(t, again, tinyRepo); got != first {
		t.Errorf("the second start says %q, not %q", got, first)
	}

	offline := startServeIn(t, env, tinyRepo+":q4_k_m", "--offline", "--ctx-size", "256")
	if got := sayHello(t, offline, tinyRepo+":q4_k_m"); got != first {
		t.Errorf("offline it says %q, not %q", got, first)
	}
	for _, tt := range []struct {
		r       *running
		offline string
	}{{again, `"manage":true,"offline":false`}, {offline, `"manage":true,"offline":true`}} {
		_, body := tt.r.send(t, http.MethodGet, "/catalog", "")
		if !strings.Contains(body, tt.offline) || !strings.Contains(body, `"mistral-7b"`) {
			t.Errorf("the catalog: %.200s", body)
		}
	}
	if requests := h.Requests(); len(requests) != 0 {
		t.Errorf("a model that is here is asked for: %v", requests)
	}
}

// TestServeCatalogName serves a row of the catalog, an embedding model whose
// hash the catalog does not know.
func TestServeCatalogName(t *testing.T) {
	h := newHub(t)
	h.Add("second-state/All-MiniLM-L6-v2-Embedding-GGUF", hubtest.Repo{License: "apache-2.0", Files: map[string][]byte{
		"all-MiniLM-L6-v2-ggml-model-f16.gguf": testmodel.Bytes(testmodel.Options{Pooling: 1}),
		"all-MiniLM-L6-v2-Q8_0.gguf":           []byte("another one"),
	}})
	r := startServeIn(t, environ(t, h), "all-minilm")
	status, body := r.post(t, "/v1/embeddings", `{"model":"all-minilm","input":"hello"}`)
	if status != 200 ||
		!strings.Contains(body, `"embedding":[`) {
		t.Errorf("%d %s", status, body)
	}
	if !strings.Contains(r.out.String(), "/v1/embeddings") {
		t.Errorf("it invites to %s", r.out)
	}
}

// TestSplitModel fetches a model in parts and loads it.
func TestSplitModel(t *testing.T) {
	h := newHub(t)
	parts := testmodel.Split(testmodel.Options{ChatTemplate: testmodel.ChatML}, 3)
	files := map[string][]byte{}
	for i, part := range parts {
		files[fmt.Sprintf("Q8_0/tiny-Q8_0-%05d-of-%05d.gguf", i+1, len(parts))] = part
	}
	h.Add("tests/Split-GGUF", hubtest.Repo{Files: files})
	env := environ(t, h)
	r := startServeIn(t, env, "tests/Split-GGUF:Q8_0", "--ctx-size", "256")
	whole := startServeIn(t, env, tinyRepo, "--ctx-size", "256")
	if got, want := sayHello(t, r, "tests/Split-GGUF:Q8_0"), sayHello(t, whole, tinyRepo); got != want {
		t.Errorf("in parts it says %q, whole %q", got, want)
	}
	// A set that lacks a part has no name.
	delete(files, "Q8_0/tiny-Q8_0-00002-of-00003.gguf")
	h.Add("tests/Lacking-GGUF", hubtest.Repo{Files: files})
	code, _, errOut := command(env, "pull", "tests/Lacking-GGUF:Q8_0")
	if code != exitNotFound ||
		!strings.Contains(errOut, "2 of its 3 parts") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

// TestPullFaults looks at faults from outside: the exit code and what is said.
func TestPullFaults(t *testing.T) {
	model := testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML})
	tests := []struct {
		name  string
		set   func(*hubtest.Hub)
		args  []string
		code  int
		words []string
	}{
		{"no such repository", nil, []string{"pull", "tests/None"}, exitNotFound, []string{"hint: check the spelling"}},
		{
			"a quantization that is not there",
			nil,
			[]string{"pull", tinyRepo + ":Q8_0"},
			exitNotFound,
			[]string{"has no Q8_0", "it has Q4_K_M"},
		},
		{"a mistyped name", nil, []string{"mistrl-7b"}, exitNotFound, []string{"did you mean mistral-7b"}},
		{
			"a mistyped command",
			nil,
			[]string{"pul", "mistral-7b"},
			exitNotFound,
			[]string{`no command or model is named "pul"`},
		},
		{"gated", func(h *hubtest.Hub) {
			h.Add(tinyRepo, hubtest.Repo{Files: map[string][]byte{"m-Q4_K_M.gguf": model}, Gated: "manual"})
			h.Fail("hub", func(w http.ResponseWriter, r *http.Request) bool { r.Header.Del("Authorization"); return false })
		}, []string{"pull", tinyRepo, "--accept-license", tinyRepo}, exitAccess, []string{"gated", "accept its terms at"}},
		{
			"wrong bytes",
			func(h *hubtest.Hub) { h.Fail("cdn", hubtest.WrongByte(h)) },
			[]string{"pull", tinyRepo},
			exitIntegrity,
			[]string{"have the hash", "nothing was kept"},
		},
		{
			"a web page",
			func(h *hubtest.Hub) { h.Fail("hub", hubtest.HTML(true)) },
			[]string{"pull", tinyRepo},
			exitNetwork,
			[]string{"web page", "HTTPS_PROXY"},
		},
		{"offline", nil, []string{"pull", tinyRepo, "--offline"}, exitNotFound, []string{"offline mode downloads nothing"}},
		{"a wrong hash in the listing", func(h *hubtest.Hub) {
			h.Add(
				tinyRepo,
				hubtest.Repo{
					Files:  map[string][]byte{"m-Q4_K_M.gguf": model},
					SHA256: map[string]string{"m-Q4_K_M.gguf": "../../../evil"},
				},
			)
		}, []string{"pull", tinyRepo}, exitIntegrity, []string{"no usable hash"}},
		{"no model", func(h *hubtest.Hub) {
			h.Add(
				tinyRepo,
				hubtest.Repo{
					Files: map[string][]byte{
						"m-Q4_K_M.gguf": append([]byte("GGUF\x03\x00\x00\x00"), bytes.Repeat([]byte{255}, 200)...),
					},
				},
			)
		}, []string{"pull", tinyRepo}, exitModel, []string{"not a usable GGUF file", "keys"}},
		{"cut off at the Hub", func(h *hubtest.Hub) {
			h.Add(tinyRepo, hubtest.Repo{Files: map[string][]byte{"m-Q4_K_M.gguf": model[:len(model)-100]}})
		}, []string{"pull", tinyRepo}, exitModel, []string{"truncated"}},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHub(t)
			if tt.set != nil {
				tt.set(h)
			}

			env := environ(t, h)
			code, _, errOut := command(env, tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}

			for _, words := range tt.words {
				if !strings.Contains(errOut, words) {
					t.Errorf("it does not say %q:\n%s", words, errOut)
				}
			}

			if out := must(t, env, "list", "--json"); strings.TrimSpace(out) != "[]" {
				t.Errorf("there is %s", out)
			}

			filepath.WalkDir(strings.TrimPrefix(env[0], "HOME="), func(name string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() && strings.HasSuffix(name, ".gguf") {
					t.Errorf("left: %s", name)
				}
				return nil
			})
		})
	}
}

// process starts this binary as serve.
func process(t testing.TB, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append([]string{"TEST_AS_SERVE=1", "GORACE=" + endsAtOnce}, environ...)
	return cmd
}

// large is a model of about n bytes.
func large(n int) []byte {
	b := testmodel.Bytes(testmodel.Options{ChatTemplate: testmodel.ChatML})
	return append(b, make([]byte, max(0, n-len(b)))...)
}

// TestKilledDownload kills a download twice and goes on.
func TestKilledDownload(t *testing.T) {
	h := newHub(t)
	model := large(64 << 20)
	h.Add(tinyRepo, hubtest.Repo{Files: map[string][]byte{"m-Q4_K_M.gguf": model}})
	env := environ(t, h)
	for range 2 {
		cmd := process(t, env, "pull", tinyRepo)
		var once sync.Once
		held := make(chan struct{})
		// The Hub sends some and then holds still; then comes the kill.
		gate := hubtest.Hold(h, 20<<20, func() { once.Do(func() { close(held) }) }, t.Context().Done())
		h.Fail("cdn", gate)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-held
		awaitJournal(t, env, 18)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if out := must(t, env, "list", "--json"); strings.TrimSpace(out) != "[]" {
			t.Errorf("after the kill there is %s", out)
		}
	}

	h.Fail("cdn", nil)
	h.Requests()
	must(t, env, "pull", tinyRepo)
	var got int64
	for _, r := range h.Requests() {
		var a, b int64
		if _, err := fmt.Sscanf(r.Range, "bytes=%d-%d", &a, &b); err == nil && r.Host == "cdn" {
			got += b - a + 1
		}
	}

	if got >= int64(len(model)) {
		t.Errorf("fetched %d bytes of %d again", got, len(model))
	}

	must(t, env, "verify")
}

// awaitJournal waits until an unfinished download has noted something: more
// than its head of so many bytes.
func awaitJournal(t testing.TB, env []string, head int64) {
	t.Helper()
	for t.Context().Err() == nil {
		names, err := filepath.Glob(strings.TrimPrefix(env[0], "HOME=") + "/.cache/huggingface/hub/*/blobs/*.journal")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && info.Size() > head {
				return
			}
		}
		time.Sleep(time.Millisecond) // another process's file: there is nothing to wait on
	}
}

// TestTwoProcesses lets two processes pull the same model: one fetches it.
func TestTwoProcesses(t *testing.T) {
	h := newHub(t)
	model := large(32 << 20)
	h.Add(tinyRepo, hubtest.Repo{Files: map[string][]byte{"m-Q4_K_M.gguf": model}})
	env := environ(t, h)
	var wg sync.WaitGroup
	for range 2 {
		cmd := process(t, env, "pull", tinyRepo)
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}

	wg.Wait()
	var got int
	for _, r := range h.Requests() {
		var a, b int
		if _, err := fmt.Sscanf(r.Range, "bytes=%d-%d", &a, &b); err == nil && r.Host == "cdn" {
			got += b - a + 1
		}
	}

	if got != len(model) {
		t.Errorf("fetched %d bytes for a model of %d", got, len(model))
	}
}

// TestCommands goes through a model's life by the commands, as JSON and as text.
func TestCommands(t *testing.T) {
	h := newHub(t)
	env := environ(t, h)
	var pulled []models.Info
	if err := json.Unmarshal([]byte(must(t, env, "pull", tinyRepo, "--json")), &pulled); err != nil || len(pulled) != 1 {
		t.Fatalf("%v, %v", pulled, err)
	}

	m := pulled[0]
	if m.Name != tinyRepo || m.License != "mit" || m.Quant != "Q4_K_M" || len(m.Files) != 2 ||
		len(m.Files[0].SHA256) != 64 || m.Files[1].GitOID == "" {
		t.Errorf("pulled %+v", m)
	}
	if out := must(t, env, "list"); !strings.Contains(out, tinyRepo+":Q4_K_M") || !strings.Contains(out, "mit") {
		t.Errorf("list: %s", out)
	}

	var s library.Details
	err := json.Unmarshal([]byte(must(t, env, "show", tinyRepo, "--json", "--ctx-size", "512", "--parallel", "2")), &s)
	if err != nil {
		t.Fatal(err)
	}
	if s.Architecture != "llama" || s.Context != 512 || s.Parallel != 2 || len(s.Memory) != 1 || s.Memory[0].KV == 0 ||
		!s.Verified || s.Template != testmodel.ChatML || s.Header["llama.block_count"] != 3.0 {
		t.Errorf("show: %+v", s)
	}
	plan := must(t, env, "show", tinyRepo, "--plan", "--gpu-layers", "0")
	if !strings.Contains(plan, "all on the CPU") || !strings.Contains(plan, "KV cache") ||
		strings.Contains(plan, "sha256") {
		t.Errorf("the plan is\n%s", plan)
	}
	if out := must(t, env, "show", tinyRepo, "--template"); strings.TrimSpace(out) != testmodel.ChatML {
		t.Errorf("template: %s", out)
	}
	if out := must(t, env, "show", tinyRepo); !strings.Contains(out, "verified") || !strings.Contains(out, "KV cache") {
		t.Errorf("show: %s", out)
	}
	if out := must(t, env, "verify", "--json"); !strings.Contains(out, `"ok": true`) {
		t.Errorf("verify: %s", out)
	}

	// A byte of the disk turns.
	blob, err := filepath.EvalSymlinks(m.Path)
	if err != nil {
		t.Fatal(err)
	}

	b, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}

	b[len(b)-1] ^= 1
	if err := os.WriteFile(blob, b, 0o644); err != nil {
		t.Fatal(err)
	}

	for _, args := range [][]string{{"verify"}, {tinyRepo}, {"show", tinyRepo}, {"bundle", "export", tinyRepo,
		filepath.Join(t.TempDir(), "x.tar")}} {
		if code, _, errOut := command(env, args...); code != exitIntegrity || !strings.Contains(errOut, "damaged") {
			t.Errorf("%v of a damaged file: exit code %d: %s", args, code, errOut)
		}
	}

	if out := must(t, env, "rm", tinyRepo, "--json"); !strings.Contains(out, `"freed_bytes"`) {
		t.Errorf("rm: %s", out)
	}
	if out := must(t, env, "list", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("after rm: %s", out)
	}
	code, _, errOut := command(env, "rm", tinyRepo)
	if code != exitNotFound ||
		!strings.Contains(errOut, "not on this machine") {
		t.Errorf("exit code %d: %s", code, errOut)
	}

	var rows []library.Row
	err = json.Unmarshal([]byte(must(t, env, "catalog", "--json", "mistral")), &rows)
	if err != nil || len(rows) < 3 ||
		rows[0].Memory == 0 {
		t.Errorf("catalog: %v, %v", rows, err)
	}
	out := must(t, env, "catalog", "embeddings")
	if !strings.Contains(out, "nomic-embed-text") ||
		strings.Contains(out, "mistral") {
		t.Errorf("catalog: %s", out)
	}
	_, err = os.Stat(filepath.Join(strings.TrimPrefix(env[0], "HOME="), ".cache", "huggingface", "hub", "CACHEDIR.TAG"))
	if err != nil {
		t.Error(err)
	}
}

// TestUpdate keeps what is here until it is asked to look.
func TestUpdate(t *testing.T) {
	h := newHub(t)
	env := environ(t, h)
	must(t, env, "pull", tinyRepo)
	h.Add(
		tinyRepo,
		hubtest.Repo{License: "mit", Files: map[string][]byte{"tiny-Q4_K_M.gguf": testmodel.Bytes(testmodel.Options{})}},
	)
	h.Requests()
	before := must(t, env, "pull", tinyRepo, "--json")
	if n := len(h.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}

	after := must(t, env, "pull", tinyRepo, "--json", "--update")
	if before == after {
		t.Error("nothing was updated")
	}
	if got := must(t, env, "pull", tinyRepo, "--json"); got != after {
		t.Errorf("then it is %s", got)
	}
	// The old one is still here, under its commit.
	if out := must(t, env, "list"); strings.Count(out, tinyRepo) != 4 || !strings.Contains(out, "@") {
		t.Errorf("list: %s", out)
	}
}

// TestLazyModels serves two models that are loaded when they are asked for, and
// unloaded when they are not.
func TestLazyModels(t *testing.T) {
	h := newHub(t)
	env := environ(t, h)
	r := startServeIn(
		t, env, tinyRepo, modelFile(t), "--lazy", "--keep-alive", "1ms", "--ctx-size", "128", "--alias", "gpt-4o=tiny",
	)
	if strings.Contains(r.errOut.String(), "loaded ") {
		t.Errorf("loaded at once:\n%s", r.errOut)
	}
	want := sayHello(t, r, tinyRepo)
	for range 3 {
		for _, name := range []string{tinyRepo, "tiny", "gpt-4o"} {
			if got := sayHello(t, r, name); got != want {
				t.Errorf("%s says %q, not %q", name, got, want)
			}
		}
	}
	if n := strings.Count(r.errOut.String(), "serve: loaded "); n < 2 {
		t.Errorf("loaded %d times:\n%s", n, r.errOut)
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"serve/engine/llama"
	"serve/models/testmodel"
)

// syncBuffer is what a command says, readable while it says it.
type syncBuffer struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func newSyncBuffer() *syncBuffer { return &syncBuffer{more: make(chan struct{}, 1)} }

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// running is a serve that runs in this process.
type running struct {
	url         string
	out, errOut *syncBuffer
	stop        context.CancelFunc
	done        chan int
}

var readyLine = regexp.MustCompile(`(?m)^serve: ready +(https?://\S+)/v1$`)

// startServe runs serve until the test ends, and waits until it is ready.
func startServe(t *testing.T, args ...string) *running {
	t.Helper()
	return startServeIn(t, nil, args...)
}

// startServeIn is startServe with an environment.
func startServeIn(t *testing.T, environ []string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{out: newSyncBuffer(), errOut: newSyncBuffer(), stop: cancel, done: make(chan int, 1)}
	// What TestMeasuredKernels and its neighbors try takes a second each time.
	environ = append([]string{"SERVE_KERNELS=" + llama.CurrentKernels()}, withHome(environ)...)
	go func() { r.done <- run(ctx, append([]string{"--port", "0"}, args...), environ, r.out, r.errOut) }()
	t.Cleanup(func() {
		cancel()
		if code := <-r.done; code != 0 {
			t.Errorf("exit code %d:\n%s", code, r.errOut)
		}
		r.done <- 0
	})
	url, code, ok := awaitReady(r.errOut, r.done)
	if !ok {
		r.done <- code
		t.Fatalf("serve ended with %d:\n%s", code, r.errOut)
	}
	r.url = url
	return r
}

// awaitReady waits until serve says where it listens, or has ended, and then says how.
func awaitReady[End any](said *syncBuffer, ended <-chan End) (url string, end End, ok bool) {
	for {
		if m := readyLine.FindStringSubmatch(said.String()); m != nil {
			return m[1], end, true
		}
		select {
		case <-said.more:
		case end = <-ended:
			return "", end, false
		}
	}
}

// modelFile writes a test model that chats.
func modelFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := testmodel.Write(path, testmodel.Options{ChatTemplate: testmodel.ChatML}); err != nil {
		t.Fatal(err)
	}
	return path
}

func (r *running) post(t testing.TB, path, body string) (int, string) {
	t.Helper()
	return r.send(t, http.MethodPost, path, body)
}

func (r *running) send(t testing.TB, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestStartUpTells(t *testing.T) {
	r := startServe(t, modelFile(t), "--ctx-size", "512", "--parallel", "2", "--alias", "gpt-4o")
	for _, words := range []string{
		"model     tiny: llama", "context   512 tokens for each of 2 concurrent requests", "weights + ", " KV cache",
		"device    ", "threads", "loaded    in ",
	} {
		if !strings.Contains(r.errOut.String(), words) {
			t.Errorf("start-up does not say %q:\n%s", words, r.errOut)
		}
	}
	command := strings.TrimSpace(r.out.String())
	if !strings.HasPrefix(command, "curl "+r.url+"/v1/chat/completions") {
		t.Fatalf("stdout is %q", command)
	}
	out, err := exec.Command("sh", "-c", command).Output()
	if err != nil || !strings.Contains(string(out), `"object":"chat.completion"`) {
		t.Errorf("the command to paste gives %s, %v", out, err)
	}
	if status, body := r.post(t, "/v1/completions", `{"model":"gpt-4o","prompt":"the","max_tokens":1}`); status != 200 {
		t.Errorf("by its alias: %d %s", status, body)
	}
}

// TestStories compares with the continuation that shared/design/openai-contract.md
// records of a real model.
func TestStories(t *testing.T) {
	path := "../../../shared/data/stories260K.gguf"
	if _, err := os.Stat(path); err != nil {
		t.Skip("no real model beside this checkout: ", err)
	}
	r := startServe(t, path)
	_, body := r.post(
		t, "/v1/completions", `{"model":"stories260K","prompt":"Once upon a time","max_tokens":48,"temperature":0}`,
	)
	want := ", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, " +
		"red ball. She wanted to play with it,"
	if !strings.Contains(body, `"text":"`+want+`"`) || !strings.Contains(body, `"prompt_tokens":5`) {
		t.Errorf("got %s", body)
	}
}

func TestOpenAIGo(t *testing.T) {
	r := startServe(t, modelFile(t), "--ctx-size", "512")
	client := openai.NewClient(option.WithBaseURL(r.url+"/v1"), option.WithAPIKey("none"))
	ctx := context.Background()
	messages := []openai.ChatCompletionMessageParamUnion{
		openai.SystemMessage("be kind"),
		openai.UserMessage("tell the world"),
	}
	params := openai.ChatCompletionNewParams{
		Model:               "tiny",
		Messages:            messages,
		MaxCompletionTokens: openai.Int(24),
		Temperature:         openai.Float(0),
	}

	whole, err := client.Chat.Completions.New(ctx, params)
	if err != nil {
		t.Fatal(err)
	}
	if c := whole.Choices[0]; c.Message.Content == "" || c.FinishReason != "length" || whole.Usage.CompletionTokens != 24 {
		t.Errorf("got %+v", whole)
	}
	params.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := client.Chat.Completions.NewStreaming(ctx, params)
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		if !acc.AddChunk(stream.Current()) {
			t.Error("a chunk does not belong")
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if got := acc.Choices[0]; got.Message.Content != whole.Choices[0].Message.Content || got.FinishReason != "length" ||
		got.Message.Role != "assistant" {
		t.Errorf("streamed %+v, whole %+v", got, whole.Choices[0])
	}
	if acc.Usage.PromptTokens != whole.Usage.PromptTokens || acc.Usage.TotalTokens != whole.Usage.TotalTokens {
		t.Errorf("usage %+v, want %+v", acc.Usage, whole.Usage)
	}

	n := params
	n.N = openai.Int(3)
	n.Logprobs = openai.Bool(true)
	n.TopLogprobs = openai.Int(2)
	many, err := client.Chat.Completions.New(ctx, n)
	if err == nil {
		for _, c := range many.Choices {
			if len(c.Logprobs.Content) != 24 || len(c.Logprobs.Content[0].TopLogprobs) != 2 ||
				c.Message.Content != whole.Choices[0].Message.Content {
				t.Errorf("choice %+v", c)
			}
		}
	}
	n.StreamOptions = openai.ChatCompletionStreamOptionsParam{}
	if many, err = client.Chat.Completions.New(ctx, n); err != nil || len(many.Choices) != 3 {
		t.Errorf("three choices: %+v, %v", many, err)
	}

	completion, err := client.Completions.New(
		ctx,
		openai.CompletionNewParams{
			Model:  "tiny",
			Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("the man")},
			Seed:   openai.Int(1),
		},
	)
	if err != nil || completion.Usage.CompletionTokens != 16 {
		t.Errorf("completion %+v, %v", completion, err)
	}
	embedding, err := client.Embeddings.New(
		ctx,
		openai.EmbeddingNewParams{
			Model: "tiny",
			Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("the man")},
		},
	)
	if err != nil || len(embedding.Data[0].Embedding) != 64 {
		t.Errorf("embedding: %v", err)
	}
	if list, err := client.Models.List(ctx); err != nil || list.Data[0].ID != "tiny" {
		t.Errorf("models: %v", err)
	}
	if m, err := client.Models.Get(ctx, "tiny"); err != nil || m.ID != "tiny" {
		t.Errorf("model: %v", err)
	}
	var apiErr *openai.Error
	params.Model = "absent"
	params.StreamOptions = openai.ChatCompletionStreamOptionsParam{}
	_, err = client.Chat.Completions.New(ctx, params)
	if !errors.As(err, &apiErr) || apiErr.StatusCode != 404 ||
		apiErr.Code != "model_not_found" {
		t.Errorf("unknown model: %v", err)
	}
}

// TestOpenAINode runs the npm package openai against the server.
func TestOpenAINode(t *testing.T) {
	if _, err := os.Stat("testdata/node/node_modules"); err != nil {
		t.Skip("make test installs the npm package openai; it is not here: ", err)
	}
	r := startServe(t, modelFile(t), "--ctx-size", "512")
	cmd := exec.Command("node", "chat.mjs", r.url+"/v1", "tiny")
	cmd.Dir = "testdata/node"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// answer is the greedy answer to a canary's prompt, up to its own stop string,
// and by how much the best token stood out where it stood out least.
func (r *running) answer(canary int) (text string, margin float64, err error) {
	prompt := fmt.Sprintf("the man and the canary %d of %d", canary, canary*7)
	body := fmt.Sprintf(`{"model":"tiny","prompt":%q,"max_tokens":%d,"temperature":0,"stop":[%q],"logprobs":2}`,
		prompt, 16+canary%17, testmodel.Words[canary%len(testmodel.Words)])
	res, err := http.Post(r.url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return "", 0, err
	}
	defer res.Body.Close()
	var out struct {
		Choices []struct {
			Text         string
			FinishReason string `json:"finish_reason"`
			Logprobs     struct {
				Top []map[string]float64 `json:"top_logprobs"`
			}
		}
		Error *struct{ Message string }
	}

	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return "", 0, err
	}
	if out.Error != nil {
		return "", 0, errors.New(out.Error.Message)
	}

	c := out.Choices[0]
	margin = math.Inf(1)
	for _, top := range c.Logprobs.Top {
		best := slices.Sorted(maps.Values(top))
		if len(best) == 2 {
			margin = min(margin, best[1]-best[0])
		}
	}

	return c.FinishReason + ": " + c.Text, margin, nil
}

// TestCrossTalk: 64 clients at once, each with a canary in its prompt and a stop
// string of its own, get the answers that each gets alone, over every layout of
// the KV cache and with prefixes reused. llama.cpp's attention rounds in another
// order in another batch, and the log-probabilities of this model then differ by
// up to 0.05; by 0.2 when 64 tokens or more are computed at once, by another
// kernel. So prompt and answer are shorter than that, and the clients are those
// whose every token stands out by 0.1.
func TestCrossTalk(t *testing.T) {
	path := modelFile(t)
	r := startServe(t, path, "--parallel", "1", "--ctx-size", "256", "--log-level", "warn")
	alone := map[int]string{}
	stopped := 0
	for canary := 0; len(alone) < 64; canary++ {
		text, margin, err := r.answer(canary)
		if err != nil {
			t.Fatal(err)
		}
		if margin > 0.1 {
			alone[canary] = text
			if strings.HasPrefix(text, "stop: ") {
				stopped++
			}
		}
	}

	t.Logf("%d of 64 end at their stop string", stopped)
	for name, flags := range map[string][]string{
		"8 sequences":                {"--parallel", "8"},
		"64 sequences":               {"--parallel", "64"},
		"16 sequences in one buffer": {"--parallel", "16", "--kv-cells", "400"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startServe(t, append([]string{path, "--ctx-size", "256", "--log-level", "warn"}, flags...)...)
			var wg sync.WaitGroup
			for round := range 3 {
				for canary, want := range alone {
					wg.Go(func() {
						if got, _, err := r.answer(canary); err != nil || got != want {
							t.Errorf("round %d, client %d: got %q, %v, alone %q", round, canary, got, err, want)
						}
					})
				}
			}
			wg.Wait()
		})
	}
}

// TestSlowAndVanishingClients: one reads a byte at a time and others vanish at
// every stage, and the rest get their answers.
func TestSlowAndVanishingClients(t *testing.T) {
	r := startServe(t, modelFile(t), "--ctx-size", "1024", "--parallel", "4", "--log-level", "warn")
	endless := `{"model":"tiny","prompt":"the","stream":true,"max_tokens":1000,"ignore_eos":true}`
	dial := func() net.Conn {
		c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	request := func(body string) string {
		return fmt.Sprintf(
			"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			len(body),
			body,
		)
	}

	slow := dial()
	defer slow.Close()
	io.WriteString(slow, request(endless))
	one := make([]byte, 1)
	if _, err := io.ReadFull(slow, one); err != nil { // and no more, while the others work
		t.Fatal(err)
	}

	for stage := range 6 {
		c := dial()
		whole := request(endless)
		switch stage {
		case 0: // before a word
		case 1: // in the header
			io.WriteString(c, whole[:20])
		case 2: // in the body
			io.WriteString(c, whole[:len(whole)-10])
		case 3: // right after the request
			io.WriteString(c, whole)
		case 4: // after the first byte
			io.WriteString(c, whole)
			io.ReadFull(c, one)
		case 5: // in the middle of the answer
			io.WriteString(c, whole)
			io.ReadFull(c, make([]byte, 4096))
		}
		c.Close()
	}

	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if _, _, err := r.answer(i); err != nil {
				t.Error(err)
			}
		})
	}

	wg.Wait()
	// The slow one was not forgotten: its answer is there to the end.
	lines := bufio.NewScanner(slow)
	last := ""
	for last != "data: [DONE]" && lines.Scan() {
		if lines.Text() != "" {
			last = lines.Text()
		}
	}

	if last != "data: [DONE]" {
		t.Errorf("the slow client's last line is %q, %v", last, lines.Err())
	}
}

func TestHugeRequests(t *testing.T) {
	r := startServe(t, modelFile(t), "--ctx-size", "256", "--log-level", "warn")
	status, body := r.post(t, "/v1/completions", `{"model":"tiny","prompt":"`+strings.Repeat("the world ", 400_000)+`"}`)
	if status != 400 || !strings.Contains(body, "context_length_exceeded") ||
		!strings.Contains(body, "room for 255") || !strings.Contains(body, "has at least ") {
		t.Errorf("many tokens: %d %s", status, body)
	}
	status, body = r.post(t, "/v1/completions", `{"model":"tiny","prompt":"`+strings.Repeat("x", 100<<20)+`"}`)
	if status != 413 || !strings.Contains(body, "request_too_large") {
		t.Errorf("100 MiB: %d %.200s", status, body)
	}
	if _, _, err := r.answer(1); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// runOnce runs a command that is expected to end by itself.
func runOnce(t *testing.T, environ []string, args ...string) (int, string) {
	t.Helper()
	out := newSyncBuffer()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return run(ctx, args, withHome(environ), io.Discard, out), out.String()
}

// withHome gives an environment without a home that of all such tests, so that nothing is kept where they run, and any
// free port to what listens: somebody may have a server on the usual one.
func withHome(environ []string) []string {
	environ = append([]string{"SERVE_PORT=0"}, environ...)
	for _, pair := range environ {
		if name, _, _ := strings.Cut(pair, "="); name == "HOME" || name == "SERVE_HOME" {
			return environ
		}
	}
	return append([]string{"SERVE_HOME=" + testHome}, environ...)
}

func TestBadStarts(t *testing.T) {
	good := testmodel.Bytes(testmodel.Options{})
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}

	model := file("good.gguf", good)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for name, tt := range map[string]struct {
		args    []string
		environ []string
		code    int
		words   string
	}{
		"no place for the demo": {nil, []string{"SERVE_HOME=/dev/null/home"}, exitError, "hint: set SERVE_HOME to " +
			"a writable folder"},
		"a model that is not": {[]string{filepath.Join(dir, "absent.gguf")}, nil, exitModel, "there is no file"},
		"no GGUF": {[]string{file("page.gguf", []byte("<html>please log in to download</html>"))}, nil,
			exitModel, "HTML page"},
		"truncated": {[]string{file("cut.gguf", good[:len(good)-999])}, nil, exitModel, "truncated"},
		"a folder":  {[]string{dir}, nil, exitModel, "it is a folder"},
		"unknown architecture": {[]string{file("martian.gguf",
			testmodel.Bytes(testmodel.Options{Architecture: "martian"}))}, nil, exitModel,
			"unknown model architecture: 'martian'"},
		"a part missing": {[]string{file("m-00001-of-00002.gguf", good)}, nil, exitModel, "part 2 of 2"},
		"no room": {[]string{model, "--ctx-size", "16000000"}, nil, exitMemory, "hint: try a smaller " +
			"--ctx-size"},
		"the port taken":      {[]string{model, "--port", port}, nil, exitListen, "address already in use"},
		"an address not ours": {[]string{model, "--host", "203.0.113.7"}, nil, exitListen, "listen"},
		"an unknown flag":     {[]string{model, "--speed"}, nil, exitUsage, "unknown flag: --speed"},
		"a flag out of range": {[]string{model, "--parallel", "0"}, nil, exitUsage, `"--parallel" flag: must be ` +
			`from 1 to 256`},
		"a KV type unknown":      {[]string{model, "--kv-type", "q9"}, nil, exitUsage, "f16, q8_0 or q4_0"},
		"layers of words":        {[]string{model, "--gpu-layers", "many"}, nil, exitUsage, "a number, all or auto"},
		"a log level unknown":    {[]string{model, "--log-level", "loud"}, nil, exitUsage, "debug, info, warn or error"},
		"a bad environment":      {[]string{model}, []string{"SERVE_PARALLEL=lots"}, exitUsage, "SERVE_PARALLEL"},
		"an alias of nothing":    {[]string{model, "--alias", "a=b"}, nil, exitUsage, "does not name a served model"},
		"a projector of nothing": {[]string{model, "--mmproj", "b=" + model}, nil, exitUsage, "does not name a served model"},
		"a projector not there": {[]string{model, "--mmproj", filepath.Join(dir, "absent.gguf")}, nil, exitUsage,
			"there is no file"},
		"no projector":   {[]string{model, "--mmproj", model}, nil, exitModel, "is not an image projector"},
		"two projectors": {[]string{model, "--mmproj", "none,none"}, nil, exitUsage, "already has a projector"},
		"images fetched, offline": {[]string{model, "--image-host", "example.com", "--offline"}, nil, exitUsage,
			"contradict"},
		"a model twice": {[]string{model, model}, nil, exitUsage, "two models"},
	} {
		t.Run(name, func(t *testing.T) {
			args := tt.args
			if !strings.Contains(strings.Join(args, " "), "--port") {
				args = append([]string{"--port", "0"}, args...)
			}
			code, text := runOnce(t, tt.environ, args...)
			if code != tt.code || !strings.Contains(text, tt.words) || !strings.Contains(text, "serve: error: ") {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, tt.code, tt.words, text)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	r := startServeIn(
		t,
		[]string{"SERVE_CTX_SIZE=512", "SERVE_PARALLEL=5", "SERVE_ALIAS=x", "OTHER=1"},
		modelFile(t),
		"--parallel",
		"3",
	)
	if want := "512 tokens for each of 3 concurrent requests; KV cache type f16"; !strings.Contains(
		r.errOut.String(), want,
	) {
		t.Errorf("no %q in\n%s", want, r.errOut)
	}
}

// TestGracefulStop: after a signal what runs goes on to its end, new work is
// refused, and nothing is left.
func TestGracefulStop(t *testing.T) {
	r := startServe(t, modelFile(t), "--ctx-size", "1024")
	res, err := http.Post(r.url+"/v1/completions", "application/json",
		strings.NewReader(`{"model":"tiny","prompt":"the","stream":true,"max_tokens":900,"ignore_eos":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Scan()
	r.stop()
	last := ""
	for lines.Scan() {
		if lines.Text() != "" {
			last = lines.Text()
		}
	}

	if last != "data: [DONE]" {
		t.Errorf("the last line is %q", last)
	}

	code := <-r.done
	r.done <- code
	if res, err := http.Get(r.url + "/healthz"); err == nil {
		res.Body.Close()
		t.Error("it still answers")
	}
}

// TestDrainTimeoutCancels cuts an answer that takes longer than the drain timeout, and stops.
func TestDrainTimeoutCancels(t *testing.T) {
	const tokens = 30000
	r := startServe(t, modelFile(t), "--ctx-size", "32768", "--parallel", "1", "--drain-timeout", "1ms")
	body := fmt.Sprintf(`{"model":"tiny","prompt":"the","stream":true,"max_tokens":%d,"ignore_eos":true}`, tokens)
	res, err := http.Post(r.url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()

	lines := bufio.NewScanner(res.Body)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "data: {") {
		t.Fatalf("the answer begins with %q, %v", lines.Text(), lines.Err())
	}
	r.stop()
	events := 1
	for lines.Scan() {
		switch {
		case lines.Text() == "data: [DONE]":
			t.Error("the answer was not cut")
		case lines.Text() != "":
			events++
		}
	}
	if events >= tokens {
		t.Errorf("%d events came", events)
	}
	code := <-r.done
	r.done <- code
}

func TestSeveralModels(t *testing.T) {
	a := modelFile(t)
	b := filepath.Join(t.TempDir(), "embedder.gguf")
	if err := testmodel.Write(b, testmodel.Options{Pooling: 1}); err != nil {
		t.Fatal(err)
	}
	r := startServe(t, a, b, "--ctx-size", "256", "--alias", "ada=embedder")
	if status, body := r.post(t, "/v1/embeddings", `{"model":"ada","input":"the world"}`); status != 200 {
		t.Errorf("embedding: %d %s", status, body)
	}
	status, body := r.post(t, "/v1/chat/completions", `{"model":"embedder","messages":[{"role":"user","content":"x"}]}`)
	if status != 400 ||
		!strings.Contains(body, "unsupported_model") {
		t.Errorf("a chat with an embedder: %d %s", status, body)
	}
	if status, body := r.post(t, "/v1/completions", `{"model":"tiny","prompt":"the","max_tokens":2}`); status != 200 {
		t.Errorf("completion: %d %s", status, body)
	}
}

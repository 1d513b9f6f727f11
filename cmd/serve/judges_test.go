package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"serve/engine/llama"
	"serve/kernels"
	"serve/server/ops"
)

// nearTie is the margin, in the logarithm of the probability, within which two tokens may change
// places between two computations of one model. SmolLM2's activations are rounded to 8 bits before
// each product, and a value that falls on the other side by an addition in another order changes
// what follows. A token's log-probability was seen to differ by 0.3 (the tests tell by how much), and
// two tokens may differ in opposite directions: see docs/architecture.md, "Judges".
const nearTie = 0.75

// realTokens is how long the compared answers are.
const realTokens = 64

// endMark is the token that ends an answer of SmolLM2. llama-server lists it without a text.
const endMark = "<|im_end|>"

// endpoint is a server that speaks OpenAI's API: serve, or llama-server.
type endpoint struct {
	url    string
	client *http.Client
}

// scoredToken is a token of an answer, and the most probable ones in its place.
type scoredToken struct {
	Token   string
	Bytes   []int
	LogProb float64
	Top     []scoredToken `json:"top_logprobs"`
}

// text is the bytes of a token, which may be a part of a character. The end of an answer has none.
func (s scoredToken) text() string {
	b := make([]byte, len(s.Bytes))
	for i, c := range s.Bytes {
		b[i] = byte(c)
	}
	return string(b)
}

// greedyAnswer is what a model says when it always takes the most probable token.
type greedyAnswer struct {
	text   string
	tokens []scoredToken
	finish string
}

// token returns the token that an answer has at a byte of its text, and where it begins; nil after
// the last one. llama-server lists a character that several tokens make as one.
func (a *greedyAnswer) token(at int) (token *scoredToken, begin int) {
	for i := range a.tokens {
		end := begin + len(a.tokens[i].Bytes)
		if at < end {
			return &a.tokens[i], begin
		}
		begin = end
	}
	return nil, begin
}

// greedy asks for a greedy answer and tells after every event how many tokens are there.
func (e endpoint) greedy(ctx context.Context, prompt string, came func(tokens int)) (*greedyAnswer, error) {
	body, err := json.Marshal(map[string]any{
		"model":        smol,
		"messages":     []map[string]string{{"role": "user", "content": prompt}},
		"temperature":  0,
		"max_tokens":   realTokens,
		"logprobs":     true,
		"top_logprobs": 20,
		"stream":       true,
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")

	res, err := e.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return nil, fmt.Errorf("%d %s", res.StatusCode, text)
	}
	return readGreedy(res.Body, came)
}

// readGreedy reads an answer's events to their end.
func readGreedy(r io.Reader, came func(tokens int)) (*greedyAnswer, error) {
	var a greedyAnswer
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			// What was cut off within a character ends with half of it, or without it.
			a.text = strings.TrimRight(a.text, "\uFFFD")
			return &a, nil
		}
		var chunk struct {
			Error   json.RawMessage
			Choices []struct {
				Delta    struct{ Content string }
				Finish   string `json:"finish_reason"`
				LogProbs struct{ Content []scoredToken }
			}
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil || chunk.Error != nil {
			return nil, fmt.Errorf("%w %s", err, data)
		}
		for _, c := range chunk.Choices {
			a.text += c.Delta.Content
			a.tokens = append(a.tokens, c.LogProbs.Content...)
			a.finish = cmp.Or(c.Finish, a.finish)
		}
		came(len(a.tokens))
	}

	return nil, fmt.Errorf("the stream ends without an end: %w", cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
}

// comparison adds up how answers differ from those that serve gives to one client alone.
type comparison struct {
	mu       sync.Mutex
	answers  int
	equal    int
	tokens   int     // in common, before answers part
	distance float64 // sum over them: how far the log-probabilities are from each other
	worst    float64 // the largest of these
	margin   float64 // the largest with which answers part
}

// add compares one answer with the one alone. Where it parts from that, what it goes on with must be
// nearly as probable there.
func (c *comparison) add(t *testing.T, prompt string, alone, other *greedyAnswer) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers++
	same := commonPrefix(alone.text, other.text)
	c.addScores(alone, other, same)
	if same == len(alone.text) && same == len(other.text) {
		c.equal++
		return
	}
	margin := alone.margin(same, other)
	c.margin = max(c.margin, margin)
	if margin > nearTie {
		t.Errorf("%.40q: at byte %d %q is %q, with a margin of %.3f", prompt, same, alone.text, other.text, margin)
	}
}

// addScores compares the log-probabilities of tokens that two answers have in common.
func (c *comparison) addScores(alone, other *greedyAnswer, same int) {
	begin := 0
	for _, ours := range alone.tokens {
		end := begin + len(ours.Bytes)
		if end > same {
			return
		}
		if theirs, at := other.token(begin); theirs != nil && at == begin && len(theirs.Bytes) == len(ours.Bytes) {
			d := math.Abs(ours.LogProb - theirs.LogProb)
			c.tokens++
			c.distance += d
			c.worst = max(c.worst, d)
		}
		begin = end
	}
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// margin returns by how much the token that an answer has at a byte is more probable than what
// another goes on with there. What is not among the most probable 20 is too far away.
func (a *greedyAnswer) margin(at int, other *greedyAnswer) float64 {
	ours, begin := a.token(at)
	if ours == nil {
		// This one ended, of which servers tell nothing: the other knows how probable that was.
		theirs, _ := other.token(at)
		if theirs == nil {
			return math.Inf(1)
		}
		return theirs.LogProb - best(theirs.Top, "")
	}
	return ours.LogProb - best(ours.Top, other.text[begin:])
}

// best returns the log-probability of the most probable token that a text may go on with; without
// text, of the end.
func best(tokens []scoredToken, text string) float64 {
	score := math.Inf(-1)
	for _, token := range tokens {
		ends := len(token.Bytes) == 0 || token.text() == endMark
		if ends && text == "" || !ends && text != "" && strings.HasPrefix(text, token.text()) {
			score = max(score, token.LogProb)
		}
	}
	return score
}

// log says what came of it.
func (c *comparison) log(t *testing.T) {
	t.Helper()
	t.Logf("%d of %d answers are equal in full; the others part with margins of at most %.3f; "+
		"the log-probabilities of %d tokens in common differ by %.4f in the mean, by at most %.3f",
		c.equal, c.answers, c.margin, c.tokens, c.distance/float64(max(c.tokens, 1)), c.worst)
}

// realPrompts are prompts of many kinds, and a long one.
func realPrompts(t *testing.T) []string {
	t.Helper()
	var prompts []string
	b, err := os.ReadFile(filepath.Join(judges, "prompts.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &prompts); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(judges, "text.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return append(prompts, "Say in a few sentences what this is about.\n\n"+string(text[:5000]))
}

// compareAnswers asks one prompt after another. Each answer must be llama-server's, and stay what it
// is among 32 clients and when the engine is killed in the middle of it, up to a place where another
// token is nearly as probable.
func compareAnswers(t *testing.T, r *running) {
	ours := endpoint{r.url, http.DefaultClient}
	prompts := realPrompts(t)
	nothing := func(int) {}
	alone := make([]*greedyAnswer, len(prompts))
	for i, prompt := range prompts {
		var err error
		if alone[i], err = ours.greedy(t.Context(), prompt, nothing); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("llama-server", func(t *testing.T) {
		theirs := startLlamaServer(t)
		var c comparison
		for i, prompt := range prompts {
			other, err := theirs.greedy(t.Context(), prompt, nothing)
			if err != nil {
				t.Fatal(err)
			}
			c.add(t, prompt, alone[i], other)
		}
		c.log(t)
	})
	t.Run("32 clients", func(t *testing.T) {
		crowd(t, ours, prompts, alone, nothing)
	})
	t.Run("killed", func(t *testing.T) {
		k := killer{t: t, r: r, left: 2}
		crowd(t, ours, prompts, alone, k.came)
		if s, err := r.status(); err != nil || s.Restarts != 2 {
			t.Errorf("killed twice, the engine is %+v, %v", s, err)
		}
	})
}

// crowd asks for 32 answers at once and compares them with those that were asked for alone.
func crowd(t *testing.T, e endpoint, prompts []string, alone []*greedyAnswer, came func(int)) {
	t.Helper()
	var c comparison
	var wg sync.WaitGroup
	for client := range 32 {
		i := client % len(prompts)
		wg.Go(func() {
			other, err := e.greedy(t.Context(), prompts[i], came)
			if err != nil {
				t.Errorf("%.40q: %v", prompts[i], err)
				return
			}
			c.add(t, prompts[i], alone[i], other)
		})
	}
	wg.Wait()
	c.log(t)
}

// killer kills the engine in the middle of answers: each time that one has so many tokens more.
type killer struct {
	t    *testing.T
	r    *running
	mu   sync.Mutex
	left int
	last int // tokens that an answer had when the engine was killed last
}

// came is told how many tokens an answer has.
func (k *killer) came(tokens int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left == 0 || tokens < k.last+realTokens/4 {
		return
	}
	k.left--
	k.last = tokens
	if err := k.r.killEngine(); err != nil {
		k.t.Errorf("kill the engine: %v", err)
	}
}

// killEngine kills the process of the only model: the next one, if that has ended and no other is there yet.
func (r *running) killEngine() error {
	for {
		s, err := r.status()
		if err != nil {
			return err
		}
		if s.Process == 0 {
			continue
		}

		engine, err := os.FindProcess(s.Process)
		if err == nil {
			err = engine.Kill()
		}
		if !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
}

// status is what /status says of the only model.
func (r *running) status() (*ops.ModelStatus, error) {
	res, err := http.Get(r.url + "/status")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var s ops.Status
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
		return nil, err
	}
	if len(s.Models) != 1 {
		return nil, fmt.Errorf("%d models", len(s.Models))
	}
	return &s.Models[0], nil
}

// nativeKernels names those that use the most of this processor, as llama.cpp's own programs do, which
// are built for this machine. serve chooses the fastest, and others round otherwise.
func nativeKernels(t *testing.T) string {
	t.Helper()
	usable := kernels.Usable(llama.Kernels(), nil)
	if len(usable) == 0 {
		t.Fatal("this processor can run none of the kernels that were built")
	}
	return usable[0]
}

// peer returns a program of llama.cpp's own, of the pinned tree.
func peer(t *testing.T, name string) string {
	t.Helper()
	folder := os.Getenv("TEST_PEERS")
	if folder == "" {
		t.Skip("TEST_PEERS is not set: make judges builds llama.cpp's own programs and runs this with them")
	}
	return filepath.Join(folder, name)
}

// startLlamaServer starts llama.cpp's own server until the test ends.
func startLlamaServer(t *testing.T) endpoint {
	t.Helper()
	// The path of a socket is limited to about 100 characters; a test's own folder is longer.
	folder, err := os.MkdirTemp("", "serve")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "llama.sock")
	said := newSyncBuffer()
	cmd := exec.CommandContext(t.Context(), peer(t, "llama-server"), "-m", realModel(t, smol), "--host", socket,
		"-c", "2048", "-np", "1", "--offline")
	cmd.Stdout = said
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	for !strings.Contains(said.String(), "model loaded") {
		select {
		case <-said.more:
		case err := <-ended:
			ended <- err
			t.Fatalf("llama-server ended with %v:\n%s", err, said)
		}
	}

	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	// It closes connections that Go's client keeps: every request has its own.
	return endpoint{"http://llama", &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// perplexityWindow is how many tokens llama-perplexity computes at a time. It scores what follows
// the middle of each: the first half is for the model to know what the text is about.
const perplexityWindow = 512

var estimate = regexp.MustCompile(`Final estimate: PPL = ([0-9.]+)`)

// TestRealModelPerplexity computes how well SmolLM2 foretells a text, from the log-probabilities of a
// prompt that is echoed, as an evaluation harness does. llama-perplexity says what is right. Its weights
// are in f16: quantized ones, with which kernels round more, differ by 0.4 % from one to another.
func TestRealModelPerplexity(t *testing.T) {
	path := filepath.Join(judges, "text.txt")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	program := peer(t, "llama-perplexity")
	model := realModel(t, half)
	r := startServe(t, model, "--ctx-size", "1024", "--parallel", "1", "--log-level", "warn")
	var split struct{ Tokens []int }
	body, err := json.Marshal(map[string]any{"model": half, "prompt": string(text)})
	if err != nil {
		t.Fatal(err)
	}
	if _, reply := r.post(t, "/tokenize", string(body)); json.Unmarshal([]byte(reply), &split) != nil {
		t.Fatal(reply)
	}
	sum := 0.0
	count := 0
	for at := 0; at+perplexityWindow <= len(split.Tokens); at += perplexityWindow {
		for _, score := range r.scores(t, split.Tokens[at:at+perplexityWindow])[perplexityWindow/2+1:] {
			sum -= score
			count++
		}
	}
	ours := math.Exp(sum / float64(count))

	cmd := exec.CommandContext(t.Context(), program, "-m", model, "-f", path, "-c", strconv.Itoa(perplexityWindow))
	out, err := cmd.CombinedOutput()
	m := estimate.FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("llama-perplexity: %v\n%s", err, out)
	}
	theirs, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("perplexity %.4f, llama-perplexity %.4f (%+.4f %%), over %d of %d tokens",
		ours, theirs, (ours/theirs-1)*100, count, len(split.Tokens))
	if math.Abs(ours/theirs-1) > 0.001 {
		t.Errorf("perplexity %.4f, llama-perplexity says %.4f", ours, theirs)
	}
}

// scores returns the log-probabilities of a prompt's tokens, 0 for the first.
func (r *running) scores(t *testing.T, tokens []int) []float64 {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"model": half, "prompt": tokens, "echo": true, "logprobs": 0, "max_tokens": 0,
	})
	if err != nil {
		t.Fatal(err)
	}

	status, text := r.post(t, "/v1/completions", string(body))
	var reply struct {
		Choices []struct {
			LogProbs struct {
				Scores []float64 `json:"token_logprobs"`
			}
		}
	}

	if err := json.Unmarshal([]byte(text), &reply); err != nil || status != http.StatusOK || len(reply.Choices) != 1 {
		t.Fatalf("%d %v %s", status, err, text)
	}

	scores := reply.Choices[0].LogProbs.Scores
	if len(scores) != len(tokens) {
		t.Fatalf("%d scores of %d tokens", len(scores), len(tokens))
	}

	return scores
}

// TestRealModelEmbeddings compares all-MiniLM-L6-v2 with what sentence-transformers says of the
// same texts: embeddings.json, which make judges-golden writes.
func TestRealModelEmbeddings(t *testing.T) {
	var golden []struct {
		Text   string
		Tokens int64
		Vector []float64
	}
	b, err := os.ReadFile(filepath.Join(judges, "embeddings.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	r := startServe(t, realModel(t, mini), "--log-level", "warn")
	client := openai.NewClient(option.WithBaseURL(r.url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
	params := openai.EmbeddingNewParams{Model: mini}
	tokens := int64(0)
	for _, g := range golden {
		params.Input.OfArrayOfStrings = append(params.Input.OfArrayOfStrings, g.Text)
		tokens += g.Tokens
	}

	// All at once, and each alone.
	all, err := client.Embeddings.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if all.Usage.PromptTokens != tokens {
		t.Errorf("%d tokens, sentence-transformers has %d", all.Usage.PromptTokens, tokens)
	}
	least := 1.0
	for i, g := range golden {
		params.Input.OfArrayOfStrings = []string{g.Text}
		one, err := client.Embeddings.New(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		for _, vector := range [][]float64{all.Data[i].Embedding, one.Data[0].Embedding} {
			likeness := cosine(vector, g.Vector)
			least = min(least, likeness)
			if !(likeness > 0.9999) {
				t.Errorf("%.40q: the cosine is %.6f", g.Text, likeness)
			}
		}
	}
	t.Logf("%d texts; the least cosine is %.6f", len(golden), least)
}

func cosine(a, b []float64) float64 {
	dot := 0.0
	aa := 0.0
	bb := 0.0
	for i := range min(len(a), len(b)) {
		dot += a[i] * b[i]
	}
	for _, x := range a {
		aa += x * x
	}
	for _, x := range b {
		bb += x * x
	}
	return dot / math.Sqrt(aa*bb)
}

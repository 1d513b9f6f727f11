package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"serve/bench/launch"
	"serve/loadgen"
)

// fake answers as a server does whose tokens are words. It keeps all prompts since its last crash or restart, and
// answers each request with as many words as it asks for.
type fake struct {
	mu       sync.Mutex
	asked    []asked
	kept     [][]string // prompts with their answers, in words
	crashes  int
	restarts int
	refuse   string // in which part of a prompt it refuses, unless empty
	answer   string // a word of its answers
}

// asked is a request, of which a prompt is in words.
type asked struct {
	path   string
	prompt []string
	body   request
}

type request struct {
	Model    string
	Prompt   string
	Messages []message
	Max      int  `json:"max_tokens"`
	Ignore   bool `json:"ignore_eos"`
	Tools    []struct {
		Function struct{ Name string }
	}
	Choice string          `json:"tool_choice"`
	Format json.RawMessage `json:"response_format"`
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/models" {
		fmt.Fprint(w, `{"data":[{"id":"tiny"}]}`)
		return
	}
	q := asked{path: r.URL.Path}
	if err := json.NewDecoder(r.Body).Decode(&q.body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	text := q.body.Prompt
	for _, m := range q.body.Messages {
		text += fmt.Sprintf(" <%s> %s", m.Role, m.Content)
	}
	q.prompt = strings.Fields(text)
	if f.refuse != "" && strings.Contains(text, f.refuse) {
		http.Error(w, `{"error":{"message":"no"}}`, http.StatusBadRequest)
		return
	}

	cached := f.remember(q)
	chat := strings.Contains(q.path, "chat")
	for range q.body.Max {
		switch {
		case len(q.body.Tools) > 0:
			fmt.Fprint(w, `data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}`, "\n\n")
		case chat:
			fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", f.word()+" ")
		default:
			fmt.Fprintf(w, "data: {\"choices\":[{\"text\":%q}]}\n\n", f.word()+" ")
		}
	}
	fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,"+
		"\"prompt_tokens_details\":{\"cached_tokens\":%d}}}\n\ndata: [DONE]\n\n", len(q.prompt), q.body.Max, cached)
}

func (f *fake) word() string {
	if f.answer == "" {
		return "word"
	}
	return f.answer
}

// remember keeps a request, and returns how many words it has in common with what is kept.
func (f *fake) remember(q asked) (cached int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, kept := range f.kept {
		n := 0
		for n < min(len(kept), len(q.prompt)) && kept[n] == q.prompt[n] {
			n++
		}
		cached = max(cached, n)
	}
	f.asked = append(f.asked, q)
	f.kept = append(f.kept, q.prompt)
	return cached
}

// server starts it, for a name in the table.
func (f *fake) server(t *testing.T, name string) *launch.Server {
	t.Helper()
	hs := httptest.NewServer(f)
	t.Cleanup(hs.Close)
	forget := func(count *int) func() error {
		return func() error {
			f.mu.Lock()
			defer f.mu.Unlock()
			*count++
			f.kept = nil
			return nil
		}
	}
	return &launch.Server{
		Name:    name,
		Client:  &loadgen.Client{URL: hs.URL, HTTP: loadgen.NewHTTP(&http.Transport{})},
		Model:   "tiny",
		Crash:   forget(&f.crashes),
		Restart: forget(&f.restarts),
		Stop:    func() {},
	}
}

// since returns what was asked after the first n requests.
func (f *fake) since(n int) []asked {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[n:]
}

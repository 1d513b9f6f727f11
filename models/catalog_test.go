package models

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"serve/hub"
)

// TestNames looks for names that two rows have.
func TestNames(t *testing.T) {
	taken := map[string]string{}
	for _, e := range everyEntry() {
		for _, n := range slices.Concat([]string{e.Name}, e.Aliases, e.DefaultFor) {
			words := strings.Join(nameWords(n), "-")
			if other, ok := taken[words]; ok && other != e.Name {
				t.Errorf("%s: the name %q is one of %s", e.Name, n, other)
			}
			taken[words] = e.Name
			if n != strings.ToLower(n) || strings.Contains(n, "/") {
				t.Errorf("%s: the name %q has capitals or a slash", e.Name, n)
			}
		}
		if r := resolve(e.Name); r.entry.Name != e.Name || r.quant != "" || r.chosen {
			t.Errorf("%s means %+v", e.Name, r)
		}
	}
	for _, n := range []string{"mistral-7b", "llama-3-8b", "llama-3.1-8b", "mixtral-8x7b", "bge-m3"} {
		if lookUp(n) == nil {
			t.Errorf("%s is missing", n)
		}
	}
}

var (
	sha256Text = regexp.MustCompile(`^[0-9a-f]{64}$`)
	commitText = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// TestRows looks at every row, those of kinds that are not served yet among them.
func TestRows(t *testing.T) {
	for _, e := range everyEntry() {
		onHub := hub.CheckRepo(e.Repo) == nil && hub.CheckPath(e.File) == nil
		if !onHub && !strings.HasPrefix(e.URL, "https://") || e.Commit != "" && !commitText.MatchString(e.Commit) {
			t.Errorf("%s: not to be found at %q, %q, %q, %q", e.Name, e.Repo, e.Commit, e.File, e.URL)
		}
		if e.License == "" || e.Use == "" || e.Bytes < 0 || e.Bytes == 0 && e.BytesEstimated || e.Context < 0 {
			t.Errorf("%s: incomplete row %+v", e.Name, e)
		}
		if !slices.Contains([]string{"", "high", "medium", "low"}, e.Certainty) {
			t.Errorf("%s is of %q certainty", e.Name, e.Certainty)
		}
		if e.Is("draft") != (e.DraftOf != "") || e.Is("draft") != (e.DraftMethod != "") {
			t.Errorf("%s is a draft of nothing, or none of %q", e.Name, e.DraftOf)
		}
		checkHashes(t, &e)
	}
}

func checkHashes(t *testing.T, e *Entry) {
	t.Helper()
	files := slices.Clone(e.Parts)
	if e.SHA256 != "" {
		files = append(files, EntryFile{File: e.File, SHA256: e.SHA256})
	}
	if e.Projector != nil {
		files = append(files, *e.Projector)
	}
	for _, c := range e.Components {
		files = append(files, c.EntryFile)
		if hub.CheckRepo(c.Repo) != nil {
			t.Errorf("%s: a component is of %q", e.Name, c.Repo)
		}
	}
	for _, f := range files {
		if f.SHA256 != "" && !sha256Text.MatchString(f.SHA256) || f.Bytes < 0 || hub.CheckPath(f.File) != nil {
			t.Errorf("%s: bad file %+v", e.Name, f)
		}
	}
	if len(e.Parts) > 0 && (e.SHA256 != "" || e.Parts[0].File != e.File) {
		t.Errorf("%s: its parts do not begin with its file, or it has a hash beside theirs", e.Name)
	}
}

// TestServedRows looks at what can be loaded.
func TestServedRows(t *testing.T) {
	for _, e := range Catalog() {
		needs, _ := e.Memory(8192)
		ours := e.Engine == "" && e.Repo != "" && e.URL == "" && strings.HasSuffix(e.File, ".gguf")
		if !ours || e.Bytes < 1e7 || needs <= e.Bytes {
			t.Errorf("%s cannot be served: %+v", e.Name, e)
		}
		if e.Projector != nil && !e.Is("vision") {
			t.Errorf("%s has a projector and sees nothing", e.Name)
		}
		if e.Certainty == "low" || e.Certainty != "" && e.Hash() == "" {
			t.Errorf("%s: nobody knows its hash well enough", e.Name)
		}

		for _, name := range e.DefaultFor {
			if r := resolve(name); r.entry == nil || r.entry.Name != e.Name || !r.chosen {
				t.Errorf("%s is the default for %s, which means %+v", e.Name, name, r)
			}
		}

		found := Search([]string{e.Name}, e.Kinds)
		if !slices.ContainsFunc(found, func(f Entry) bool { return f.Name == e.Name }) {
			t.Errorf("a search for %s does not find it", e.Name)
		}
	}

	if found := Search([]string{"sees", "images"}, []string{"vision"}); len(found) < 4 {
		t.Errorf("a search finds %d", len(found))
	}
	if found := Search(nil, []string{"vision", "embedding"}); len(found) > 0 {
		t.Errorf("%s sees and embeds", found[0].Name)
	}
}

// TestUnserved refers to what later versions may serve.
func TestUnserved(t *testing.T) {
	for name, words := range map[string]string{
		"whisper-base":     "transcribes speech",
		"qwen3-tts:1.7b":   "speaks",
		"z-image":          "generates images",
		"qwen-3.8-27b-mtp": "drafts tokens",
		"embeddinggemma-2": "newer llama.cpp",
	} {
		_, err := ParseReference(name, func(string) bool { return false })
		var e *Error
		if !errors.As(err, &e) || !errors.Is(e.Kind, ErrUnserved) || !strings.Contains(e.Text, words) || e.Todo == "" {
			t.Errorf("%s: got %v, want %q", name, err, words)
		}
	}
	for _, e := range Catalog() {
		if e.WhyUnserved() != "" || resolve(e.Name).entry.WhyUnserved() != "" {
			t.Errorf("%s is offered and refused", e.Name)
		}
	}
	if len(Catalog()) == len(everyEntry()) {
		t.Error("nothing is kept for later")
	}
}

// TestResolve reads names as Ollama's users write them.
func TestResolve(t *testing.T) {
	tests := []struct {
		text   string
		name   string
		quant  string
		chosen bool
	}{
		{"qwen3.5:9b", "qwen-3.5-9b", "", false},
		{"Qwen3.5:9B", "qwen-3.5-9b", "", false},
		{"qwen3.5-9b", "qwen-3.5-9b", "", false},
		{"qwen3.5:9b-q8_0", "qwen-3.5-9b", "Q8_0", false},
		{"qwen3.5:9b:q8_0", "qwen-3.5-9b", "Q8_0", false},
		{"llama3.1:8b", "llama-3.1-8b", "", false},
		{"llama3.1:8b-instruct-fp16", "llama-3.1-8b", "F16", false},
		{"gemma3:4b-it-q4_K_M", "gemma-3-4b", "Q4_K_M", false},
		{"gemma2:2b-instruct-q6_K", "gemma-2-2b", "Q6_K", false},
		{"gemma4:e4b-it-qat", "gemma-4-e4b-qat", "", false},
		{"mistral:7b", "mistral-7b", "", false},
		{"mistral:7b-instruct-v0.2-q4_0", "mistral-7b-v0.2", "Q4_0", false},
		{"mistral:7b-instruct-v0.3-q4_0", "mistral-7b", "Q4_0", false},
		{"qwen3:30b-a3b", "qwen-3-30b-a3b", "", false},
		{"qwen3:30b", "qwen-3-30b-a3b", "", true},
		{"qwen3:30b-a3b-ud-q4_k_xl", "qwen-3-30b-a3b", "UD-Q4_K_XL", false},
		{"qwen3:4b", "qwen-3-4b", "", false},
		{"qwen3:4b-thinking", "qwen-3-4b-thinking-2507", "", true},
		{"qwen3:4b-instruct-2507-q4_K_M", "qwen-3-4b-2507", "Q4_K_M", false},
		{"deepseek-r1:8b-0528-qwen3-q4_K_M", "deepseek-r1-0528-8b", "Q4_K_M", false},
		{"granite4:micro", "granite-4.0-micro", "", false},
		{"phi4-mini:3.8b", "phi-4-mini", "", false},
		{"mixtral:8x7b-instruct-v0.1-q4_K_M", "mixtral-8x7b", "Q4_K_M", false},
		{"bge-m3:latest", "bge-m3", "", false},
		{"mistral-7b:Q8_0", "mistral-7b", "Q8_0", false},
		{"mistral-small", "mistral-small-24b", "", false},
		// Without a size: the largest that an ordinary machine holds, or the smallest.
		{"qwen3.5", "qwen-3.5-9b", "", true},
		{"qwen3", "qwen-3-8b", "", true},
		{"gemma3", "gemma-3-4b", "", true},
		{"llama3.3", "llama-3.3-70b", "", true},
		{"qwen2.5-coder:latest", "qwen-2.5-coder-7b", "", true},
		{"phi3", "phi-3-mini", "", true},
		// Families.
		{"qwen", "qwen-3.5-9b", "", true},
		{"llama3:latest", "llama-3.1-8b", "", true},
		{"mistral", "ministral-3-8b", "", true},
		{"gemma:q8_0", "gemma-4-e4b", "Q8_0", true},
		// Nothing of the catalog.
		{"qwen3:2b", "", "", false},
		{"qwen3:8b-thinking", "", "", false},
		{"gemma3:4b-it-qat", "", "", false},
		{"all-minilm:33m", "", "", false},
		{"q8_0", "", "", false},
		{":", "", "", false},
		{"-q8_0", "", "", false},
	}

	for _, tt := range tests {
		got := resolve(tt.text)
		name := ""
		if got.entry != nil {
			name = got.entry.Name
		}
		if name != tt.name || name != "" && (got.quant != tt.quant || got.chosen != tt.chosen) {
			t.Errorf("%s: got %s %q, chosen %t", tt.text, name, got.quant, got.chosen)
			t.Errorf("%s: want %s %q, chosen %t", tt.text, tt.name, tt.quant, tt.chosen)
		}
	}
}

// TestOldNames reads names that people have used since 2025.
func TestOldNames(t *testing.T) {
	b, err := os.ReadFile("testdata/names-2025.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		name, want, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || name == "#" {
			continue
		}
		if r := resolve(name); r.entry == nil || r.entry.Name != want || r.quant != "" || r.chosen {
			t.Errorf("%s means %+v, no longer %s", name, r, want)
		}
	}
}

package models

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"serve/hub"
)

func TestParseReference(t *testing.T) {
	exists := func(path string) bool { return path == "dir/sub/there.gguf" }
	hex := strings.Repeat("a1", 20)
	tests := []struct {
		text string
		want string // name|repo|revision|file|quant or path:…
	}{
		{"mistral-7b", "mistral-7b|bartowski/Mistral-7B-Instruct-v0.3-GGUF|61fd4167fff3ab01ee1cfe0da183fa27a944db48||"},
		{"Mistral-7B", "mistral-7b|bartowski/Mistral-7B-Instruct-v0.3-GGUF|61fd4167fff3ab01ee1cfe0da183fa27a944db48||"},
		{
			"mistral-7b:q8_0",
			"mistral-7b|bartowski/Mistral-7B-Instruct-v0.3-GGUF|61fd4167fff3ab01ee1cfe0da183fa27a944db48||Q8_0",
		},
		{
			"mistral-7b:Q4_K_M",
			"mistral-7b|bartowski/Mistral-7B-Instruct-v0.3-GGUF|61fd4167fff3ab01ee1cfe0da183fa27a944db48||",
		},
		{"llama3:8b", "llama-3-8b|bartowski/Meta-Llama-3-8B-Instruct-GGUF|||"},
		{"llama3:8b:Q8_0", "llama-3-8b|bartowski/Meta-Llama-3-8B-Instruct-GGUF|||Q8_0"},
		{"org/repo", "|org/repo|||"},
		{"org/repo:Q4_K_M", "|org/repo|||Q4_K_M"},
		{"org/repo:ud-q4_k_xl", "|org/repo|||UD-Q4_K_XL"},
		{"org/repo:fp16", "|org/repo|||F16"},
		{"org/repo@v1.0", "|org/repo|v1.0||"},
		{"org/repo@" + hex + ":Q8_0", "|org/repo|" + hex + "||Q8_0"},
		{"org/repo:Q8_0@refs/pr/1", "|org/repo|refs/pr/1||Q8_0"},
		{"org/repo/file.gguf", "|org/repo||file.gguf|"},
		{"org/repo/X.GGUF", "|org/repo||X.GGUF|"},
		{"model.GGUF", "path:model.GGUF"},
		{"org/repo/a/b/file.gguf@main", "|org/repo|main|a/b/file.gguf|"},
		{"hf.co/org/repo", "|org/repo|||"},
		{"hf.co/org/repo:IQ4_XS", "|org/repo|||IQ4_XS"},
		{"hf://org/repo", "|org/repo|||"},
		{"https://huggingface.co/org/repo/", "|org/repo|||"},
		{"https://huggingface.co/org/repo/blob/main/m%20x.gguf?download=true", "|org/repo|main|m x.gguf|"},
		{"https://huggingface.co/org/repo/tree/v2", "|org/repo|v2||"},
		{"./mistral-7b", "path:./mistral-7b"},
		{"/a/b/c/d.gguf", "path:/a/b/c/d.gguf"},
		{"model.gguf", "path:model.gguf"},
		{"dir/model.gguf", "path:dir/model.gguf"},
		{"dir/sub/there.gguf", "path:dir/sub/there.gguf"},
		{"dir/sub/other.gguf", "|dir/sub||other.gguf|"},
	}

	for _, tt := range tests {
		r, err := ParseReference(tt.text, exists)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}

		got := "path:" + r.Path
		if r.Path == "" {
			name := ""
			if r.Entry != nil {
				name = r.Entry.Name
			}
			got = strings.Join([]string{name, r.Repo, r.Revision, r.File, r.Quant}, "|")
		}

		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.text, got, tt.want)
		}
	}
}

func TestBadReferences(t *testing.T) {
	for text, words := range map[string]string{
		"mistrl-7b":                     "did you mean mistral-7b",
		"mistal":                        "did you mean",
		"qwen3:2b":                      "qwen-3-4b",
		"gemma3:4b-it-qat":              "gemma-3-4b",
		"lama-3-8b":                     "llama-3-8b",
		"zzzzzzzzzzzz":                  "serve catalog",
		"mistral-7b:Q17":                "not a quantization",
		"mistral-7b:newest":             "not a quantization",
		"mistral-7b:8b":                 "not a quantization",
		"org/repo:nope":                 "not a quantization",
		"org/repo:Q4_K_M@x:Q8_0":        "two quantizations",
		"org/repo@":                     "no revision",
		"org/../x.gguf":                 "org/name",
		"hf.co/org":                     "org/name",
		"org/re--po":                    "org/name",
		"hf.co/org/repo/../../evil":     "not a GGUF file",
		"org/repo/readme.md":            "not a GGUF file",
		"org/repo/file.gguf:Q4_0":       "another quantization",
		"":                              "the name of the model is empty",
		"a\nb":                          "no such model",
		strings.Repeat("a/b", 600):      "no such model",
		"https://evil.example/org/repo": "not a URL on the Hugging Face Hub",
		"https://evil.example/repo":     "not a URL on the Hugging Face Hub",
	} {
		r, err := ParseReference(text, func(string) bool { return false })
		if !errors.Is(err, ErrReference) {
			t.Errorf("%q: got %+v, %v", text, r, err)
			continue
		}

		var e *Error
		said := err.Error()
		if errors.As(err, &e) {
			said += e.Todo
		}
		if !strings.Contains(said, words) {
			t.Errorf("%q says %q, want %q", text, said, words)
		}
	}
}

func FuzzReference(f *testing.F) {
	for _, s := range []string{
		"mistral-7b:Q8_0", "qwen3:30b-a3b-instruct-ud-q4_K_XL", "gemma:latest", "org/repo@main:Q4_K_M",
		"hf.co/org/repo/blob/main/x.gguf", "./x.gguf", "org/repo/../x.gguf",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseReference(text, func(string) bool { return false })
		if err != nil || r.Path != "" {
			return
		}
		if hub.CheckRepo(r.Repo) != nil || r.File != "" && hub.CheckPath(r.File) != nil {
			t.Errorf("%q means %q, %q", text, r.Repo, r.File)
		}
	})
}

func TestParseQuant(t *testing.T) {
	for name, want := range map[string]string{
		"Mistral-7B-Instruct-v0.3-Q4_K_M.gguf": "Q4_K_M", "mistral-7b-instruct-v0.2.Q4_K_M.gguf": "Q4_K_M",
		"qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf": "Q4_K_M",
		"Phi-3-mini-4k-instruct-fp16.gguf":               "F16",
		"x-UD-Q4_K_XL.gguf":                              "UD-Q4_K_XL", "gpt-oss-20b-mxfp4.gguf": "MXFP4",
		"Q8_0": "Q8_0", "x.BF16.gguf": "BF16",
		"Qwen3-8B.gguf": "", "x-IQ2_XXS.gguf": "IQ2_XXS", "x-TQ1_0.gguf": "TQ1_0", "q4-model-Q8_0.gguf": "Q8_0",
		"model.gguf": "", "": "",
	} {
		if got := ParseQuant(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	files := func(paths ...string) (list []hub.File) {
		for i, p := range paths {
			list = append(list, hub.File{Path: p, Size: int64(i+1) * 1e9, SHA256: strings.Repeat(fmt.Sprint(i), 64)})
		}
		return list
	}

	// parts are those of a row of the catalog, under other names but the first; of
	// one the content was replaced, which another file is called after the row's.
	split := lookUp("qwen-3.5-122b-a10b")
	sees := lookUp("gemma-3-4b")
	parts := func(replaced int) (list []hub.File) {
		for i, p := range split.Parts {
			f := hub.File{Path: fmt.Sprintf("p-%05d-of-%05d.gguf", i+1, len(split.Parts)), Size: p.Bytes, SHA256: p.SHA256}
			if i == replaced {
				f.SHA256 = strings.Repeat("0", 64)
			}
			list = append(list, f)
		}
		if replaced >= 0 {
			list = append(list, hub.File{Path: split.File, Size: 5, SHA256: split.Parts[0].SHA256})
		}
		return list
	}

	tests := []struct {
		name, ref string
		files     []hub.File
		want      string // the weights, then + and the projector; or the error
	}{
		{"default", "o/r", files("m-Q8_0.gguf", "m-Q4_K_M.gguf", "README.md"), "m-Q4_K_M.gguf"},
		{"second choice", "o/r", files("m-Q8_0.gguf", "m-Q4_0.gguf"), "m-Q4_0.gguf"},
		{"an embedding model", "o/bge-x", files("m-Q4_K_M.gguf", "m-Q8_0.gguf"), "m-Q8_0.gguf"},
		{"only one", "o/r", files("whatever.gguf"), "whatever.gguf"},
		{"as asked", "o/r:q8_0", files("m-Q8_0.gguf", "m-Q4_K_M.gguf"), "m-Q8_0.gguf"},
		{
			"not there",
			"o/r:Q5_0",
			files("m-Q8_0.gguf", "m-Q4_K_M.gguf"),
			"o/r has no Q5_0; it has Q8_0 (1.0 GB), Q4_K_M (2.0 GB)",
		},
		{"no usual one", "o/r", files("a-Q2_K.gguf", "a-IQ1_S.gguf"), "o/r has none of the usual"},
		{"no model", "o/r", files("README.md", "model.safetensors"), "has no GGUF files"},
		{
			"ambiguous",
			"o/r",
			files("a-Q4_K_M.gguf", "b-Q4_K_M.gguf"),
			"2 models in Q4_K_M; specify the file: o/r/a-Q4_K_M.gguf or o/r/b-Q4_K_M.gguf",
		},
		{
			"by folder",
			"o/r:Q8_0",
			files("Q8_0/m-00001-of-00002.gguf", "Q8_0/m-00002-of-00002.gguf", "Q4_K_M/m-00001-of-00001.gguf"),
			"Q8_0/m-00001-of-00002.gguf Q8_0/m-00002-of-00002.gguf",
		},
		{"a part lacks", "o/r:Q8_0", files("Q8_0/m-00001-of-00003.gguf", "Q8_0/m-00003-of-00003.gguf"), "2 of its 3 parts"},
		{"a file", "o/r/m-Q8_0.gguf", files("m-Q8_0.gguf", "m-Q4_K_M.gguf"), "m-Q8_0.gguf"},
		{
			"a file of a set",
			"o/r/m-00002-of-00002.gguf",
			files("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"),
			"m-00001-of-00002.gguf m-00002-of-00002.gguf",
		},
		{"no such file", "o/r/x.gguf", files("m-Q8_0.gguf"), "has no file x.gguf"},
		{
			"sidecars",
			"o/r",
			files("m-Q4_K_M.gguf", "mmproj-F32.gguf", "mmproj-model-f16.gguf", "m.imatrix.gguf", "mtp-m-Q4_K_M.gguf"),
			"m-Q4_K_M.gguf + mmproj-model-f16.gguf",
		},
		{
			"the nearest projector",
			"o/r:Q8_0",
			files("x/m-Q8_0.gguf", "x/m-mmproj-f32.gguf", "mmproj-f16.gguf"),
			"x/m-Q8_0.gguf + x/m-mmproj-f32.gguf",
		},
		{"the catalog's projector, by hash", sees.Name, append(files("mmproj-Q8_0.gguf"),
			hub.File{Path: "m.gguf", Size: 5, SHA256: sees.SHA256},
			hub.File{Path: "mmproj-x-f32.gguf", Size: 5, SHA256: sees.Projector.SHA256}), "m.gguf + mmproj-x-f32.gguf"},
		{"the catalog's projector, replaced", sees.Name, append(files(sees.Projector.File),
			hub.File{Path: "m.gguf", Size: 5, SHA256: sees.SHA256}), "mmproj-model-f16.gguf is no longer the file"},
		{"the catalog's parts", split.Name, parts(-1), "p-00001-of-00003.gguf p-00002-of-00003.gguf p-00003-of-00003.gguf"},
		{"the catalog's parts, one replaced", split.Name, parts(1), "no longer the file"},
		{
			"the catalog's, by hash",
			"tinyllama",
			[]hub.File{
				{Path: "renamed.gguf", Size: 5, SHA256: "9fecc3b3cd76bba89d504f29b616eedf7da85b96540e490ca5824d3f7d2776a0"},
			},
			"renamed.gguf",
		},
		{
			"the catalog's, replaced",
			"tinyllama",
			[]hub.File{{Path: "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf", Size: 5, SHA256: strings.Repeat("0", 64)}},
			"no longer the file",
		},
		{"the catalog's, gone", "tinyllama", files("x-Q8_0.gguf"), "no longer has"},
		{
			"the catalog's, without a hash",
			"all-minilm",
			files("all-MiniLM-L6-v2-ggml-model-f16.gguf"),
			"all-MiniLM-L6-v2-ggml-model-f16.gguf",
		},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ParseReference(tt.ref, func(string) bool { return false })
			if err != nil {
				t.Fatal(err)
			}
			var words []string
			c, err := Choose(tt.files, r)
			if err != nil {
				var e *Error
				words = append(words, err.Error()+";")
				if errors.As(err, &e) {
					words = append(words, e.Todo)
				}
			} else {
				for _, f := range c.Weights {
					words = append(words, f.Path)
				}
				if c.Projector != nil {
					words = append(words, "+", c.Projector.Path)
				}
			}
			if got := strings.Join(words, " "); got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestProjectorIsPinned refuses to fetch a model with a projector that its row does not know.
func TestProjectorIsPinned(t *testing.T) {
	hash := lookUp("gemma-3-4b").Projector.SHA256
	for _, tt := range []struct {
		ref, hash string
		ok        bool
	}{
		{"gemma-3-4b", hash, true},
		{"gemma-3-4b", strings.Repeat("0", 64), false},
		{"gemma-3-4b", "", false},
		{"gemma-3-4b:Q8_0", strings.Repeat("0", 64), true}, // the repository's own, whichever it is
		{"gemma-3-12b", strings.Repeat("0", 64), true},     // its row knows none
		{"org/repo", "", true},
	} {
		r, err := ParseReference(tt.ref, func(string) bool { return false })
		if err != nil {
			t.Fatal(err)
		}

		c := &Choice{}
		if tt.hash != "" {
			c.Projector = &hub.File{Path: "mmproj.gguf", SHA256: tt.hash}
		}
		if err := checkProjector(c, r); (err == nil) != tt.ok || err != nil && !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("%s with %.4q: %v", tt.ref, tt.hash, err)
		}
	}
}

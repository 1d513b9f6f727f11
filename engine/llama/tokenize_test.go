package llama

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"serve/models/testmodel"
)

// pres are the names of the tokenizers of the catalog's models, and of others that llama.cpp has other patterns for.
var pres = []string{
	"default", "llama-bpe", "jais-2", "deepseek-llm", "deepseek-v3", "deepseek-coder", "spark2_5", "youtu", "falcon",
	"starcoder", "smollm", "gpt-2", "qwen2", "qwen35", "bloom", "viking", "tekken", "chameleon", "gpt-4o",
	"granite-embed-multi-97m", "tiny_aya", "bailingmoe", "seed-coder", "ufakzeka", "grok-2", "afmoe", "laguna",
	"exaone-moe", "minicpm5", "kimi-k2", "chatglm-bpe", "superbpe",
}

// classes are characters of each kind that patterns tell apart.
var classes = []string{"a", "A", "1", " ", "\n", "!", "\u00e9", "\u4e2d", "\U0001f600", "\u0301", "\u3000", "a b ", "'s", "\u0e01"}

func loadPre(t *testing.T, pre string) *Model {
	t.Helper()
	m, err := LoadModel(write(t, testmodel.Options{Pre: pre}), LoadOptions{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// TestTokensAreLlamas compares tokens with llama.cpp's own, of texts that it survives.
func TestTokensAreLlamas(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pieces := append(slices.Clone(classes), "<|im_start|>", "<|im_end|>", "<|im_", "<s>", "</s>", "the ", "<unk>", "\xff")
	for _, pre := range append([]string{""}, pres...) {
		m := loadPre(t, pre)
		for i := range 120 {
			var b strings.Builder
			for range random.IntN(60) {
				b.WriteString(strings.Repeat(pieces[random.IntN(len(pieces))], 1+random.IntN(3)))
			}
			ends := i%2 == 0
			control := i%3 > 0
			want, err := m.tokenizePlain(b.String(), ends, control)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := m.Tokenize(b.String(), ends, control); err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s, %q: %v, %v, llama.cpp has %v", pre, b.String(), got, err, want)
			}
		}
		for _, class := range classes {
			text := strings.Repeat(class, 9000/len(class))
			want, err := m.tokenizePlain(text, true, true)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := m.Tokenize(text, true, true); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, 9,000 bytes of %q: %d tokens, %v, llama.cpp has %d", pre, class, len(got), err, len(want))
			}
		}
	}
}

// TestLongWords has the tokenizers split long runs of each kind of characters, which end a process in llama.cpp: 1 MiB
// of each with one tokenizer, and with all of them if TEST_LONG_WORDS is set, as make tokenizers does.
func TestLongWords(t *testing.T) {
	const most = 1 << 20
	for _, pre := range pres {
		size := most
		if pre != "tekken" && os.Getenv("TEST_LONG_WORDS") == "" {
			size = 48 << 10
		}
		if pre == "superbpe" {
			continue // its lookahead takes quadratic time, which the process for text ends
		}
		t.Run(pre, func(t *testing.T) {
			m := loadPre(t, pre)
			pieces := m.pieces(true)
			for _, class := range classes {
				text := strings.Repeat(class, size/len(class))
				tokens, err := m.Tokenize(text, false, false)
				if err != nil {
					t.Errorf("%q: %v", class, err)
					continue
				}
				n := 0
				for _, token := range tokens {
					n += len(pieces[token])
				}
				if n != len(text) {
					t.Errorf("%q: tokens of %d bytes for %d", class, n, len(text))
				}
			}
		})
	}
}

// TestManyControlTokens splits a text of control tokens alone. Four times as many take about four times as long in
// llama.cpp's callers, not sixteen: the time is not asserted, but ten million bytes would take hours.
func TestManyControlTokens(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	const n = 300_000
	for _, text := range []string{"<|im_start|>", "<|im_start|>a", "<|im_start|><|im_end|> "} {
		tokens, err := m.Tokenize(strings.Repeat(text, n), false, true)
		if err != nil || len(tokens) < n || len(tokens)%n != 0 {
			t.Errorf("%s: %v, %d tokens", fmt.Sprint(text), err, len(tokens))
		}
	}
}

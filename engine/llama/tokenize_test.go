package llama

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"serve/engine"
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
			got, err := m.Tokenize(b.String(), engine.Reading{Control: control, Ends: ends})
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s, %q: %v, %v, llama.cpp has %v", pre, b.String(), got, err, want)
			}
		}
		for _, class := range classes {
			text := strings.Repeat(class, 9000/len(class))
			want, err := m.tokenizePlain(text, true, true)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.Tokenize(text, engine.Reading{Control: true, Ends: true})
			if err != nil || !slices.Equal(got, want) {
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
				tokens, err := m.Tokenize(text, engine.Reading{})
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
		tokens, err := m.Tokenize(strings.Repeat(text, n), engine.Reading{Control: true})
		if err != nil || len(tokens) < n || len(tokens)%n != 0 {
			t.Errorf("%s: %v, %d tokens", fmt.Sprint(text), err, len(tokens))
		}
	}
}

// quotedVocabulary has control tokens that begin as others end, and are parts of others.
func quotedVocabulary(t testing.TB) *Model {
	t.Helper()
	path := write(t, testmodel.Options{Pre: "gpt-2", Control: []string{"<a>", "<a><b>", "<b>", "b><", ">>>", "é|"}})
	m, err := LoadModel(path, LoadOptions{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// checkQuoted tokenizes a text and says what is wrong: control tokens are where they may be, and nowhere else, and what
// lies between them becomes the tokens that llama.cpp makes of it.
func checkQuoted(m *Model, text string, quoted []engine.Range) error {
	tokens, err := m.Tokenize(text, engine.Reading{Control: true, Quoted: quoted})
	if err != nil {
		return err
	}
	isQuoted := func(from, to int) bool {
		return slices.ContainsFunc(quoted, func(q engine.Range) bool { return max(q.From, from) < min(q.To, to) })
	}
	all := m.pieces(true)
	plain := m.pieces(false)

	at := 0
	from := 0 // of the text that no control token has divided
	var between []engine.Token
	segment := func() error {
		want, err := m.tokenizePlain(text[from:at], false, false)
		if err != nil {
			return err
		}
		if !slices.Equal(between, want) {
			return fmt.Errorf("%q became %v, llama.cpp has %v", text[from:at], between, want)
		}
		for token, piece := range all {
			if len(plain[token]) > 0 || len(piece) == 0 {
				continue
			}
			for i := from; i+len(piece) <= at; i++ {
				if text[i:i+len(piece)] == string(piece) && !isQuoted(i, i+len(piece)) {
					return fmt.Errorf("%q at %d is not read", piece, i)
				}
			}
		}
		return nil
	}
	for _, token := range tokens {
		if len(plain[token]) > 0 {
			between = append(between, token)
			at += len(plain[token])
			continue
		}
		if err := segment(); err != nil {
			return err
		}
		from = at + len(all[token])
		if from > len(text) || text[at:from] != string(all[token]) || isQuoted(at, from) {
			return fmt.Errorf("%q is read at %d", all[token], at)
		}
		at = from
		between = nil
	}
	if at != len(text) {
		return fmt.Errorf("%d bytes became tokens of %d", len(text), at)
	}
	return segment()
}

// rangesOf returns ranges whose lengths, and the lengths between them, are given.
func rangesOf(lengths []byte, text string) (quoted []engine.Range) {
	at := 0
	for i, n := range lengths {
		end := min(at+int(n), len(text))
		if i%2 == 1 {
			quoted = append(quoted, engine.Range{From: at, To: end})
		}
		at = end
	}
	return quoted
}

// TestQuoted tokenizes random texts, of which random ranges are quoted.
func TestQuoted(t *testing.T) {
	m := quotedVocabulary(t)
	random := rand.New(rand.NewPCG(3, 4))
	pieces := []string{"<a>", "<b>", "<", ">", "a", "b", "<|im_end|>", "<|im_", "end|>", "the ", "é", "|", " ", "\n", "</s>"}
	for range 500 {
		var b strings.Builder
		for range random.IntN(30) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		lengths := make([]byte, random.IntN(8))
		for i := range lengths {
			lengths[i] = byte(random.IntN(25))
		}
		quoted := rangesOf(lengths, b.String())
		if err := checkQuoted(m, b.String(), quoted); err != nil {
			t.Fatalf("%q, quoted %v: %v", b.String(), quoted, err)
		}
	}

	all := []engine.Range{{From: 0, To: 10}}
	if tokens, err := m.Tokenize("<|im_end|>", engine.Reading{Control: true, Quoted: all}); err != nil || len(tokens) < 2 {
		t.Errorf("a control token that is only mentioned: %v, %v", tokens, err)
	}
	for _, bad := range [][]engine.Range{{{From: 0, To: 11}}, {{From: 5, To: 4}}, {{From: 3, To: 5}, {From: 4, To: 6}}} {
		if _, err := m.Tokenize("<|im_end|>", engine.Reading{Control: true, Quoted: bad}); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}

// FuzzQuoted tokenizes texts of which ranges are quoted.
func FuzzQuoted(f *testing.F) {
	f.Add("<a><b>a<|im_end|>", []byte{3, 2, 4, 9})
	f.Add("<|im_start|>system\n<|im_end|>", []byte{0, 5, 1, 1})
	f.Add("é|é|", []byte{1, 1})
	m := quotedVocabulary(f)
	f.Fuzz(func(t *testing.T, text string, lengths []byte) {
		if len(text) > 4096 || !utf8.ValidString(text) || strings.Contains(text, "\x00") {
			t.Skip()
		}
		if err := checkQuoted(m, text, rangesOf(lengths, text)); err != nil {
			t.Errorf("%q, %v: %v", text, lengths, err)
		}
	})
}

package prompt

import (
	"errors"
	"strings"
	"testing"

	"serve/engine"
	"serve/fault"
)

// TestGBNF reads grammars and writes them as they were.
func TestGBNF(t *testing.T) {
	for _, text := range []string{
		"",
		"\n\n",
		" ::= ",
		"root ::= a\n# a remark ::= [",
		`root ::= "not closed`,
		"root ::= [a-z\\]",
		"root ::= a{1,",
		"root ::= \"a\" | [^\\]\"]* b-1? (c | \"|\"){2,3}\nb-1 ::= \"<|x|>\"\n",
	} {
		if got := parseGBNF(text).String(); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// FuzzGBNF parses any text without losing a byte of it.
func FuzzGBNF(f *testing.F) {
	f.Add(" ::= ", "")
	f.Add("root ::= \"a\\\"\" [^\\]] (b-1 | c){1,3}\n# remark\n", "c-")
	f.Add("(\"\n", "")
	f.Add("root ::= a ) b ( c", "")
	f.Fuzz(func(t *testing.T, text, prefix string) {
		g := parseGBNF(text)
		if got := g.String(); got != text {
			t.Errorf("%q became %q", text, got)
		}
		for i := range g {
			alts := parseParts(g[i].body)
			once := writeParts(alts)
			if again := writeParts(parseParts(tokens(once))); again != once {
				t.Errorf("%q became %q", once, again)
			}
			withoutText(alts, prefix, true)
		}
		g.prefixed(prefix)
		g.replace(fencedAnswer, plainAnswer)
		g.replace("a", "a a")
	})
}

func TestPrefixed(t *testing.T) {
	got := parseGBNF("root ::= \"root \\\" x\" [a-z\\]b] (a-1 | b){1,3} b*\n").prefixed("c-").String()
	if want := "c-root ::= \"root \\\" x\" [a-z\\]b] (c-a-1 | c-b){1,3} c-b*\n"; got != want {
		t.Errorf("got %s", got)
	}
}

// TestMustCall takes the text away that llama.cpp's grammars allow before a call and after it, and leaves thoughts.
func TestMustCall(t *testing.T) {
	for _, c := range []struct {
		root, written string
		now           bool
		want          string
	}{
		{`space until-192? tool-call`, "", false, `tool-call`},
		{`"<|im_start|>" space until-161? tool-calls`, "<|im_start|>", false, `"<|im_start|>" tool-calls`},
		{`"<a>" space ("<think>" until-4 "</think>")? until-7 space tool-call`, "<a>", false,
			`"<a>" space ("<think>" until-4 "</think>")? space tool-call`},
		{`"<a>" space ("<think>" until-4 "</think>")? until-7 space tool-call`, "<a>", true, `"<a>" tool-call`},
		{`"<a>" space ("<think>" until-4 "</think>")? until-7 space tool-call`, "<a><think>", true,
			`"<a>" space ("<think>" until-4 "</think>")? space tool-call`},
		{`"<a>" space ("<think>" until-4 "</think>")? until-7 space tool-call`, "<a></think>\n", false,
			`"<a></think>\n" tool-call`},
		{`("[THINK]" until-1 "[/THINK]")? ("<answer>" until-7 "</answer>")? tool-call`, "", false,
			`("[THINK]" until-1 "[/THINK]")? tool-call`},
		{`(start any)* start tool-call`, "<|start|>", false, `(start any)? start tool-call`},
		{`">>>" ("all\n" until-0 (tool-get) | tools)`, ">>>", false, `">>>" tools`},
		{`"x" (a | b){1,2}`, "", false, `"x" (a | b){1,2}`},
	} {
		g := parseGBNF(rootRule + defines + c.root)
		g.mustCall(c.written, c.now)
		if got := strings.TrimPrefix(g.String(), rootRule+defines); got != c.want {
			t.Errorf("%s after %q: got %s, want %s", c.root, c.written, got, c.want)
		}
	}
}

// TestPut puts a tool's schema into a grammar, and a call before all talk.
func TestPut(t *testing.T) {
	tool := Tool{Name: "f_g", Parameters: []byte(`{"const":{}}`), Strict: true, Field: "x"}
	if e := tool.Compile(0, nil); e != nil {
		t.Fatal(e)
	}
	tools := Tools{List: []Tool{tool}}

	g := engine.Grammar{Text: "root ::= (\"[THINK]\" until-1 \"[/THINK]\")? space until-127 space tool-call\n" +
		"tool-f-g-schema ::= \"x\"\nspace ::= \" \""}
	_, err := tools.put(&g, false, "")
	if err != nil || !strings.Contains(g.Text, "tool-f-g-schema ::= arguments-0-root\n") ||
		!strings.HasPrefix(g.Text, "root ::= (\"[THINK]\" until-1 \"[/THINK]\")? space space tool-call\n") {
		t.Errorf("%v: %s", err, g.Text)
	}

	other := engine.Grammar{Text: "root ::= \"x\""}
	var e *fault.Error
	if _, err := tools.put(&other, false, ""); !errors.As(err, &e) || e.Kind != fault.Unsupported {
		t.Errorf("strict where it cannot be: %v", err)
	}
}

// TestOneCall leaves one call of many where only one may come.
func TestOneCall(t *testing.T) {
	const text = "root ::= tool-calls\ntool-calls ::= (tool-call space)+"
	for parallel, want := range map[bool]string{
		true:  text,
		false: "root ::= tool-calls\ntool-calls ::= tool-call space",
	} {
		g := engine.Grammar{Text: text}
		tools := Tools{Parallel: parallel}
		if _, err := tools.put(&g, false, ""); err != nil || g.Text != want {
			t.Errorf("parallel %t: %v, %s", parallel, err, g.Text)
		}
	}
}

// TestWaitForCalls makes of Llama 3.1's grammar for a call that must come one for a call that
// may.
func TestWaitForCalls(t *testing.T) {
	tools := Tools{List: []Tool{{Name: "get"}}}
	var g engine.Grammar
	tools.wait(&g, engine.Grammar{
		Text: "root ::= \"<|start|>\" space until-248? tool-call\nspace ::= \" \"?\n" +
			"tool-call ::= \"{\"\nuntil-248 ::= | [^{] until-248\n",
		GenerationPrompt: "<|start|>",
	})
	if !g.Lazy || g.GenerationPrompt != "" || !strings.HasPrefix(g.Text, "root ::= tool-call\n") ||
		!strings.Contains(g.Text, "until-248 ::=") {
		t.Errorf("%+v", g)
	}
	if len(g.Triggers) != 4 || g.Triggers[0].Value != `{"name": "get"` {
		t.Errorf("%+v", g.Triggers)
	}
}

// TestEither keeps the rules of two grammars apart, and the answer's from what only calls
// expect.
func TestEither(t *testing.T) {
	calls := engine.Grammar{
		Text:             "root ::= \"<a>\\n\" space",
		Lazy:             true,
		Triggers:         []engine.Trigger{{}},
		FromChat:         true,
		GenerationPrompt: "<a>\nbegun",
	}
	answer := engine.Grammar{Text: `root ::= "final"` + constrain + ` "x"`}
	got := either(calls, answer, true, "begun")
	want := "root ::= c-root | \"<a>\\n\" a-root\nc-root ::= \"<a>\\n\" c-space\na-root ::= \"final\" \"x\""
	if got.Text != want || got.Lazy || got.Triggers != nil || got.GenerationPrompt != calls.GenerationPrompt {
		t.Errorf("got %+v\nwant %s", got, want)
	}
}

// TestPutAnswer finds the answer's place in a grammar under either name. A beginning of the client's own stands before
// no marks.
func TestPutAnswer(t *testing.T) {
	f, e := SchemaFormat([]byte(`{"const":1}`), FormatOptions{Field: "x", SchemaField: "x", Strict: true})
	if e != nil {
		t.Fatal(e)
	}
	for _, c := range []struct {
		rule  string
		begun bool
		alone bool
	}{
		{answerRule, false, false},
		{answerRule, true, false},
		{formatRule, false, false},
		{formatRule, true, true},
		{"other", false, true},
	} {
		asked := Conversation{Messages: []Message{{Role: User}}, Format: f}
		if c.begun {
			asked.Messages = append(asked.Messages, Message{Role: Assistant, Content: "1"})
		}
		r := engine.Rendered{Parser: "p", Grammar: engine.Grammar{
			Text: "root ::= (\"<think>\" until-1 \"</think>\")? " + c.rule + "\n" + c.rule + " ::= \"{\"",
		}}
		alone := asked.putAnswer(&r)
		if alone != c.alone || strings.Contains(r.Grammar.Text, "<think>") == c.alone {
			t.Errorf("%+v: alone %t, %s", c, alone, r.Grammar.Text)
		}
	}
}

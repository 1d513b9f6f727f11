package lark

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestRegexp compares the texts that a grammar's expression matches with those of the grammar.
func TestRegexp(t *testing.T) {
	patch, err := os.ReadFile("testdata/patch.lark")
	if err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		grammar string
		good    []string
		bad     []string
	}{
		{`start: "a"`, []string{"a"}, []string{"", "A", "aa"}},
		{"start: A | b\n  | c // three\n\nA: \"x\"i\n?b.2: \"y\"+\n!c: [\"z\"] \"!\"", []string{"x", "X", "yy", "!", "z!"}, []string{"", "z", "xy"}},
		{`start: "a".."f"~2..3 ("," "1")*`, []string{"ab", "abc,1,1"}, []string{"a", "abcd", "ag"}},
		{`start: /[0-9]+\/x/ "." -> name`, []string{"12/x."}, []string{"12/xx", "/x."}},
		{"start: INT WS N\n%import common (INT, WS)\n%import common.CNAME -> N", []string{"12 a1"}, []string{"12a", "x a"}},
		{`start: "(" "\n" "\\" "\x41" ")"`, []string{"(\n\\A)"}, []string{"(n\\A)"}},
		{"start: (\n \"a\"\n | \"b\"\n)", []string{"a", "b"}, []string{"ab"}},
		{"start: \"a\" |", []string{"a", ""}, []string{"b"}},
		{string(patch), []string{
			"*** Begin Patch\n*** Add File: a.txt\n+one\n+\n*** End Patch",
			"*** Begin Patch\n*** Update File: a b\n*** Move to: c\n@@ func\n-old\n+new\n same\n*** End of File\n*** Delete File: d\n*** End Patch\n",
		}, []string{
			"*** Begin Patch\n*** End Patch",
			"*** Begin Patch\n*** Add File: a.txt\n*** End Patch",
			"*** Begin Patch\n*** Update File: a\nold\n*** End Patch",
			"{}",
		}},
	} {
		text, err := Regexp(tt.grammar)
		if err != nil {
			t.Errorf("%s: %v", tt.grammar, err)
			continue
		}
		re := regexp.MustCompile(text)
		for _, s := range tt.good {
			if !re.MatchString(s) {
				t.Errorf("%s: %s does not match %q", tt.grammar, text, s)
			}
		}
		for _, s := range tt.bad {
			if re.MatchString(s) {
				t.Errorf("%s: %s matches %q", tt.grammar, text, s)
			}
		}
	}
}

func TestRegexpErrors(t *testing.T) {
	long := "start: a\n"
	for i := range 20 {
		long += string(rune('a'+i)) + ": " + strings.Repeat(string(rune('a'+i+1))+" ", 10) + "\n"
	}

	for _, tt := range []struct {
		grammar string
		syntax  bool // whether the grammar is wrong
	}{
		{"start: \"(\" start? \")\"", false},
		{"start: a\na: b\nb: a", false},
		{"start: \"a\"\n%ignore \" \"", false},
		{"start: /a/i", false},
		{"%import common.NOTHING\nstart: \"a\"", false},
		{"%import mine.A\nstart: A", false},
		{"start: \"a\"~1..2000", false},
		{strings.Repeat(" ", maxGrammar+1), false},
		{"start: " + strings.Repeat("(", 200) + strings.Repeat(")", 200), false},
		{long + "u: \"x\"", false},
		{"", true},
		{"a: \"x\"", true},
		{"start: b", true},
		{"start \"a\"", true},
		{"start: \"a\"\nstart: \"b\"", true},
		{"start: (\"a\"", true},
		{"start: \"a\")", true},
		{"start: \"a", true},
		{"start: \"b\"..\"a\"", true},
		{"start: \"a\"~3..2", true},
		{"start: \"a\" ->", true},
		{"start: §", true},
		{"start: *", true},
	} {
		_, err := Regexp(tt.grammar)
		var syntax SyntaxError
		if err == nil || errors.As(err, &syntax) != tt.syntax {
			t.Errorf("%.60q: %v", tt.grammar, err)
		}
	}

	if _, err := Regexp("start: \"(\" start? \")\""); !errors.Is(err, ErrRecursive) {
		t.Error(err)
	}
}

func FuzzRegexp(f *testing.F) {
	f.Add("start: A | b\n  | c // three\n\nA: \"x\"i\n?b.2: \"y\"+\n!c: [\"z\"] \"!\"")
	f.Add("%import common.LF\nstart: /(.+)/ LF \"a\"..\"b\"~1..2")
	f.Fuzz(func(t *testing.T, grammar string) {
		text, err := Regexp(grammar)
		if err == nil && !strings.HasPrefix(text, "^") {
			t.Error(text)
		}
	})
}

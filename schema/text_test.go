package schema

import (
	"errors"
	"testing"
)

// TestTexts compiles patterns and choices of texts that are no JSON.
func TestTexts(t *testing.T) {
	choices := func(list ...string) func() (*Compiled, *grammar, error) {
		return func() (*Compiled, *grammar, error) {
			d, err := words(list, nil)
			if err != nil {
				t.Fatal(err)
			}
			return textRules(d, Options{Prefix: "j"})
		}
	}
	expression := func(p string) func() (*Compiled, *grammar, error) {
		return func() (*Compiled, *grammar, error) {
			g, err := CompilePattern(p, Options{Prefix: "j"})
			if err != nil {
				return nil, nil, err
			}
			return textRules(g.text, Options{Prefix: "j"})
		}
	}

	for name, tt := range map[string]struct {
		compile        func() (*Compiled, *grammar, error)
		valid, invalid []string
	}{
		"choices":        {choices("yes", "no", "no \"way\"\\\n"), []string{"yes", "no", "no \"way\"\\\n"}, []string{"", "y", "yesno", `"yes"`}},
		"an empty one":   {choices("", "a"), []string{"", "a"}, []string{"b"}},
		"a date":         {expression(`\d{4}-\d\d`), []string{"2026-11"}, []string{"2026-11-27", "x2026-11"}},
		"alternatives":   {expression(`a|bc`), []string{"a", "bc"}, []string{"ac", "abc", "b"}},
		"with anchors":   {expression(`^[a-z]+$`), []string{"abc"}, []string{"", "aBc"}},
		"other alphabet": {expression(`[α-ω]*`), []string{"", "αβ"}, []string{"a"}},
	} {
		g, rules, err := tt.compile()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, text := range tt.valid {
			if !rules.accepts(g.Root, text) || g.Validate([]byte(text)) != nil {
				t.Errorf("%s: %q is refused", name, text)
			}
		}
		for _, text := range tt.invalid {
			if rules.accepts(g.Root, text) || g.Validate([]byte(text)) == nil {
				t.Errorf("%s: %q is accepted", name, text)
			}
		}
	}

	for _, p := range []string{`(a)\1`, `\bword`, `(`, `[^\s\S]`} {
		if _, err := CompilePattern(p, Options{Prefix: "j"}); err == nil {
			t.Errorf("%s is compiled", p)
		}
	}
	if _, err := CompilePattern("$a", Options{Prefix: "j"}); !errors.Is(err, ErrNever) {
		t.Error(err)
	}
}

package llama

import (
	"fmt"
	"strings"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
)

// TestLargeGrammars reads grammars in which there are more paths than can be followed, or deeper ones than a stack
// holds.
func TestLargeGrammars(t *testing.T) {
	m := loadModel(t, testmodel.Options{})
	chain := func(n int, form, last string) string {
		var b strings.Builder
		b.WriteString("root ::= r0\n")
		for i := range n {
			fmt.Fprintf(&b, "r%d ::= %s\n", i, strings.ReplaceAll(form, "#", fmt.Sprintf("r%d", i+1)))
		}
		fmt.Fprintf(&b, "r%d ::= %s\n", n, last)
		return b.String()
	}
	for name, tt := range map[string]struct {
		grammar string
		taken   bool
	}{
		"the same twice in each rule":         {chain(100, `# | #`, `"a"`), true},
		"the same in front of something else": {chain(100, `"x" # "a" | "x" # "b"`, `"a"`), true},
		"a long chain":                        {chain(10_000, `# | "x"`, `"a"`), true},
		"a long chain back to its beginning":  {chain(50_000, `# | "x"`, `r0`), false},
		"the beginning behind what is empty":  {"root ::= e root | \"a\"\ne ::= \"x\" | \n", false},
		"groups in groups": {
			"root ::= " + strings.Repeat("(", 100_000) + `"a"` + strings.Repeat(")", 100_000),
			false,
		},
		"groups that are quoted":   {`root ::= "` + strings.Repeat("(", 100_000) + `" [(\]] ")"`, true},
		"too many elements":        {chain(3000, `"a" ("bcd"){1999} #`, `"a"`), false},
		"a rule that is not there": {`root ::= "a" other`, false},
		"no root":                  {`other ::= "a"`, false},
		"a byte behind the end":    {"root ::= \"a\"\n\x01", false},
	} {
		p := engine.DefaultSampling()
		p.Grammar.Text = tt.grammar
		s, err := m.NewSampler(p)
		if (err == nil) != tt.taken {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil {
			if len(err.Error()) > 200 {
				t.Errorf("%s: the error quotes the grammar: %.300s", name, err)
			}
			continue
		}
		s.Close()
	}
}

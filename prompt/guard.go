package prompt

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"serve/engine"
)

// Guard is a Llama Guard: a model that judges texts. Its template asks for "safe", or "unsafe"
// and the signs of categories, and a grammar holds it to that.
type Guard struct {
	model      Model
	categories map[string]string // names by sign
}

// Verdict is what a guard says of a text.
type Verdict struct {
	Unsafe bool
	// Probability is the guard's own, of "unsafe" against "safe".
	Probability float64
	// Categories are the names of those that it found, as its template has them.
	Categories []string
}

// guardCategory is how a guard's template lists what it looks for: "S1: Violent Crimes."
var guardCategory = regexp.MustCompile(`(?m)^([A-Z]\d{1,2}): *(.+?)\.? *$`)

// NewGuard finds a guard's categories in its template; nil if it lists none. What the template
// is rendered with is not a client's: that may list some too.
func NewGuard(m Model) (*Guard, error) {
	rendered, err := renderGuard(m, "Hello")
	if err != nil {
		return nil, err
	}
	found := guardCategory.FindAllStringSubmatch(rendered.Prompt, -1)
	if found == nil {
		return nil, nil
	}

	g := &Guard{model: m, categories: map[string]string{}}
	for _, sign := range found {
		g.categories[sign[1]] = sign[2]
	}
	return g, nil
}

func renderGuard(m Model, text string) (*engine.Rendered, error) {
	c := Conversation{Messages: []Message{{Role: User, Content: text}}}
	return c.render(m)
}

// Ask makes the request that has the guard judge a text.
func (g *Guard) Ask(text string) (engine.Request, error) {
	rendered, err := renderGuard(g.model, text)
	if err != nil {
		return engine.Request{}, err
	}

	r := engine.Request{
		Choices:   1,
		MaxTokens: 16 + 4*len(g.categories),
		Sampling:  engine.DefaultSampling(),
		LogProbs:  true,
		Top:       20,
	}
	r.Sampling.Temperature = 0
	r.Sampling.Grammar.Text = g.grammar()
	r.Prompt, err = g.model.Tokenize(rendered.Prompt, true, g.model.Limits().Context-1)
	return r, err
}

// grammar allows a verdict and nothing else.
func (g *Guard) grammar() string {
	var signs []string
	for _, sign := range slices.Sorted(maps.Keys(g.categories)) {
		signs = append(signs, `"`+sign+`"`)
	}
	return fmt.Sprintf(`root ::= "\n"{0,2} ("safe" | "unsafe\n" sign ("," sign){0,%d})
sign ::= %s`, len(signs)-1, strings.Join(signs, " | "))
}

// Judge reads a whole answer to what Ask asked.
func (g *Guard) Judge(answer string, tokens []engine.TokenInfo) Verdict {
	word, signs, _ := strings.Cut(strings.TrimSpace(answer), "\n")
	v := Verdict{
		Unsafe:      word == "unsafe",
		Probability: unsafeProbability(g.model.Model(), tokens),
	}
	if !v.Unsafe {
		return v
	}

	for sign := range strings.SplitSeq(signs, ",") {
		if name := g.categories[sign]; !slices.Contains(v.Categories, name) {
			v.Categories = append(v.Categories, name)
		}
	}
	return v
}

// unsafeProbability is that of "unsafe" against "safe", where the model chose.
func unsafeProbability(m *engine.Model, tokens []engine.TokenInfo) float64 {
	for _, t := range tokens {
		if strings.TrimSpace(string(t.Bytes)) == "" {
			continue
		}

		var safe, unsafe float64
		for _, a := range append(slices.Clone(t.Alternatives), t.TokenLogProb) {
			switch text := strings.TrimSpace(string(Piece(m, a.Token))); {
			case text == "":
			case strings.HasPrefix("safe", text):
				safe = max(safe, math.Exp(float64(a.LogProb)))
			case strings.HasPrefix("unsafe", text):
				unsafe = max(unsafe, math.Exp(float64(a.LogProb)))
			}
		}
		return unsafe / (safe + unsafe)
	}
	return 0
}

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

// Guard is a Llama Guard model, which classifies texts. Its template asks for "safe", or for "unsafe"
// and the codes of categories; a grammar enforces that.
type Guard struct {
	model      Renderer
	categories map[string]string // names by code, such as S1
}

// Verdict is a guard's classification of a text.
type Verdict struct {
	Unsafe bool
	// Probability is the probability of "unsafe" relative to "safe".
	Probability float64
	// Categories are the names of the categories found, as in the template.
	Categories []string
}

// guardCategory matches a category in a guard's template: "S1: Violent Crimes."
var guardCategory = regexp.MustCompile(`(?m)^([A-Z]\d{1,2}): *(.+?)\.? *$`)

// NewGuard reads a guard's categories from its template. It returns nil if there are none. The
// template is rendered with a fixed text, because a client's text might contain categories.
func NewGuard(m Renderer) (*Guard, error) {
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

func renderGuard(m Renderer, text string) (*engine.Rendered, error) {
	c := Conversation{Messages: []Message{{Role: User, Content: text}}}
	rendered, _, err := c.render(m, nil)
	return rendered, err
}

// Ask returns the request that classifies a text.
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
	how := engine.Reading{Control: true, Ends: true, Quoted: rendered.Quoted}
	r.Prompt, err = g.model.Tokenize(rendered.Prompt, how, g.model.Limits().Context-1)
	return r, err
}

// grammar returns the grammar of a verdict.
func (g *Guard) grammar() string {
	var signs []string
	for _, sign := range slices.Sorted(maps.Keys(g.categories)) {
		signs = append(signs, `"`+sign+`"`)
	}
	return fmt.Sprintf(`root ::= "\n"{0,2} ("safe" | "unsafe\n" sign ("," sign){0,%d})
sign ::= %s`, len(signs)-1, strings.Join(signs, " | "))
}

// Judge parses the complete answer to a request from Ask.
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

// unsafeProbability returns the probability of "unsafe" relative to "safe", from the token that
// decides between them.
func unsafeProbability(m *engine.ModelInfo, tokens []engine.TokenInfo) float64 {
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

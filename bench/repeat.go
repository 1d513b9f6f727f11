package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"serve/bench/launch"
	"serve/loadgen"
)

// copying is a kind of answer that repeats its prompt.
type copying struct {
	name string
	text func(r *rand.Rand, owner func() string) string
}

var copyings = []copying{{"edit", proseOf}, {"JSON", recordsOf}, {"code", functionsOf}}

// copyMetrics are the figures of a kind.
func copyMetrics(kind string) (rate, repeated metric) {
	return metric{"output, " + kind, "tokens/s", higher}, metric{"repeated, " + kind, "%", ""}
}

func repeat(o *options, trained int) []scenario {
	const prompt = 1500 // in vocabularies with short tokens
	sc := scenario{
		name: "repeat",
		about: fmt.Sprintf("one client; completions of %d tokens: a text again with one word changed, of which the prompt "+
			"has the beginning; repeated are words that are in a row of four that the prompt has, too", o.tokens),
		need: need{slots: 1, context: roomFor(prompt, o.tokens)},
	}
	if trained > 0 {
		sc.need.context = min(sc.need.context, trained)
	}
	var repeated []metric
	for _, k := range copyings {
		rate, share := copyMetrics(k.name)
		sc.metrics = append(sc.metrics, rate)
		repeated = append(repeated, share)
	}
	sc.metrics = append(sc.metrics, repeated...)
	sc.measure = o.copies
	return []scenario{sc}
}

// copies measures an answer of each kind.
func (o *options) copies(ctx context.Context, s *launch.Server, round int) (figures, error) {
	f := figures{}
	for i, k := range copyings {
		r := rand.New(rand.NewPCG(o.roundSeed(round), uint64(i)))
		prompt := copyPrompt(r, k)
		a, err := s.Client.Ask(ctx, loadgen.Call{Model: s.Model, Prompt: prompt, Tokens: o.tokens, Fields: greedy()})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		decoded, err := decodeRate(&a)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		rate, repeated := copyMetrics(k.name)
		f[rate.Name] = decoded
		f[repeated.Name] = repeatedShare(prompt, a.Text)
	}
	return f, nil
}

// copyPrompt has a text, and the beginning of the same text with a word changed: what a model continues by copying.
func copyPrompt(r *rand.Rand, k copying) string {
	names := strings.Fields("amber birch cedar delta ember flint grove haven inlet jolly knoll lemon maple night olive")
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	old := names[0]
	replacement := names[1]

	lines := 0
	text := k.text(r, func() string {
		if lines++; lines%5 == 1 { // an edit leaves most as it is
			return old
		}
		return names[2+r.IntN(len(names)-2)]
	})

	changed := strings.ReplaceAll(text, old, replacement)
	begin := changed[:strings.LastIndex(changed[:len(changed)/3], "\n")+1]
	return fmt.Sprintf("Original:\n%s\nThe same with %q in place of %q:\n%s", text, replacement, old, begin)
}

var things = strings.Fields("river stone cloud paper glass window garden market letter harbor candle bridge forest")

func thing(r *rand.Rand) string { return things[r.IntN(len(things))] }

// proseOf is a text of lines, with a name in each.
func proseOf(r *rand.Rand, owner func() string) string {
	var b strings.Builder
	for range 14 {
		fmt.Fprintf(&b, "The %s of %s is near the %s, and the %s is %d years old.\n", thing(r), owner(), thing(r), thing(r),
			r.IntN(90)+10)
	}
	return b.String()
}

// recordsOf is JSON.
func recordsOf(r *rand.Rand, owner func() string) string {
	var b strings.Builder
	b.WriteString("[\n")
	for i := range 14 {
		fmt.Fprintf(&b, "  {\"id\": %d, \"owner\": %q, \"kind\": %q, \"size\": %d},\n",
			i, owner(), thing(r), r.IntN(900)+100)
	}
	b.WriteString("]\n")
	return b.String()
}

// functionsOf is code.
func functionsOf(r *rand.Rand, owner func() string) string {
	var b strings.Builder
	for i := range 6 {
		what := thing(r)
		fmt.Fprintf(&b, "def %s_%s_%d(%s):\n    total = %d\n    for item in %s:\n        total += item.%s\n"+
			"    return total\n\n",
			owner(), what, i, what, r.IntN(90), what, thing(r))
	}
	return b.String()
}

// repeatedShare is how many percent of an answer's words are in a row of four that the prompt has, too.
func repeatedShare(prompt, answer string) float64 {
	const row = 4
	known := map[string]bool{}
	words := strings.Fields(prompt)
	for i := range len(words) - row + 1 {
		known[strings.Join(words[i:i+row], " ")] = true
	}

	words = strings.Fields(answer)
	repeated := make([]bool, len(words))
	for i := range len(words) - row + 1 {
		if known[strings.Join(words[i:i+row], " ")] {
			for k := range row {
				repeated[i+k] = true
			}
		}
	}
	count := 0
	for _, is := range repeated {
		if is {
			count++
		}
	}
	return percent(count, len(words))
}

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// testOptions are those of a short run.
func testOptions(t *testing.T, args ...string) *options {
	t.Helper()
	o, _, err := parse(append([]string{"-requests", "2", "-tokens", "16", "-clients", "3", "-conversations", "8",
		"-history", "100", "-turns", "3", "-depths", "128,512,4096", "-long-prompt", "200", "-seed", "5"}, args...), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestWorkloads measures each workload's scenarios at a server whose tokens are words: each of its metrics has a
// figure.
func TestWorkloads(t *testing.T) {
	for _, w := range workloads {
		if w.name == "overload" { // measures seconds of what is refused
			continue
		}
		for _, sc := range w.scenarios(testOptions(t), 2048) {
			t.Run(sc.name, func(t *testing.T) {
				f := &fake{}
				s := f.server(t, "serve")
				if _, err := sc.measure(t.Context(), s, 0); err != nil {
					t.Fatal("the warm-up:", err)
				}
				before := len(f.since(0))
				got, err := sc.measure(t.Context(), s, 1)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range sc.metrics {
					if _, ok := got[m.Name]; !ok {
						t.Errorf("no figure for %s", m.Name)
					}
				}
				for _, q := range f.since(before) {
					if len(q.prompt)+q.body.Max > sc.need.context {
						t.Errorf("%d and %d tokens in a context of %d", len(q.prompt), q.body.Max, sc.need.context)
					}
				}
			})
		}
	}
}

// TestPromptsOfCrowds are the same for all contenders, others in each round, and alike as planned.
func TestPromptsOfCrowds(t *testing.T) {
	o := testOptions(t)
	prompts := func(sc scenario, round int) (list []string) {
		f := &fake{}
		if _, err := sc.measure(t.Context(), f.server(t, "serve"), round); err != nil {
			t.Fatal(err)
		}
		for _, q := range f.since(2) { // which calibrate
			list = append(list, strings.Join(q.prompt, " "))
		}
		slices.Sort(list)
		return list
	}

	sc := crowd(o, 0)[0]
	one := prompts(sc, 1)
	if len(one) != 3*2 || !slices.Equal(one, prompts(sc, 1)) {
		t.Errorf("%d prompts, or others the second time", len(one))
	}
	two := prompts(sc, 2)
	for i, p := range slices.Concat(one, two) {
		if n := len(strings.Fields(p)); n != 50 {
			t.Errorf("prompt %d has %d words", i, n)
		}
	}
	if all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(one, two)))); len(all) != 12 {
		t.Errorf("%d different prompts", len(all))
	}

	list := prompts(shared(o, 0)[0], 1)
	if len(list) != slots*2 {
		t.Fatalf("%d prompts", len(list))
	}
	first := strings.Fields(list[0])
	for _, p := range list[1:] {
		words := strings.Fields(p)
		common := 0
		for common < len(words) && words[common] == first[common] {
			common++
		}
		if len(words) != 300 || common < 270 || common > 276 { // some words may be the same by chance
			t.Errorf("%d words, %d in common", len(words), common)
		}
	}
}

// TestAgent has conversations that grow by what was answered, and take turns.
func TestAgent(t *testing.T) {
	o := testOptions(t)
	f := &fake{}
	got, err := agent(o, 2048)[0].measure(t.Context(), f.server(t, "serve"), 1)
	if err != nil {
		t.Fatal(err)
	}
	list := f.since(2)
	if len(list) != 8*3 {
		t.Fatalf("%d requests", len(list))
	}
	lengths := map[int]int{}
	beginnings := map[string]int{}
	for i, q := range list {
		m := q.body.Messages
		lengths[len(m)]++
		beginnings[m[0].Content]++
		if turn := len(m) / 2; turn != i/8 {
			t.Errorf("request %d is of turn %d", i, turn)
		}
		for k := range m {
			if role := []string{"user", "assistant"}[k%2]; m[k].Role != role ||
				k%2 == 1 && m[k].Content != strings.Repeat("word ", 4) {
				t.Errorf("message %d: %+v", k, m[k])
			}
		}
	}
	if fmt.Sprint(lengths) != "map[1:8 3:8 5:8]" || len(beginnings) != 8 {
		t.Errorf("%v, %d beginnings", lengths, len(beginnings))
	}

	// All but what is new: an answer of 4, a message of 16, and 2 roles, after 101.
	_, cached := turnMetrics("turn 2")
	if want := 100 * 101.0 / (101 + 1 + 4 + 1 + 16); got[cached.Name] != want {
		t.Errorf("%v, not %g", got, want)
	}
}

// TestRestart crashes and restarts a server once in a round, and never in the warm-up.
func TestRestart(t *testing.T) {
	o := testOptions(t)
	f := &fake{}
	s := f.server(t, "serve")
	sc := restart(o, 2048)[0]
	if _, err := sc.measure(t.Context(), s, 0); err != nil || f.crashes+f.restarts != 0 {
		t.Fatal(err, f.crashes, f.restarts)
	}
	got, err := sc.measure(t.Context(), s, 1)
	if err != nil || f.crashes != 1 || f.restarts != 1 {
		t.Fatal(err, f.crashes, f.restarts)
	}
	for name, most := range map[string]float64{beforeCrash: 100, afterCrash: 5, afterRestart: 5} {
		_, cached := turnMetrics(name)
		if share := got[cached.Name]; share > most || most == 100 && share < 50 {
			t.Errorf("%s: %g %%", name, share)
		}
	}

	f.refuse = "<assistant>"
	if _, err := sc.measure(t.Context(), s, 2); err == nil || !strings.Contains(err.Error(), "before: conversation 1") {
		t.Error(err)
	}
}

// TestLeftOut says what a model's context has no room for.
func TestLeftOut(t *testing.T) {
	o := testOptions(t)
	sc := depth(o, 2048)[0]
	if !slices.Equal(sc.notes, []string{"4096 is left out: the model's context has 2048 tokens"}) ||
		len(sc.metrics) != 4 || sc.need.context != 512 {
		t.Errorf("%+v", sc)
	}
	if sc := agent(testOptions(t, "-history", "1000"), 1024)[0]; len(sc.notes) != 1 ||
		!strings.Contains(sc.notes[0], "not 1000: the model's context has 1024") || sc.need.context > 1024 {
		t.Errorf("%+v", sc)
	}
	for _, w := range []workload{{name: "agent", scenarios: agent}, {name: "restart", scenarios: restart},
		{name: "depth", scenarios: depth}, {name: "gaps", scenarios: gaps}} {
		list := w.scenarios(o, 100)
		if len(list) != 1 || list[0].measure != nil || len(list[0].notes) == 0 || len(list[0].metrics) != 0 {
			t.Errorf("%s: %+v", w.name, list)
		}
		res := play(t.Context(), &list[0], []contender{{name: "serve"}}, 1, never, func(string) {})
		if res.failure() != nil || len(res.Notes) == 0 {
			t.Errorf("%s: %+v", w.name, res)
		}
	}
}

// TestCopies begin a text again with a word changed.
func TestCopies(t *testing.T) {
	for i, k := range copyings {
		prompt := copyPrompt(rand.New(rand.NewPCG(1, uint64(i))), k)
		if prompt != copyPrompt(rand.New(rand.NewPCG(1, uint64(i))), k) ||
			prompt == copyPrompt(rand.New(rand.NewPCG(2, uint64(i))), k) {
			t.Errorf("%s: the same seed has another prompt, or another seed the same", k.name)
		}

		var old, replacement string
		original, rest, ok := strings.Cut(strings.TrimPrefix(prompt, "Original:\n"), "\nThe same with ")
		if _, err := fmt.Sscanf(rest, "%q in place of %q:", &replacement, &old); err != nil || !ok || old == replacement {
			t.Fatalf("%s: %v\n%s", k.name, err, prompt)
		}
		_, begin, _ := strings.Cut(rest, ":\n")
		changed := strings.ReplaceAll(original, old, replacement)
		if !strings.HasPrefix(changed, begin) || strings.Contains(begin, old) || !strings.HasSuffix(begin, "\n") ||
			len(begin) > len(changed)/3 {
			t.Errorf("%s: %q does not begin\n%s", k.name, begin, changed)
		}
	}
}

func TestRepeatedShare(t *testing.T) {
	for answer, want := range map[string]float64{
		"a b c d":               100,
		"a b c x":               0,
		"x b c d e y y y y y":   40,
		"":                      0,
		"c d e f a b c d z z z": 100 * 8.0 / 11,
	} {
		if got := repeatedShare("a b c d e f", answer); got != want {
			t.Errorf("%q: %g, not %g", answer, got, want)
		}
	}
}

// TestToolCall forces a call of a tool.
func TestToolCall(t *testing.T) {
	f := &fake{}
	got, err := tools(testOptions(t), 0)[0].measure(t.Context(), f.server(t, "serve"), 1)
	if err != nil {
		t.Fatal(err)
	}
	q := f.since(0)[0]
	last := q.body.Messages[len(q.body.Messages)-1]
	if q.body.Choice != "required" || len(q.body.Tools) != 1 || q.body.Max != 64 || last.Role != "user" ||
		got[called.Name] != 100 {
		t.Errorf("%+v %v", q, got)
	}
}

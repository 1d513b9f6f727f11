package demo

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSize holds the file to what a binary may carry for its convenience.
func TestSize(t *testing.T) {
	if len(GGUF) > 4_000_000 || !strings.HasPrefix(GGUF, "GGUF") {
		t.Errorf("%d bytes, beginning %.4q", len(GGUF), GGUF)
	}
}

func readLines(t *testing.T, name string) []string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

var wordPattern = regexp.MustCompile(`[a-z0-9]+`)

func words(text string) []string { return wordPattern.FindAllString(strings.ToLower(text), -1) }

// TestQuestionsAreNew shows that none of the hundred questions that judge the model, and
// no run of five words of one, can come out of the text that it is trained on. (train.py
// leaves out what its changes of words would make of that.)
func TestQuestionsAreNew(t *testing.T) {
	runs := map[string]string{} // to the question
	longest := 5
	count := 0
	for _, line := range readLines(t, "questions.txt") {
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		count++
		question, _, ok := strings.Cut(line, " | ")
		w := words(question)
		if !ok || len(w) == 0 {
			t.Errorf("%q: no bar", line)
		}
		runs[strings.Join(w, " ")] = question
		longest = max(longest, len(w))
		for i := 5; i <= len(w); i++ {
			runs[strings.Join(w[i-5:i], " ")] = question
		}
	}

	if count != 100 {
		t.Errorf("%d questions, not 100", count)
	}

	g := readGrammar(t)
	checked := 0
	for _, line := range g.lines {
		for run := range g.runs(line, longest) {
			checked++
			if q, ok := runs[run]; ok {
				t.Errorf("%q of the question %q stands in the text: %s", run, q, line)
			}
		}
	}

	if checked < 100_000 {
		t.Errorf("only %d runs in the text", checked)
	}
}

// TestRunsAreFound makes sure that the test above would see what stands in the text.
func TestRunsAreFound(t *testing.T) {
	g := &grammar{lists: map[string][]string{"a": {"one", "one {two|}"}}}
	found := g.runs("<a> {three|four|} five, {|six} seven!", 5)
	for run, want := range map[string]bool{
		"one two three five six": true, "two four five seven": true, "one five": true, "one five six seven": true,
		"two three five six seven": true,
		"one four five six seven":  true, "five seven": true, "three four": false, "one six": false,
		"two three six": false, "five six five": false,
	} {
		if found[run] != want {
			t.Errorf("%q: %v", run, found[run])
		}
	}
}

// grammar is the text as train.py reads it.
type grammar struct {
	lists map[string][]string
	lines []string // questions, and the lines of answers
}

func readGrammar(t *testing.T) *grammar {
	t.Helper()
	g := &grammar{lists: map[string][]string{}}
	for _, line := range readLines(t, "text.txt") {
		switch {
		case line == "", line[0] == '#', line[0] == '[', line[0] == '~':
		case line[0] == '$':
			name, options, _ := strings.Cut(line[1:], " = ")
			for o := range strings.SplitSeq(options, "|") {
				g.lists[name] = append(g.lists[name], strings.TrimSpace(o))
			}
		case strings.HasPrefix(line, "? "):
			g.lines = append(g.lines, line[2:])
		default:
			g.lines = append(g.lines, escapeAnswer(strings.TrimPrefix(line, "= ")))
		}
	}
	return g
}

// escapeAnswer takes from an answer what would be a choice in a question.
func escapeAnswer(line string) string {
	return strings.NewReplacer("{", " ", "}", " ", "|", " ", "<", " ", ">", " ").Replace(line)
}

// state is a place in a line: what may still come.
type state struct {
	word string // that is said here, "" for none
	next []*state
}

// runs are all runs of up to so many words that a line can say.
func (g *grammar) runs(line string, longest int) map[string]bool {
	end := &state{}
	var all []*state
	g.build(line, end, &all)
	found := map[string]bool{}
	var walk func(s *state, said []string)
	walk = func(s *state, said []string) {
		if s.word != "" {
			said = append(slices.Clip(said), s.word)
			found[strings.Join(said, " ")] = true
			if len(said) == min(longest, 5) {
				return
			}
		}
		for _, n := range s.next {
			walk(n, said)
		}
	}

	for _, s := range all {
		if s.word != "" {
			walk(s, nil)
		}
	}

	return found
}

// build returns where a text begins that ends at end.
func (g *grammar) build(text string, end *state, all *[]*state) *state {
	open := strings.IndexAny(text, "{<")
	if open < 0 {
		w := words(text)
		for i := len(w) - 1; i >= 0; i-- {
			end = &state{word: w[i], next: []*state{end}}
			*all = append(*all, end)
		}
		return end
	}

	var options []string
	var rest string
	if text[open] == '<' {
		name, after, _ := strings.Cut(text[open+1:], ">")
		options = g.lists[name]
		rest = after
	} else {
		depth := 0
		start := open + 1
		for i := open; i < len(text); i++ {
			switch text[i] {
			case '{':
				depth++
			case '}':
				depth--
			}
			if text[i] == '|' && depth == 1 || depth == 0 {
				options = append(options, text[start:i])
				start = i + 1
			}
			if depth == 0 {
				rest = text[i+1:]
				break
			}
		}
	}

	after := g.build(rest, end, all)
	choice := &state{}
	for _, o := range options {
		choice.next = append(choice.next, g.build(o, after, all))
	}

	return g.build(text[:open], choice, all)
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"serve/models"
	"serve/models/demo"
)

// questions are those of models/demo/questions.txt, with what a right answer has in it.
func questions(t *testing.T) (list [][2]string) {
	t.Helper()
	b, err := os.ReadFile("../../models/demo/questions.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if question, words, ok := strings.Cut(strings.TrimSpace(line), " | "); ok && line[0] != '#' {
			list = append(list, [2]string{question, words})
		}
	}
	if len(list) != 100 {
		t.Fatalf("%d questions", len(list))
	}
	return list
}

// TestDemoAnswers asks the demo a hundred questions that it was not trained on. (Whether
// it was, models/demo tests.) It takes the path of any GGUF: guard, engine, template, sampler.
func TestDemoAnswers(t *testing.T) {
	r := startServeIn(t, []string{"SERVE_HOME=" + t.TempDir()}) // no model is named
	right := 0
	for _, q := range questions(t) {
		said := demoSays(t, r, []message{{"user", q[0]}})
		if hasFact(said, q[1]) {
			right++
		} else {
			t.Logf("%s\n\twants %s\n\tgot   %q", q[0], q[1], said)
		}
	}
	t.Logf("%d of 100 are right", right)
	if right < 95 {
		t.Errorf("%d of 100 are right, not 95", right)
	}
}

// TestDemoGoesOn has talks of four turns under a system prompt. What was said before
// confuses it a little; it must not make it ramble.
func TestDemoGoesOn(t *testing.T) {
	r := startServeIn(t, []string{"SERVE_HOME=" + t.TempDir()}, "demo")
	list := questions(t)
	right := 0
	for i := range 25 {
		talk := []message{{"system", "You are a helpful assistant."}}
		for turn := range 4 {
			q := list[(i+29*turn)%100]
			talk = append(talk, message{"user", q[0]})
			said := demoSays(t, r, talk)
			if talk = append(talk, message{"assistant", said}); hasFact(said, q[1]) {
				right++
			}
		}
	}
	t.Logf("%d of 100 are right", right)
	if right < 85 {
		t.Errorf("%d of 100 are right, not 85", right)
	}
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// demoSays asks for the answer to a talk, and finds fault with how it ends.
func demoSays(t *testing.T, r *running, talk []message) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"model": demo.Name, "temperature": 0, "messages": talk})
	if err != nil {
		t.Fatal(err)
	}
	status, text := r.post(t, "/v1/chat/completions", string(body))
	var a struct {
		Choices []struct {
			Message message
			Finish  string `json:"finish_reason"`
		}
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil || status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	c := a.Choices[0]
	if said := c.Message.Content; c.Finish != "stop" || said == "" || len(said) > 600 || strings.Contains(said, "<|") ||
		strings.Contains(said, "|>") {
		t.Errorf("%s: ends with %s: %q", talk[len(talk)-1].Content, c.Finish, said)
	}
	return c.Message.Content
}

// hasFact says whether an answer has all the words that commas part, and of those that " or " parts one.
func hasFact(said, words string) bool {
	said = strings.ToLower(said)
	for word := range strings.SplitSeq(words, ", ") {
		any := false
		for alternative := range strings.SplitSeq(word, " or ") {
			any = any || strings.Contains(said, alternative)
		}
		if !any {
			return false
		}
	}
	return true
}

// demoAnswers are all that the demo was taught to say. TestDocuments tries the commands in them.
func demoAnswers(t *testing.T) (list []string) {
	t.Helper()
	text, err := os.ReadFile("../../models/demo/text.txt")
	if err != nil {
		t.Fatal(err)
	}
	answer := false
	for line := range strings.Lines(string(text)) {
		if answer = strings.HasPrefix(line, "= ") || answer && !strings.ContainsAny(line[:1], "?[#$~\n"); answer {
			list = append(list, strings.TrimSpace(strings.TrimPrefix(line, "= ")))
		}
	}
	return list
}

// TestDemoTellsTheTruth compares what the demo says of the catalog with the catalog. The number of models is not among
// it, because that grows.
func TestDemoTellsTheTruth(t *testing.T) {
	said := strings.Join(demoAnswers(t), "\n")
	if counted := regexp.MustCompile(`\d+ models`).FindString(said); counted != "" {
		t.Errorf("it says that there are %s", counted)
	}
	sized := regexp.MustCompile("`serve ([\\w.-]+)`\\n[^`]*?([0-9.]+) GiB|`serve ([\\w.-]+)`, which takes ([0-9.]+) GiB")
	found := sized.FindAllStringSubmatch(said, -1)
	if len(found) < 4 {
		t.Errorf("only %d sizes were found: %q", len(found), found)
	}
	sizes := map[string]string{}
	for _, e := range models.Catalog() {
		sizes[e.Name] = fmt.Sprintf("%.1f", float64(e.Bytes)/(1<<30))
	}
	for _, m := range found {
		if name, size := m[1]+m[3], m[2]+m[4]; size != sizes[name] {
			t.Errorf("%s takes %s GiB, and not %s", name, sizes[name], size)
		}
	}
}

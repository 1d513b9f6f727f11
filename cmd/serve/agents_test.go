package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"serve/server"
	"serve/server/servertest"
)

// agent is a coding agent of npm, which make agents or make more-agents installs in the folder of a variable.
func agent(t *testing.T, variable, name string) string {
	t.Helper()
	folder := os.Getenv(variable)
	if folder == "" {
		t.Skip(variable + " is not set: make agents and make more-agents run this with packages of npm")
	}
	return filepath.Join(folder, "node_modules", ".bin", name)
}

// errand is what agents are sent to do: read a file, correct it, run a command, and tell.
type errand struct {
	dir  string
	file string // with the mistake
}

const (
	mistake   = "Hello, wrld"
	corrected = "Hello, world"
	task      = "Correct the spelling in greeting.txt, then check it."
	report    = "The greeting is spelled right now."
)

func newErrand(t *testing.T) *errand {
	t.Helper()
	e := &errand{dir: t.TempDir()}
	e.file = filepath.Join(e.dir, "greeting.txt")
	if err := os.WriteFile(e.file, []byte(mistake+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	// Agents refuse to edit a file that has changed since they read it, as one just written may have.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(e.file, old, old); err != nil {
		t.Fatal(err)
	}
	return e
}

// done checks that the errand is done.
func (e *errand) done(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(e.file)
	if err != nil || string(text) != corrected+"\n" {
		t.Errorf("the file is %q: %v", text, err)
	}
}

// asJSON writes the input of a call.
func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestClaudeCode has Claude Code run an errand, three times, with a model that plays its part.
func TestClaudeCode(t *testing.T) {
	program := agent(t, "TEST_AGENTS", "claude")
	for range 3 {
		e := newErrand(t)
		// Later lines first: the conversation contains what led to them. The command's output says
		// something that its text does not.
		hs, _ := servertest.Play(t, server.Options{},
			servertest.Line{After: "checked-42", Say: report},
			servertest.Line{After: corrected, Tool: "Bash", Call: "Bash", Input: asJSON(t, map[string]string{
				"command":     "cat greeting.txt && echo checked-$((40 + 2))",
				"description": "Check the file",
			})},
			servertest.Line{After: mistake, Tool: "Edit", Call: "Edit", Input: asJSON(t, map[string]string{
				"file_path":  e.file,
				"old_string": mistake,
				"new_string": corrected,
			})},
			servertest.Line{After: task, Tool: "Read", Call: "Read", Input: asJSON(t, map[string]string{
				"file_path": e.file,
			})},
			servertest.Line{Say: "Spelling"}, // what it asks on the side
		)

		cmd := exec.Command(program, "--print", task, "--output-format", "json",
			"--permission-mode", "acceptEdits", "--allowedTools", "Read,Edit,Bash")
		cmd.Dir = e.dir
		cmd.Env = claudeEnviron(t.TempDir(), hs.URL)
		var errOut strings.Builder
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, out, errOut.String())
		}

		var result struct {
			IsError bool `json:"is_error"`
			Result  string
			Turns   int `json:"num_turns"`
			Usage   struct {
				Input int `json:"input_tokens"`
				Read  int `json:"cache_read_input_tokens"`
			}
		}
		if err := json.Unmarshal(out, &result); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		// It takes a turn more at times: what it asks on the side may come into the conversation.
		if result.IsError || result.Result != report || result.Turns < 4 {
			t.Errorf("got %s", out)
		}
		if u := result.Usage; u.Read < 2*u.Input {
			t.Errorf("of three later prompts, only %d tokens were read from the cache; %d were not", u.Read, u.Input)
		}
		e.done(t)
	}
}

// claude runs Claude Code, again and again in one conversation.
type claude struct {
	t    *testing.T
	home string
	dir  string
	url  string
}

// says has Claude Code answer a prompt, which may be longer than an argument can be.
func (c *claude) says(prompt string, args ...string) string {
	c.t.Helper()
	args = append([]string{"--print", "--output-format", "text"}, args...)
	cmd := exec.Command(agent(c.t, "TEST_AGENTS", "claude"), args...)
	cmd.Dir = c.dir
	cmd.Env = claudeEnviron(c.home, c.url)
	cmd.Stdin = strings.NewReader(prompt)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%v\n%s\n%s", err, out, errOut.String())
	}
	return strings.TrimSpace(string(out))
}

// claudeEnviron is the environment that docs/guides/claude-code.md describes.
func claudeEnviron(home, url string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"ANTHROPIC_BASE_URL=" + url,
		"ANTHROPIC_AUTH_TOKEN=none",
		"ANTHROPIC_MODEL=fake",
		"ANTHROPIC_DEFAULT_HAIKU_MODEL=fake",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
	}
}

// TestClaudeCodeCompacts has Claude Code count the tokens of a conversation, and compact it: when it is told
// to, and when the server says that the prompt is too long.
func TestClaudeCodeCompacts(t *testing.T) {
	agent(t, "TEST_AGENTS", "claude")
	const (
		about   = "It was about a greeting."
		summary = "<summary>Somebody said hello: summary-7.</summary>"
	)
	script := []servertest.Line{
		{After: "summary-7", Say: about},
		{After: "summary of the conversation", Say: summary},
		{After: "Say hello.", Say: "Hello there."},
		{Say: "Spelling"},
	}
	// The scripted model takes a byte for a token. Two of these are more than it has room for.
	long := strings.Repeat("word ", 50_000)
	for name, tt := range map[string]struct {
		first string
		then  string
		told  bool // to compact
	}{
		"told":     {first: "Say hello.", then: "And what was it about?", told: true},
		"too long": {first: "Say hello. " + long, then: "And what was it about? " + long},
	} {
		t.Run(name, func(t *testing.T) {
			hs, asked := servertest.Play(t, server.Options{}, script...)
			c := &claude{t: t, home: t.TempDir(), dir: t.TempDir(), url: hs.URL}
			if got := c.says(tt.first); got != "Hello there." {
				t.Errorf("it says %q", got)
			}

			if tt.told {
				// A view of the context is made by many counts of tokens.
				before := len(asked.Chats)
				if got := c.says("/context", "--continue"); !strings.Contains(got, "Tokens:") {
					t.Errorf("/context: %s", got)
				}
				if counts := len(asked.Chats) - before; counts < 5 {
					t.Errorf("/context had tokens counted %d times", counts)
				}
				c.says("/compact", "--continue")
			}

			if got := c.says(tt.then, "--continue"); got != about {
				t.Errorf("it says %q", got)
			}
		})
	}
}

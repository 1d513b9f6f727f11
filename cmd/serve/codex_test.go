package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"serve/server"
	"serve/server/servertest"
)

// codex runs Codex CLI.
type codex struct {
	t       *testing.T
	program string
	home    string
	dir     string
}

// codexEvent is a line of what codex exec --json writes.
type codexEvent struct {
	Type  string
	Item  struct{ Type, Text, Message string }
	Usage struct {
		Input  int `json:"input_tokens"`
		Cached int `json:"cached_input_tokens"`
	}
}

// newCodex writes a configuration for a server, with an MCP server beside.
func newCodex(t *testing.T, dir, url, model string) *codex {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 for the MCP server")
	}
	tools, err := filepath.Abs("testdata/agents/mcp.py")
	if err != nil {
		t.Fatal(err)
	}

	c := &codex{t: t, program: agent(t, "TEST_AGENTS", "codex"), home: t.TempDir(), dir: dir}
	config := fmt.Sprintf(`model = %q
model_provider = "serve"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.serve]
name = "serve"
base_url = %q
wire_api = "responses"
[mcp_servers.test]
command = %q
args = [%q]
`, model, url+"/v1", python, tools)
	if err := os.WriteFile(filepath.Join(c.home, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// exec runs codex exec to its end and returns its last message and the usage of its turn.
func (c *codex) exec(args ...string) (answer string, last codexEvent) {
	c.t.Helper()
	cmd := exec.Command(c.program, append([]string{"exec"}, args...)...)
	cmd.Dir = c.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + c.home,
		"CODEX_HOME=" + c.home,
	}
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%v\n%s\n%s", err, out, errOut.String())
	}

	for line := range strings.Lines(string(out)) {
		var e codexEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			c.t.Fatalf("%v: %s", err, out)
		}
		switch {
		case e.Type == "turn.failed" || e.Type == "error":
			c.t.Errorf("it fails: %s", line)
		case e.Item.Type == "agent_message":
			answer = e.Item.Text
		}
		last = e
	}
	return answer, last
}

// patch is an input of apply_patch that corrects the greeting.
const patch = "*** Begin Patch\n*** Update File: greeting.txt\n@@\n-" + mistake + "\n+" + corrected +
	"\n*** End Patch\n"

// codexScript has the model read the file, shout by MCP, correct the file by a patch, check it and tell.
// Later lines come first.
func codexScript(t *testing.T, edit servertest.Line) []servertest.Line {
	run := func(command string) string { return asJSON(t, map[string]string{"cmd": command}) }
	edit.After = "LOUDLY"
	return []servertest.Line{
		{After: "checked-42", Say: report},
		{
			After: "edited-now",
			Tool:  "exec_command",
			Call:  "exec_command",
			Input: run("cat greeting.txt && echo checked-$((40 + 2))"),
		},
		edit,
		{
			After: mistake,
			Tool:  "mcp__test.shout",
			Call:  "mcp__test.shout",
			Input: asJSON(t, map[string]string{"text": "loudly"}),
		},
		{After: task, Tool: "exec_command", Call: "exec_command", Input: run("cat greeting.txt")},
	}
}

// TestCodex has Codex CLI run an errand, three times, with a model that plays its part.
func TestCodex(t *testing.T) {
	agent(t, "TEST_AGENTS", "codex")
	for range 3 {
		e := newErrand(t)
		script := codexScript(t, servertest.Line{
			Tool: "exec_command",
			Call: "exec_command",
			Input: asJSON(t, map[string]string{
				"cmd": "sed -i 's/wrld/world/' greeting.txt && echo edited-$(echo now)",
			}),
		})
		hs, _ := servertest.Play(t, server.Options{}, script...)
		c := newCodex(t, e.dir, hs.URL, "fake")
		answer, last := c.exec("--skip-git-repo-check", "--json", task)
		if answer != report {
			t.Errorf("it says %q", answer)
		}
		if u := last.Usage; 2*u.Cached < u.Input {
			t.Errorf("of %d tokens of five prompts, only %d were cached", u.Input, u.Cached)
		}
		e.done(t)
	}
}

// TestCodexAsGPT has Codex CLI take the model for one of OpenAI's: it edits by a custom tool with a
// grammar, and finds the MCP server's tools by a search. Then it goes on with the conversation, and
// compacts it.
func TestCodexAsGPT(t *testing.T) {
	agent(t, "TEST_AGENTS", "codex")
	e := newErrand(t)
	const (
		more    = "Thanks! Is anything left to do?"
		goodbye = "Nothing is left to do."
		summary = "The greeting has been corrected: summary-7."
		resumed = "And what was it all about?"
		about   = "It was about a greeting."
	)
	script := append([]servertest.Line{
		{After: "summary-7", Say: about}, // what comes after the compaction
		{After: "CONTEXT CHECKPOINT COMPACTION", Say: summary},
		{After: more, Say: goodbye},
	}, codexScript(t, servertest.Line{
		Tool:  "apply_patch",
		Call:  "apply_patch",
		Input: asJSON(t, map[string]string{"input": patch}),
	})...)
	for i := range script {
		switch script[i].Call {
		case "mcp__test.shout":
			script[i].After = "These tools can be called now"
		case "exec_command":
			if script[i].After == "edited-now" {
				script[i].After = "Success. Updated the following files"
			}
		}
	}
	script = slices.Insert(script, len(script)-1, servertest.Line{
		After: mistake,
		Tool:  "tool_search",
		Call:  "tool_search",
		Input: asJSON(t, map[string]string{"query": "shout capitals"}),
	})

	hs, _ := servertest.Play(t, server.Options{}, script...)
	c := newCodex(t, e.dir, renaming(t, hs.URL), "gpt-5.5")
	answer, _ := c.exec("--skip-git-repo-check", "--json", task)
	if answer != report {
		t.Errorf("it says %q", answer)
	}
	e.done(t)

	if answer, _ = c.exec("resume", "--last", "--skip-git-repo-check", "--json", more); answer != goodbye {
		t.Errorf("it says %q", answer)
	}
	answer, _ = c.exec("resume", "--last", "-c", "model_auto_compact_token_limit=10",
		"--skip-git-repo-check", "--json", resumed)
	if answer != about {
		t.Errorf("it says %q", answer)
	}
}

// renaming starts a proxy to a server with a model called fake, by which the model is called gpt-5.5.
func renaming(t *testing.T, to string) string {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		body = bytes.Replace(body, []byte(`"model":"gpt-5.5"`), []byte(`"model":"fake"`), 1)
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(hs.Close)
	return hs.URL
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"serve/engine"
	"serve/server"
	"serve/server/servertest"
)

// What agents are asked when their errand is done, and what the model says to it.
const (
	more    = "Thanks! Is anything left to do?"
	goodbye = "Nothing is left to do."
)

// toolSet is what an agent calls its tools, and their arguments for the errand.
type toolSet struct {
	read  servertest.Line
	edit  servertest.Line
	run   func(command string) servertest.Line
	shout servertest.Line // of the MCP server
}

// call returns a line that calls a tool that is offered.
func call[V any](t *testing.T, tool string, input map[string]V) servertest.Line {
	t.Helper()
	return servertest.Line{
		Tool:  tool,
		Call:  tool,
		Input: asJSON(t, input),
	}
}

// script has the model read the file, edit it, check it and call the MCP server in one answer, and tell;
// then it has an answer for a conversation that goes on. Later lines come first.
func (s toolSet) script() []servertest.Line {
	check := s.run("cat greeting.txt && echo checked-$((40 + 2))")
	check.After = corrected
	check.Beside = []servertest.Line{s.shout}
	edit := s.edit
	edit.After = mistake
	read := s.read
	read.After = task

	return []servertest.Line{
		{After: more, Say: goodbye},
		{After: "LOUDLY", Say: report},
		check,
		edit,
		read,
		{Say: "Spelling"}, // what agents ask on the side
	}
}

// mcpServer returns the command of an MCP server with one tool, shout.
func mcpServer(t *testing.T) (python, script string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 for the MCP server")
	}
	script, err = filepath.Abs("testdata/agents/mcp.py")
	if err != nil {
		t.Fatal(err)
	}
	return python, script
}

// runAgent runs an agent to its end, with nothing of this environment but PATH, and returns what it writes.
func runAgent(t *testing.T, dir string, environ []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environ...)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, errOut.String())
	}
	return string(out)
}

// checkResults checks that the results of two calls of one answer came back together.
func checkResults(t *testing.T, asked *servertest.Recorder) {
	t.Helper()
	together := slices.ContainsFunc(asked.Chats, func(c engine.Chat) bool {
		return bytes.Contains(c.Messages, []byte("checked-42")) && bytes.Contains(c.Messages, []byte("LOUDLY"))
	})
	if !together {
		t.Error("no request has the results of both calls")
	}
}

// TestCopilotCLI has GitHub's Copilot CLI run an errand, three times, and go on with each conversation.
func TestCopilotCLI(t *testing.T) {
	copilot := agent(t, "TEST_MORE_AGENTS", "copilot")
	python, tools := mcpServer(t)
	home := t.TempDir() // it unpacks itself there
	mcp := fmt.Sprintf(
		`{"mcpServers":{"test":{"type":"local","command":%q,"args":[%q],"tools":["*"]}}}`, python, tools,
	)
	for range 3 {
		e := newErrand(t)
		names := toolSet{
			read: call(t, "view", map[string]string{"path": e.file}),
			edit: call(t, "edit", map[string]string{"path": e.file, "old_str": mistake, "new_str": corrected}),
			run: func(command string) servertest.Line {
				return call(t, "bash", map[string]string{"command": command, "description": "Check"})
			},
			shout: call(t, "test-shout", map[string]string{"text": "loudly"}),
		}
		hs, asked := servertest.Play(t, server.Options{}, names.script()...)
		environ := []string{
			"HOME=" + home,
			"COPILOT_OFFLINE=true",
			"COPILOT_PROVIDER_BASE_URL=" + hs.URL + "/v1",
			"COPILOT_MODEL=fake",
		}
		args := []string{"--silent", "--allow-all-tools", "--no-auto-update", "--additional-mcp-config", mcp}

		out := runAgent(t, e.dir, environ, copilot, append(args, "--prompt", task)...)
		if !strings.HasSuffix(strings.TrimSpace(out), report) {
			t.Errorf("it says %q", out)
		}
		checkResults(t, asked)
		e.done(t)

		out = runAgent(t, e.dir, environ, copilot, append(args, "--continue", "--prompt", more)...)
		if !strings.HasSuffix(strings.TrimSpace(out), goodbye) {
			t.Errorf("it says %q", out)
		}
	}
}

// TestContinueCLI has Continue's command cn run an errand, three times, and go on with each conversation.
func TestContinueCLI(t *testing.T) {
	cn := agent(t, "TEST_MORE_AGENTS", "cn")
	python, tools := mcpServer(t)
	for range 3 {
		e := newErrand(t)
		names := toolSet{
			read: call(t, "Read", map[string]string{"filepath": e.file}),
			edit: call(t, "Edit", map[string]string{
				"file_path":  e.file,
				"old_string": mistake,
				"new_string": corrected,
			}),
			run: func(command string) servertest.Line {
				return call(t, "Bash", map[string]string{"command": command})
			},
			shout: call(t, "shout", map[string]string{"text": "loudly"}),
		}
		hs, asked := servertest.Play(t, server.Options{}, names.script()...)
		config := filepath.Join(t.TempDir(), "config.yaml")
		text := fmt.Sprintf(`name: serve
version: 0.0.1
schema: v1
models:
  - name: fake
    provider: openai
    model: fake
    apiBase: %s/v1
    apiKey: none
mcpServers:
  - name: test
    command: %q
    args: [%q]
`, hs.URL, python, tools)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		environ := []string{
			"HOME=" + t.TempDir(),
			"CONTINUE_TELEMETRY_ENABLED=0",
		}
		args := []string{"--config", config, "--auto", "--print"}

		out := runAgent(t, e.dir, environ, cn, append(args, task)...)
		if !strings.HasSuffix(strings.TrimSpace(out), report) {
			t.Errorf("it says %q", out)
		}
		checkResults(t, asked)
		e.done(t)

		out = runAgent(t, e.dir, environ, cn, append(args, "--resume", more)...)
		if !strings.HasSuffix(strings.TrimSpace(out), goodbye) {
			t.Errorf("it says %q", out)
		}
	}
}

// clineHome returns a home folder in which Cline knows an MCP server.
func clineHome(t *testing.T) string {
	t.Helper()
	python, tools := mcpServer(t)
	home := t.TempDir()
	settings := filepath.Join(home, ".cline", "data", "settings")
	if err := os.MkdirAll(settings, 0o700); err != nil {
		t.Fatal(err)
	}
	mcp := fmt.Sprintf(`{"mcpServers":{"test":{"command":%q,"args":[%q]}}}`, python, tools)
	if err := os.WriteFile(filepath.Join(settings, "cline_mcp_settings.json"), []byte(mcp), 0o600); err != nil {
		t.Fatal(err)
	}
	return home
}

// TestCline has Cline's command run an errand, three times. Conversations go on in a terminal only.
func TestCline(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the package is for amd64")
	}
	packages := filepath.Dir(agent(t, "TEST_MORE_AGENTS", ""))
	cline := filepath.Join(packages, "@cline", "cli-linux-x64", "bin", "cline")
	for range 3 {
		e := newErrand(t)
		names := toolSet{
			read: call(t, "read_files", map[string]any{"files": []map[string]string{{"path": e.file}}}),
			edit: call(t, "editor", map[string]any{"path": e.file, "old_text": mistake, "new_text": corrected}),
			run: func(command string) servertest.Line {
				return call(t, "run_commands", map[string]any{"commands": []string{command}})
			},
			shout: call(t, "test__shout", map[string]any{"text": "loudly"}),
		}
		hs, asked := servertest.Play(t, server.Options{}, names.script()...)
		environ := []string{
			"HOME=" + clineHome(t),
			"CLINE_SESSION_BACKEND_MODE=local", // otherwise it leaves a process running
		}
		runAgent(t, e.dir, environ, cline, "auth",
			"--provider", "openai", "--baseurl", hs.URL+"/v1", "--apikey", "none", "--modelid", "fake")

		out := runAgent(t, e.dir, environ, cline, task)
		if !strings.HasSuffix(strings.TrimSpace(out), report) {
			t.Errorf("it says %q", out)
		}
		checkResults(t, asked)
		e.done(t)
	}
}

// opencodeConfig is a configuration of opencode for a server, with an MCP server beside.
func opencodeConfig(t *testing.T, url string) string {
	t.Helper()
	python, tools := mcpServer(t)
	text, err := json.Marshal(map[string]any{
		"model":             "serve/fake",
		"small_model":       "serve/fake",
		"autoupdate":        false,
		"share":             "disabled",
		"enabled_providers": []string{"serve"},
		"provider": map[string]any{"serve": map[string]any{
			"npm":     "@ai-sdk/openai-compatible",
			"name":    "serve",
			"options": map[string]string{"baseURL": url + "/v1", "apiKey": "none"},
			"models": map[string]any{"fake": map[string]any{
				"name":  "fake",
				"limit": map[string]int{"context": 65536, "output": 8192},
			}},
		}},
		"mcp": map[string]any{"test": map[string]any{
			"type":    "local",
			"command": []string{python, tools},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestOpencode has opencode run an errand, three times, and go on with each conversation.
func TestOpencode(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the package is for amd64")
	}
	packages := filepath.Dir(agent(t, "TEST_MORE_AGENTS", ""))
	opencode := filepath.Join(packages, "opencode-linux-x64-baseline", "bin", "opencode")
	home := t.TempDir()
	for range 3 {
		e := newErrand(t)
		names := toolSet{
			read: call(t, "read", map[string]string{"filePath": e.file}),
			edit: call(t, "edit", map[string]string{
				"filePath":  e.file,
				"oldString": mistake,
				"newString": corrected,
			}),
			run: func(command string) servertest.Line {
				return call(t, "bash", map[string]string{"command": command, "description": "Check"})
			},
			shout: call(t, "test_shout", map[string]string{"text": "loudly"}),
		}
		hs, asked := servertest.Play(t, server.Options{}, names.script()...)
		environ := []string{
			"HOME=" + home,
			"OPENCODE_CONFIG_CONTENT=" + opencodeConfig(t, hs.URL),
			"OPENCODE_DISABLE_AUTOUPDATE=1",
			"OPENCODE_DISABLE_MODELS_FETCH=1",
		}

		out := runAgent(t, e.dir, environ, opencode, "run", "--auto", "--title", "Spelling", task)
		if !strings.HasSuffix(strings.TrimSpace(out), report) {
			t.Errorf("it says %q", out)
		}
		checkResults(t, asked)
		e.done(t)

		out = runAgent(t, e.dir, environ, opencode, "run", "--auto", "--continue", more)
		if !strings.HasSuffix(strings.TrimSpace(out), goodbye) {
			t.Errorf("it says %q", out)
		}
	}
}

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// restarted is a serve in a process of its own.
type restarted struct {
	running
	cmd *exec.Cmd
}

// startProcess starts this binary as serve, and waits until it is ready.
func startProcess(t *testing.T, environ []string, args ...string) *restarted {
	t.Helper()
	r := &restarted{running: running{errOut: newSyncBuffer()}}
	r.cmd = process(t, environ, append([]string{"--port", "0"}, args...)...)
	r.cmd.Stderr = r.errOut
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.cmd.Wait() }()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-ended
		ended <- nil
	})
	r.done = make(chan int, 1)
	url, err, ok := awaitReady(r.errOut, ended)
	if !ok {
		t.Fatalf("serve ended with %v:\n%s", err, r.errOut)
	}
	go func() {
		<-ended
		ended <- nil
		close(r.done)
	}()
	r.url = url
	return r
}

// end has the process end by a signal.
func (r *restarted) end(t *testing.T, how syscall.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(how); err != nil {
		t.Fatal(err)
	}
	<-r.done
}

// completed is what a test reads of a completion.
type completed struct {
	Choices []struct{ Text string }
	Usage   struct {
		PromptTokens int `json:"prompt_tokens"`
		Details      struct {
			Cached int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	}
}

func (r *running) complete(t *testing.T, prompt string) (c completed) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"model": "tiny", "prompt": prompt, "max_tokens": 16, "temperature": 0, "ignore_eos": true,
	})
	if err != nil {
		t.Fatal(err)
	}
	status, answer := r.post(t, "/v1/completions", string(body))
	if err := json.Unmarshal([]byte(answer), &c); err != nil || status != 200 || len(c.Choices) != 1 {
		t.Fatalf("%d %s, %v", status, answer, err)
	}
	return c
}

// awaitMetric reads the metrics until a line is there, or is not.
func (r *running) awaitMetric(t *testing.T, line string, there bool) {
	t.Helper()
	const failed = `serve_prefix_folder_failures_total{direction="written",model="tiny"} 1`
	for {
		_, text := r.send(t, "GET", "/metrics", "")
		if strings.Contains(text, line) == there {
			return
		}
		if t.Context().Err() != nil || strings.Contains(text, failed) {
			t.Fatalf("%s is not in:\n%s", line, text)
		}
	}
}

// TestPrefixFolder has a conversation go on after serve was killed, after it was stopped, and after the file was
// damaged. It finds its history but in the last case, and the answers are those of a serve without a folder.
func TestPrefixFolder(t *testing.T) {
	model := modelFile(t)
	environ, _ := homeOf(t)
	dir := filepath.Join(t.TempDir(), "prefixes")
	// On a busy machine each start may choose other kernels, whose files the next does not use.
	args := []string{model, "--ctx-size", "1024", "--parallel", "2", "--prefix-cache-memory", "64MiB",
		"--kernels", nativeKernels(t)}
	with := append(args, "--prefix-cache-folder", dir)
	plain := startServe(t, args...)

	history := strings.Repeat("the quick brown fox jumps over the lazy dog ", 20)
	for turn, ends := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGTERM} {
		r := startProcess(t, environ, with...)
		got := r.complete(t, history)
		if want := plain.complete(t, history); got.Choices[0].Text != want.Choices[0].Text {
			t.Errorf("turn %d: %q instead of %q", turn, got.Choices[0].Text, want.Choices[0].Text)
		}
		if u := got.Usage; turn > 0 && u.Details.Cached*100 < u.PromptTokens*95 {
			t.Errorf("turn %d: %d of %d tokens were cached", turn, u.Details.Cached, u.PromptTokens)
		}
		r.awaitMetric(t, `serve_prefix_folder_tokens_total{direction="written",model="tiny"} 0`+"\n", false)
		if turn == 0 {
			if _, status := r.send(t, "GET", "/status", ""); !strings.Contains(status, `"folder":{"used_bytes":`) {
				t.Errorf("the status: %s", status)
			}
		}
		r.end(t, ends)
		history += "and on " // not the answer, whose text is split into other tokens
	}

	names, err := filepath.Glob(filepath.Join(dir, "*.prefix"))
	if err != nil || len(names) == 0 {
		t.Fatalf("there is %v, %v", names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-100] ^= 1
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := startProcess(t, environ, with...)
	got := r.complete(t, history)
	if want := plain.complete(t, history); got.Choices[0].Text != want.Choices[0].Text || got.Usage.Details.Cached > 0 {
		t.Errorf("with a damaged file: %+v instead of %+v", got, want)
	}
	r.awaitMetric(t, `serve_prefix_folder_removed_total{model="tiny",reason="damaged"} 1`, true)
	r.awaitMetric(t, `serve_prefix_reuse_total{model="tiny",result="failed"} 1`, true)
}

//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSleepsAndWakes has a model whose process ends when nobody has used it for a while, and comes with the next
// request.
// Whoever only looks does not wake it.
func TestSleepsAndWakes(t *testing.T) {
	environ, _ := homeOf(t)
	r := startServeIn(t, environ, modelFile(t), "--ctx-size", "128", "--keep-alive", "150ms")
	complete := func() {
		t.Helper()
		if code, body := r.post(t, "/v1/completions", `{"model":"tiny","prompt":"a","max_tokens":3}`); code != 200 {
			t.Fatalf("a request: %d %s", code, body)
		}
	}
	state := func() (m struct {
		State          string
		Process, Loads int
	}) {
		t.Helper()
		_, text := r.send(t, "GET", "/status", "")
		var status struct {
			Models []struct {
				State          string
				Process, Loads int
			}
		}
		if err := json.Unmarshal([]byte(text), &status); err != nil || len(status.Models) != 1 {
			t.Fatal(err, text)
		}
		return status.Models[0]
	}

	complete()
	awake := state()
	process, err := unix.PidfdOpen(awake.Process, 0)
	for err != nil && !errors.Is(err, unix.ENOSYS) { // it fell asleep before it was looked at
		complete()
		awake = state()
		process, err = unix.PidfdOpen(awake.Process, 0)
	}
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close(process)
	if awake.State != "ready" {
		t.Errorf("awake: %+v", awake)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, 60_000); n != 1 {
		t.Fatalf("its process does not end: %v", err)
	}

	if code, body := r.send(t, "GET", "/readyz", ""); code != 200 || !strings.Contains(body, `"tiny":"sleeping"`) {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if _, out, _ := command(environ, "ps"); !strings.Contains(out, "sleeping") {
		t.Errorf("ps: %s", out)
	}
	_, body := r.send(t, "GET", "/metrics", "")
	for _, want := range []string{`serve_model_sleeping{model="tiny"} 1`, `serve_model_loaded{model="tiny"} 0`} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics does not say %s", want)
		}
	}
	if _, body := r.send(t, "GET", "/v1/models", ""); !strings.Contains(body, "tiny") {
		t.Errorf("/v1/models: %s", body)
	}
	if asleep := state(); asleep.State != "sleeping" || asleep.Process != 0 || asleep.Loads != awake.Loads {
		t.Errorf("asleep: %+v after %+v", asleep, awake)
	}

	complete()
	if again := state(); again.Loads != awake.Loads+1 {
		t.Errorf("awake again: %+v after %+v", again, awake)
	}
}

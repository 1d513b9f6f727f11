package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// TestEngineIsConfined looks at what the process of an engine is kept from.
func TestEngineIsConfined(t *testing.T) {
	r := startServe(t, modelFile(t), "--ctx-size", "128")
	s := &soaked{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.engine()))
	if err != nil {
		t.Fatal(err, r.errOut)
	}
	for _, want := range []string{`(?m)^NoNewPrivs:\s1$`, `(?m)^Seccomp:\s2$`} {
		if !regexp.MustCompile(want).Match(status) {
			t.Errorf("the engine's process has not %s:\n%s", want, status)
		}
	}
}

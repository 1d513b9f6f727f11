package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEngineIsConfined looks at the process of an engine with a GPU's driver: what it is
// kept from, and what it is told.
func TestEngineIsConfined(t *testing.T) {
	environ, home := homeOf(t)
	cache := filepath.Join(home, "driver-cache")
	driverAt(t, filepath.Join(cache, "device"), "")
	t.Setenv("GGML_CUDA_P2P", "0")
	t.Setenv("CUDA_CACHE_PATH", "/elsewhere")

	r := startServeIn(t, environ, modelFile(t), "--ctx-size", "128")
	if said := r.errOut.String(); !strings.Contains(said, "warning: GGML_CUDA_P2P is ignored") {
		t.Errorf("it does not warn:\n%s", said)
	}
	s := &soaked{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}
	process := fmt.Sprintf("/proc/%d", s.engine())

	status, err := os.ReadFile(process + "/status")
	if err != nil {
		t.Fatal(err, r.errOut)
	}
	for _, want := range []string{`(?m)^NoNewPrivs:\s1$`, `(?m)^Seccomp:\s2$`} {
		if !regexp.MustCompile(want).Match(status) {
			t.Errorf("the engine's process has not %s:\n%s", want, status)
		}
	}

	text, err := os.ReadFile(process + "/environ")
	if err != nil {
		t.Fatal(err)
	}
	variables := strings.Split(string(text), "\x00")
	for _, want := range []string{
		"CUDA_CACHE_PATH=" + cache + "/cuda", "TMPDIR=" + cache + "/tmp", "CUDA_DEVICE_ORDER=PCI_BUS_ID",
	} {
		if !slices.Contains(variables, want) {
			t.Errorf("the engine is not told %s: %q", want, variables)
		}
	}
	if slices.ContainsFunc(variables, func(v string) bool { return strings.HasPrefix(v, "GGML_CUDA_P2P=") }) {
		t.Errorf("the engine is told of P2P: %q", variables)
	}
	if info, err := os.Stat(cache); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cache: %v %v", info, err)
	}
}

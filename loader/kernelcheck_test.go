package loader

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"serve/engine/llama"
)

// crashKernels ends this process as a kernel does that the CPU cannot run.
func crashKernels(kernel string) {
	if slices.Contains(strings.Split(os.Getenv("TEST_CRASHING_PRODUCTS"), ","), kernel) {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGILL)
		select {} // the signal may reach another thread
	}
}

// TestKernelsThatCrash goes on after each crash, and doctor tells which they are.
func TestKernelsThatCrash(t *testing.T) {
	t.Setenv("TEST_CRASHING_PRODUCTS", "f16,q4_K experts")
	report, err := NewWorkers(testHardware(), os.Environ(), t.TempDir()).CheckKernels(t.Context(), llama.CurrentKernels())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"f16: exit status 2: SIGILL: illegal instruction",
		"q4_K experts: exit status 2: SIGILL: illegal instruction",
	}
	if !slices.Equal(report.Crashes, want) {
		t.Errorf("got %q, want %q", report.Crashes, want)
	}
	done := map[string]bool{}
	for _, k := range report.Checks {
		if done[k.Kernel] {
			t.Errorf("%s was computed with twice", k.Kernel)
		}
		done[k.Kernel] = true
	}
	if done["f16"] || !done["f32"] || !done["f16 experts"] || !done["q4_0 attention"] {
		t.Errorf("computed with %v", done)
	}
}

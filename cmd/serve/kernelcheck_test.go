package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"serve/engine/llama"
	"serve/kernels"
)

// crashKernels ends this process as a kernel does that the processor cannot run.
func crashKernels(kernel string) {
	if slices.Contains(strings.Split(os.Getenv("TEST_CRASHING_PRODUCTS"), ","), kernel) {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGILL)
		select {} // the signal may reach another thread
	}
}

// TestKernelsThatCrash goes on after each crash, and doctor tells which they are.
func TestKernelsThatCrash(t *testing.T) {
	t.Setenv("TEST_CRASHING_PRODUCTS", "f16,q4_K experts")
	report, err := computeWith(t.Context(), llama.CurrentKernels())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"f16: exit status 2: SIGILL: illegal instruction",
		"q4_K experts: exit status 2: SIGILL: illegal instruction",
	}
	if !slices.Equal(report.crashes, want) {
		t.Errorf("got %q, want %q", report.crashes, want)
	}
	done := map[string]bool{}
	for _, k := range report.checks {
		if done[k.Kernel] {
			t.Errorf("%s was computed with twice", k.Kernel)
		}
		done[k.Kernel] = true
	}
	if done["f16"] || !done["f32"] || !done["f16 experts"] || !done["q4_0 attention"] {
		t.Errorf("computed with %v", done)
	}
	if f := report.finding("zen4"); f.Severity != broken || !strings.Contains(f.Seen, want[1]) || f.Do == "" {
		t.Errorf("%+v", f)
	}
}

func TestKernelReport(t *testing.T) {
	right := []llama.KernelCheck{
		{Kernel: "f32", Rows: 1, Finite: true, Difference: 1e-14, Tolerance: 1e-8},
		{Kernel: "q4_K", Rows: 64, Finite: true, Difference: 1e-4, Tolerance: 5e-4},
		{Kernel: "q4_K in AMX", Rows: 8, Finite: true, Difference: 2e-4, Tolerance: 5e-4},
	}
	infinite := llama.KernelCheck{Kernel: "q8_0", Rows: 5, Tolerance: 5e-4}
	wrong := llama.KernelCheck{Kernel: "q6_K", Rows: 8, Finite: true, Difference: 0.25, Tolerance: 5e-4}
	for _, test := range []struct {
		name     string
		report   kernelReport
		severity severity
		says     string
	}{
		{"all right", kernelReport{checks: right}, fine, "zen4: 2 types, worst q4_K in AMX 2.0e-04 of 5.0e-04 allowed"},
		{"one wrong", kernelReport{checks: append(right[:2:2], wrong)}, broken,
			"zen4 is wrong here: q6_K: off by 2.5e-01 at 8 rows, where 5.0e-04 is allowed"},
		{"no numbers", kernelReport{checks: append(right[:2:2], infinite)}, broken, "q8_0: no numbers at 5 rows"},
		{"a crash", kernelReport{checks: right, crashes: []string{"q8_0 in AMX: SIGILL"}}, broken, "q8_0 in AMX: SIGILL"},
		{"none", kernelReport{}, broken, "nothing"},
		{"many wrong", kernelReport{checks: slices.Repeat([]llama.KernelCheck{wrong}, 9)}, broken, "and 4 more"},
	} {
		f := test.report.finding("zen4")
		if f.Severity != test.severity || !strings.Contains(f.Seen, test.says) || (f.Severity == fine) != (f.Do == "") {
			t.Errorf("%s: %+v, want %q", test.name, f, test.says)
		}
	}
}

// TestResultsOf checks the kernels that are asked for, and no others.
func TestResultsOf(t *testing.T) {
	environ, _ := homeOf(t)
	usable := kernels.Usable(llama.Kernels(), nil)
	for flag, want := range map[string][]string{
		"auto":                usable[:1],
		"all":                 usable,
		usable[len(usable)-1]: usable[len(usable)-1:],
	} {
		code, out, said := command(environ, "doctor", "--port", "0", "--kernels", flag, "--json")
		var list []finding
		if err := json.Unmarshal([]byte(out), &list); code != 0 || err != nil {
			t.Fatal(code, err, out, said)
		}
		var got []string
		for _, f := range list {
			if name, _, found := strings.Cut(f.Seen, ": "); f.About == "results" && found {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("--kernels %s checks %q, want %q", flag, got, want)
		}
	}
	code, _, said := command(environ, "doctor", "--kernels", "abacus")
	if code != exitUsage || !strings.Contains(said, usable[0]) {
		t.Errorf("unknown kernels: %d %s", code, said)
	}
}

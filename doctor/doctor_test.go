package doctor

import (
	"crypto/fips140"
	"os"
	"slices"
	"strings"
	"testing"

	"serve/engine/llama"
	"serve/loader"
	"serve/sandbox"
)

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
		report   loader.KernelReport
		severity Severity
		says     string
	}{
		{"all right", loader.KernelReport{Checks: right}, Fine,
			"zen4: correct for 2 weight types (largest error 2.0e-04 in q4_K in AMX, limit 5.0e-04)"},
		{"one wrong", loader.KernelReport{Checks: append(right[:2:2], wrong)}, Broken,
			"zen4 gives wrong results on this CPU: q6_K: off by 2.5e-01 at 8 rows (limit 5.0e-04)"},
		{"no numbers", loader.KernelReport{Checks: append(right[:2:2], infinite)}, Broken, "q8_0: not a number at 5 rows"},
		{"a crash", loader.KernelReport{Checks: right, Crashes: []string{"q8_0 in AMX: SIGILL"}}, Broken,
			"q8_0 in AMX: SIGILL"},
		{"none", loader.KernelReport{}, Broken, "produced no results"},
		{"many wrong", loader.KernelReport{Checks: slices.Repeat([]llama.KernelCheck{wrong}, 9)}, Broken, "and 4 more"},
	} {
		f := kernelFinding("zen4", test.report)
		if f.Severity != test.severity || !strings.Contains(f.Seen, test.says) || (f.Severity == Fine) != (f.Do == "") {
			t.Errorf("%s: %+v, want %q", test.name, f, test.says)
		}
	}
}

// TestSandboxGroups reports each act, and warns of those that are not refused.
func TestSandboxGroups(t *testing.T) {
	list := groups([]sandbox.Result{
		{Group: "files", Act: "read", Refused: true},
		{Group: "files", Act: "share", Granted: true},
		{Group: "network", Act: "TCP", Refused: true},
		{Group: "network", Act: "UDP"},
	})
	if len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	if f := list[0]; f.About != "files" || f.Severity != Fine || !strings.Contains(f.Seen, "read, share (granted") {
		t.Errorf("%+v", f)
	}
	if f := list[1]; f.Severity != Warning || f.Seen != "engines are not refused: UDP" || f.Do == "" {
		t.Errorf("%+v", f)
	}

	if f := landlock(3, nil); f.Severity != Fine || !strings.Contains(f.Seen, "version 3") {
		t.Errorf("%+v", f)
	}
	if f := landlock(0, os.ErrNotExist); f.Severity != Warning || f.Do == "" {
		t.Errorf("%+v", f)
	}
}

// TestEgressOutcome names what the kernel said to each process, and takes what is not refused for broken.
func TestEgressOutcome(t *testing.T) {
	refused := sandbox.Result{Act: "TCP", Refused: true, Said: "connect: operation not permitted"}
	done := sandbox.Result{Act: "TCP"}
	failed := sandbox.Result{Act: "TCP", Said: "connection refused"}
	for _, test := range []struct {
		name     string
		server   sandbox.Result
		engine   []sandbox.Result
		severity Severity
		says     string
	}{
		{"refused", refused, []sandbox.Result{refused}, Fine, "TCP: server: refused (connect: operation not permitted); " +
			"engine: refused (connect: operation not permitted); without --offline: done"},
		{"not tried", refused, nil, Fine, "engine: not tried"},
		{"a server connects", done, []sandbox.Result{refused}, Broken, "server: done"},
		{"an engine connects", refused, []sandbox.Result{done}, Broken, "engine: done"},
		{"nobody is there", failed, nil, Broken, "server: not refused (connection refused)"},
	} {
		f := outcome(test.server, loader.EgressReport{Free: []sandbox.Result{done}, Engine: test.engine})
		if f.Severity != test.severity || !strings.Contains(f.Seen, test.says) || (f.Severity == Fine) != (f.Do == "") {
			t.Errorf("%s: %+v", test.name, f)
		}
	}
}

// TestCryptography says which FIPS 140-3 module is used. Without a build by make FIPS=1 that mode is off.
func TestCryptography(t *testing.T) {
	f := (&examination{}).cryptography(t.Context())[0]
	if f.About != "FIPS 140-3" || fips140.Enabled() == strings.HasPrefix(f.Seen, "off") || f.Severity == Broken {
		t.Errorf("%+v", f)
	}
	if fips140.Enabled() && !strings.Contains(f.Seen, fips140.Version()) && fips140.Version() != unvalidated {
		t.Errorf("%+v", f)
	}
}

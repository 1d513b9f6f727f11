package llama

import (
	"errors"
	"strings"
	"testing"

	"serve/models/testmodel"
)

// checkAll returns what came of all kernels.
func checkAll(t *testing.T, spoil bool) (checks []KernelCheck) {
	t.Helper()
	var begun []string
	err := CheckKernels(CheckOptions{
		spoil: spoil,
		Begin: func(i int, kernel string) error {
			if i != len(begun) || i != len(checks) {
				t.Errorf("%s is number %d, after %d that began and %d that ended", kernel, i, len(begun), len(checks))
			}
			begun = append(begun, kernel)
			return nil
		},
		Done: func(k KernelCheck) error {
			if k.Kernel != begun[len(checks)] {
				t.Errorf("%s ended, and %s began", k.Kernel, begun[len(checks)])
			}
			checks = append(checks, k)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}

	return checks
}

// TestCheckKernels finds every kernel of this machine right.
func TestCheckKernels(t *testing.T) { useAll(t, testCheckKernels) }

func testCheckKernels(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range checkAll(t, false) {
		seen[strings.ToLower(k.Kernel)] = true
		if !k.Right() || k.Rows == 0 {
			t.Errorf("%+v", k)
		}
	}

	others := []string{testmodel.F32, "BF16", "IQ1_M", "IQ3_S", "TQ1_0", "NVFP4"}
	for _, weights := range append(others, testmodel.Types...) {
		for _, use := range []string{"", " experts"} {
			if kernel := strings.ToLower(weights) + use; !seen[kernel] {
				t.Errorf("%s was not checked", kernel)
			}
		}
	}

	for kvType := range tolerances {
		if !seen[kvType+" attention"] || !seen[kvType+" kv cells"] {
			t.Errorf("KV cells of type %s were not checked", kvType)
		}
	}

	packs := strings.Contains(SystemInfo(), "REPACK = 1") && strings.Contains(SystemInfo(), "AVX2 = 1")
	if packs && !seen["q4_0 in cpu_repack"] {
		t.Error("packed weights were not checked")
	}
}

// TestCheckKernelsNotices finds each kernel wrong that is given something else to compute with.
func TestCheckKernelsNotices(t *testing.T) {
	for _, k := range checkAll(t, true) {
		if k.Right() {
			t.Errorf("it does not notice that the kernel computed with something else: %+v", k)
		}
	}
}

// TestCheckKernelsEnds begins where it is told to, and ends when it is told to.
func TestCheckKernelsEnds(t *testing.T) {
	enough := errors.New("enough")
	var kernels []string
	o := CheckOptions{
		First: 2,
		Begin: func(i int, kernel string) error {
			kernels = append(kernels, kernel)
			if len(kernels) == 2 {
				return enough
			}
			return nil
		},
		Done: func(KernelCheck) error { return nil },
	}
	if err := CheckKernels(o); !errors.Is(err, enough) || len(kernels) != 2 || kernels[0] != "f16" {
		t.Errorf("%v, %q", err, kernels)
	}

	o.First = 0
	o.Begin = func(int, string) error { return nil }
	o.Done = func(KernelCheck) error { return enough }
	if err := CheckKernels(o); !errors.Is(err, enough) {
		t.Error(err)
	}

	o.First = 1 << 20
	o.Done = func(KernelCheck) error { return nil }
	if err := CheckKernels(o); err != nil {
		t.Error("none is left to check: ", err)
	}
}

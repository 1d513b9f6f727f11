package llama

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"serve/kernels"
	"serve/models/testmodel"
)

// runnable are the kernels that this processor can run, the most capable first.
func runnable() (names []string) {
	for _, k := range slices.Backward(Kernels()) {
		if k.Score > 0 {
			names = append(names, k.Name)
		}
	}
	return names
}

// useAll runs a test with each of the kernels that this processor has, and goes back to those in use.
func useAll(t *testing.T, test func(t *testing.T)) {
	before := CurrentKernels()
	t.Cleanup(func() {
		if err := UseKernels(before); err != nil {
			t.Error(err)
		}
	})
	for _, name := range runnable() {
		t.Run(name, func(t *testing.T) {
			if err := UseKernels(name); err != nil {
				t.Fatal(err)
			}
			test(t)
		})
	}
}

// TestKernels computes the same with all kernels, one after another in one process.
func TestKernels(t *testing.T) {
	var first []float32
	useAll(t, func(t *testing.T) {
		m := loadModel(t, testmodel.Options{})
		c := newContext(t, m, ContextOptions{Cells: 256, Sequences: 1, Batch: 64})
		logits := decode(t, c, 0, 0, tokenize(t, m, "the man had three boy and a canary"))
		if first == nil {
			first = logits
		}
		sameLogits(t, "with other kernels", logits, first)
	})
}

func TestUseKernels(t *testing.T) {
	if err := UseKernels("abacus"); err == nil || !strings.Contains(err.Error(), "abacus") {
		t.Errorf("unknown kernels: %v", err)
	}
	for _, k := range Kernels() {
		if k.Score > 0 {
			continue
		}
		if err := UseKernels(k.Name); err == nil || !strings.Contains(err.Error(), "lacks") {
			t.Errorf("%s, which this processor cannot run: %v", k.Name, err)
		}
	}
}

// TestTimeKernels times an excerpt and a whole model, and tells which kernels come next.
func TestTimeKernels(t *testing.T) {
	before := CurrentKernels()
	t.Cleanup(func() {
		if err := UseKernels(before); err != nil {
			t.Error(err)
		}
	})
	o := Options{Context: 256, Sequences: 2, Threads: 1}
	for name, path := range map[string]string{
		"whole":   write(t, testmodel.Options{}),
		"excerpt": write(t, testmodel.Options{Hidden: 1 << 14}),
	} {
		t.Run(name, func(t *testing.T) {
			tried := map[string]bool{}
			timings, err := TimeKernels([]string{path}, o, runnable(), func(name string) { tried[name] = true })
			if err != nil {
				t.Fatal(err)
			}
			if len(timings) != len(runnable()) || len(tried) != len(timings) {
				t.Fatalf("%d timings, %d tried, of %d kernels", len(timings), len(tried), len(runnable()))
			}
			for i, timing := range timings {
				if timing.Kernels != runnable()[i] || timing.Decode <= 0 {
					t.Errorf("timing %d: %+v", i, timing)
				}
			}
			if !slices.ContainsFunc(timings, func(t kernels.Timing) bool { return t.Speed() > 0 }) {
				t.Error("no kernels were timed to the end")
			}
		})
	}

	missing := []string{filepath.Join(t.TempDir(), "none.gguf")}
	if _, err := TimeKernels(missing, o, runnable(), func(string) {}); err == nil {
		t.Error("a file that is not there was timed")
	}
}

// TestExcerpt has as many layers and tokens as fit, and at least one layer.
func TestExcerpt(t *testing.T) {
	path := write(t, testmodel.Options{Hidden: 1 << 14})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}

	whole := loadModel(t, testmodel.Options{}).info
	for name, test := range map[string]struct {
		bytes  int64
		share  float64
		tokens int
	}{
		"all of it":  {info.Size() + 1, 1, whole.Vocabulary},
		"two thirds": {info.Size() * 3 / 4, 2. / 3, 1024},
		"no room":    {1, 1. / 3, 512},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := newExcerpt([]string{path}, uint64(test.bytes))
			if err != nil {
				t.Fatal(err)
			}
			defer e.close()
			if e.share != test.share || e.vocabulary != test.tokens {
				t.Errorf("%.3f of the layers and %d tokens, want %.3f and %d", e.share, e.vocabulary, test.share, test.tokens)
			}
		})
	}
}

package llama

import (
	"errors"
	"testing"

	"serve/engine"
	"serve/models/testmodel"
)

// TestVerifyDraws draws alike on the device and on the host, and goes on on the host if they differ.
func TestVerifyDraws(t *testing.T) {
	for _, when := range []string{"on", "off", "auto"} {
		r := loadDrawing(t, when)
		if err := Verify(r, false); err != nil {
			t.Fatal(when, err)
		}
		if r.ctx.samples() != (when == "on") {
			t.Errorf("%s: the device draws: %v", when, r.ctx.samples())
		}
		alike, all, err := r.compareDraws()
		if err != nil || all != 3*drawsOfEach || when == "on" && alike < all-1 {
			t.Errorf("%s: %d of %d are alike, %v", when, alike, all, err)
		}
	}
}

// TestWrongDraws are noticed.
func TestWrongDraws(t *testing.T) {
	r := loadDrawing(t, "on")
	r.opts.BackendSampling = "auto" // as on a GPU
	if err := r.judgeDraws(1, 3*drawsOfEach); err != nil || r.ctx.samples() {
		t.Errorf("%v; the device draws: %v", err, r.ctx.samples())
	}
	if tokens, err := r.drawSome(engine.DefaultSampling(), onDevice); err != nil || len(tokens) != drawsOfEach {
		t.Errorf("the host draws %v, %v", tokens, err)
	}

	r = loadDrawing(t, "on")
	if err := r.judgeDraws(1, 3*drawsOfEach); !errors.Is(err, ErrWrong) {
		t.Error(err)
	}
}

func loadDrawing(t *testing.T, when string) *Runner {
	t.Helper()
	path := t.TempDir() + "/m.gguf"
	if err := testmodel.Write(path, testmodel.Options{}); err != nil {
		t.Fatal(err)
	}
	r, err := Load(path, Options{Context: 256, Sequences: 4, Threads: oneThread, BackendSampling: when})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

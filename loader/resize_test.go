package loader

import (
	"path/filepath"
	"testing"

	"serve/engine/llama"
	"serve/models/testmodel"
)

// TestFewerCellsAreTheSameModel loads a model as it was planned, and with fewer cells that its sequences share, as an
// engine that ran out of memory is loaded again: nothing else may differ that a running loop counts on.
func TestFewerCellsAreTheSameModel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := testmodel.Write(path, testmodel.Options{}); err != nil {
		t.Fatal(err)
	}
	plan := llama.Options{Context: 256, Sequences: 8, Threads: 1, KVType: "f16", NotReproducible: true}
	first, err := llama.Load(path, plan)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()

	plan.Cells = 512
	next, err := llama.Load(path, plan)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()

	before := first.Limits()
	now := next.Limits()
	if before.Shared || !now.Shared || now.Cells != 512 || before.Cells != 8*256 {
		t.Errorf("limits %+v after %+v", now, before)
	}
	before.Shared = true
	before.Cells = now.Cells
	if now != before {
		t.Errorf("limits %+v after %+v", now, before)
	}
}

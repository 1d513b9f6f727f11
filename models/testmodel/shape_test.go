package testmodel

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestShapes counts the weights of real models' shapes: 8.03 and 1.24 billion have Llama 3.1 8B and 3.2 1B.
func TestShapes(t *testing.T) {
	for name, want := range map[string]float64{"8b": 8.03e9, "1b": 1.24e9} {
		weights := 0.0
		for _, tensor := range shaped(Shapes[name]).list {
			n := 1
			for _, d := range tensor.dims {
				n *= d
			}
			weights += float64(n)
		}
		if weights < 0.99*want || weights > 1.01*want {
			t.Errorf("%s has %.3g weights, not %.3g", name, weights, want)
		}
	}
}

// TestWriteShape compares a file's length with what its head says. That llama.cpp reads it is tested where it is linked.
func TestWriteShape(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := WriteShape(path, Shapes["tiny"]); err != nil {
		t.Fatal(err)
	}
	file, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}

	w := shaped(Shapes["tiny"])
	want := head(w.keys, w.list).Len()
	for _, tensor := range w.list {
		want += tensor.size + padding(tensor.size)
	}
	if file.Size() != int64(want) {
		t.Errorf("%d bytes, not %d", file.Size(), want)
	}
}

// TestShapesHaveNoTies compares the rows of output tensors: of rows that are alike, the logits are.
func TestShapesHaveNoTies(t *testing.T) {
	noise := newNoise()
	kind := formats["Q6_K"].kind
	for _, dims := range [][]int{{256, 4096}, {768, 32000}, {2048, 16000}, {4096, 20000}} {
		size := dims[0] * dims[1] / 256 * formats["Q6_K"].bytes
		var out bytes.Buffer
		if err := noise.write(&out, 17, tensor{dims: dims, kind: kind, size: size}); err != nil {
			t.Fatal(err)
		}

		seen := map[string]bool{}
		for row := range slices.Chunk(out.Bytes()[:size], size/dims[1]) {
			seen[string(row)] = true
		}
		if len(seen) != dims[1] {
			t.Errorf("%d of %d rows of %d are different", len(seen), dims[1], dims[0])
		}
	}
}

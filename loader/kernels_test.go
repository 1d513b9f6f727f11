package loader

import (
	"testing"

	"serve/models"
)

func TestShape(t *testing.T) {
	header := func(kind uint32, rows uint64) *models.Header {
		return &models.Header{
			Values:  map[string]any{"general.architecture": "llama", "llama.block_count": uint64(2)},
			Tensors: []models.Tensor{{Name: "output", Dims: []uint64{64, rows}, Type: kind}},
		}
	}
	same := shape(header(2, 8), "f16")
	if same != shape(header(2, 8), "f16") {
		t.Error("models of one shape are told apart")
	}
	for name, other := range map[string]string{
		"type":    shape(header(3, 8), "f16"),
		"size":    shape(header(2, 16), "f16"),
		"KV type": shape(header(2, 8), "q8_0"),
	} {
		if other == same {
			t.Errorf("models of another %s have the same shape", name)
		}
	}
}

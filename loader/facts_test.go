package loader

import (
	"math"
	"path/filepath"
	"testing"

	"serve/engine/llama"
	"serve/fit"
	"serve/fit/fittest"
	"serve/models"
)

// TestFactsAreLlamas compares what package fit expects of models with what llama.cpp lays out for files of them: weights
// and KV cells within a thousandth, and what graphs need within a half.
func TestFactsAreLlamas(t *testing.T) {
	for _, m := range append(fittest.All(), fittest.Hybrid()) {
		if m.Name == "Granite 4.0 H Small" {
			continue // see Hybrid
		}
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := m.Write(path); err != nil {
			t.Fatal(err)
		}
		h, err := models.ReadModel([]string{path})
		if err != nil {
			t.Fatal(m.Name, err)
		}
		model := fit.ModelOf(h, h.Tensors, nil)
		plan, _ := fit.Choose(model, &fit.Machine{}, fit.Settings{Context: 8192, Sequences: 8, K: 2, V: 2, MicroBatch: 512})

		measured, err := llama.Measure(path, llama.Options{Context: 8192, Sequences: 8, EmbedLimit: 256,
			Model: llama.LoadOptions{NoRepack: true}})
		if err != nil {
			t.Fatal(m.Name, err)
		}
		d := measured.Host()
		off := func(what string, a, b uint64) float64 {
			r := float64(a)/float64(b) - 1
			t.Logf("%s: %s: %d MiB estimated, %d measured, %.2f", m.Name, what, a>>20, b>>20, r)
			return math.Abs(r)
		}
		if off("weights", plan.Host.Weights, d.Weights) > 0.001 || off("KV", plan.Host.KV, d.KV) > 0.001 ||
			off("compute", plan.Host.Compute, d.Compute) > 0.5 {
			t.Errorf("%s: %+v, and llama.cpp %+v", m.Name, plan.Host, d)
		}
	}
}

package main

import (
	"context"

	"serve/engine/llama"
)

// seeCUDA looks for NVIDIA's libraries, which are no part of the program.
func (w *workplace) seeCUDA(context.Context, doctorOptions) []finding {
	found, built := llama.FindCUDA()
	if !built {
		return nil // seeDevices says what the build can use
	}
	return []finding{cudaFinding(found)}
}

// cudaFinding says what came of looking for them.
func cudaFinding(found llama.CUDA) finding {
	f := finding{About: "cuda", Severity: fine, Seen: "NVIDIA's driver and cuBLAS can be used"}

	switch {
	case found.Driver != nil:
		// Whether that is wrong depends on the machine: most have no such card.
		f.Seen = found.Driver.Error()

	case found.CUBLAS != nil:
		f.Severity = warning
		f.Seen = found.CUBLAS.Error()
		f.Do = "put libcublas and libcublasLt into lib beside the program, or install NVIDIA's toolkit: " +
			"models whose weights are not all quantized need them on the GPU (docs/gpu.md)"
	}
	return f
}

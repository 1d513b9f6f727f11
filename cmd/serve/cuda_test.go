package main

import (
	"errors"
	"testing"

	"serve/engine/llama"
)

func TestCUDAFinding(t *testing.T) {
	noDriver := errors.New("no NVIDIA driver was found: libcuda.so.1: no such file")
	noCUBLAS := errors.New("cuBLAS cannot be loaded: libcublas.so.13: no such file")
	tests := map[string]struct {
		found llama.CUDA
		want  severity
		seen  string
		do    bool
	}{
		"all is there":         {llama.CUDA{}, fine, "NVIDIA's driver and cuBLAS can be used", false},
		"no driver":            {llama.CUDA{Driver: noDriver}, fine, noDriver.Error(), false},
		"a driver, no cuBLAS":  {llama.CUDA{CUBLAS: noCUBLAS}, warning, noCUBLAS.Error(), true},
		"neither is one thing": {llama.CUDA{Driver: noDriver, CUBLAS: noCUBLAS}, fine, noDriver.Error(), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := cudaFinding(test.found)
			if got.Severity != test.want || got.Seen != test.seen || (got.Do != "") != test.do {
				t.Errorf("got %+v", got)
			}
		})
	}
}

package loader

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"serve/engine/llama"
	"serve/models"
)

const mib = 1 << 20

// hostWith measures like a model of 32 layers of 100 MiB and 1 MiB of KV for
// every 100 cells, on a host and perhaps a GPU.
func hostWith(hostFree, gpuFree uint64) measureFunc {
	devices := []llama.DeviceMemory{{Name: "host", Type: "cpu", Free: hostFree}}
	if gpuFree > 0 {
		devices = append([]llama.DeviceMemory{{Name: "GPU0", Type: "gpu", Free: gpuFree}}, devices...)
	}
	return hostOfDevices(devices...)
}

// hostOfDevices is hostWith with any devices, the host last. As llama.cpp does, it spreads layers by
// what the GPUs have free, and needs 100 MiB to compute on each.
func hostOfDevices(devices ...llama.DeviceMemory) measureFunc {
	return func(o llama.Options) (*llama.Memory, error) {
		m := &llama.Memory{Devices: slices.Clone(devices)}
		if o.Model.CPUOnly {
			m.Devices = m.Devices[len(m.Devices)-1:]
		}
		cells := o.Cells
		if cells == 0 {
			cells = o.Context * o.Sequences
		}
		kv := uint64(cells) * mib / 100

		var free uint64
		cards := m.Devices[:len(m.Devices)-1]
		for _, d := range cards {
			free += max(1, d.Free)
		}
		layers := uint64(o.Model.GPULayers)
		if o.Model.GPULayers < 0 || layers > 32 {
			layers = 32
		}
		left := uint64(32)
		for i := range cards {
			d := &cards[i]
			n := min(left, layers*max(1, d.Free)/free)
			if i == len(cards)-1 {
				n = layers - (32 - left)
			}
			left -= n
			d.Weights = n * 100 * mib
			d.KV = kv * n / 32
			d.Compute = 100 * mib
		}
		host := m.Host()
		host.Weights = left * 100 * mib
		host.KV = kv * left / 32
		host.Compute = 100 * mib
		return m, nil
	}
}

func TestPlanMemory(t *testing.T) {
	tests := []struct {
		name          string
		o             ModelOptions
		train         int
		host, gpu     uint64
		context       int
		cells, layers int // of the plan
		err           error
		words         string
	}{
		{name: "all fits", o: ModelOptions{Parallel: 4}, train: 4096, host: 8000, context: 4096, layers: -1},
		{
			name:    "a long context is not taken unasked",
			o:       ModelOptions{Parallel: 1},
			train:   131072,
			host:    8000,
			context: 8192,
			layers:  -1,
		},
		{
			name:    "a long context is taken when asked for",
			o:       ModelOptions{Parallel: 1, Context: 16384},
			train:   131072,
			host:    8000,
			context: 16384,
			layers:  -1,
		},
		{
			name:    "sequences share what fits",
			o:       ModelOptions{Parallel: 8},
			train:   8192,
			host:    4000,
			context: 8192,
			cells:   37888,
			layers:  -1,
		},
		{
			name:  "one context does not fit",
			o:     ModelOptions{Parallel: 8, Context: 65536},
			host:  4000,
			err:   ErrMemory,
			words: "host needs 3.9 GiB",
		},
		{
			name:  "the weights do not fit",
			o:     ModelOptions{Parallel: 1},
			train: 512,
			host:  3000,
			err:   ErrMemory,
			words: "3.1 GiB weights",
		},
		{
			name:  "cells asked for are not changed",
			o:     ModelOptions{Parallel: 4, Cells: 60000},
			train: 4096,
			host:  3700,
			err:   ErrMemory,
			words: "host",
		},
		{
			name:  "fewer cells than a context",
			o:     ModelOptions{Parallel: 4, Cells: 100},
			train: 4096,
			host:  8000,
			err:   ErrOptions,
			words: "--kv-cells 100",
		},
		{name: "all on the GPU", o: ModelOptions{Parallel: 1}, train: 4096, host: 8000, gpu: 8000, context: 4096, layers: -1},
		{
			name:    "as many layers as fit",
			o:       ModelOptions{Parallel: 1},
			train:   4096,
			host:    8000,
			gpu:     2000,
			context: 4096,
			layers:  15,
		},
		{name: "no layer fits", o: ModelOptions{Parallel: 1}, train: 4096, host: 8000, gpu: 450, context: 4096, layers: 0},
		{
			name:    "layers as asked",
			o:       ModelOptions{Parallel: 1, GPULayers: Layers{Given: true, N: 5}},
			train:   4096,
			host:    8000,
			gpu:     8000,
			context: 4096,
			layers:  5,
		},
		{
			name:  "more layers asked for than fit",
			o:     ModelOptions{Parallel: 1, GPULayers: Layers{Given: true, N: 32}},
			train: 512,
			host:  8000,
			gpu:   2000,
			err:   ErrMemory,
			words: "GPU0",
		},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Reserve = Reserve{Given: true, Bytes: 320 * mib}
			p := planner{o: tt.o, train: tt.train, shrink: true, measure: hostWith(tt.host*mib, tt.gpu*mib)}
			lo, _, err := p.plan()
			if tt.err != nil {
				if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.words) {
					t.Errorf("got %v, want %v and %q", err, tt.err, tt.words)
				}
				return
			}

			if err != nil {
				t.Fatal(err)
			}
			if lo.Context != tt.context || lo.Cells != tt.cells || lo.Model.GPULayers != tt.layers {
				t.Errorf("got context %d, cells %d, layers %d, want %d, %d, %d",
					lo.Context, lo.Cells, lo.Model.GPULayers, tt.context, tt.cells, tt.layers)
			}
		})
	}
}

// TestContextThatFits gives sequences as much of the trained context as costs others nothing.
func TestContextThatFits(t *testing.T) {
	for name, tt := range map[string]struct {
		o              ModelOptions
		train          int
		host, gpu      uint64
		context, cells int
		encoder        bool
	}{
		"all of a short one":            {ModelOptions{Parallel: 8}, 4096, 8000, 0, 4096, 0, false},
		"all of it":                     {ModelOptions{Parallel: 1}, 131072, 16000, 0, 131072, 0, false},
		"half of it":                    {ModelOptions{Parallel: 1}, 131072, 8000, 0, 65536, 0, false},
		"for every sequence":            {ModelOptions{Parallel: 2}, 32768, 8000, 0, 32768, 0, false},
		"shared, for an agent's sake":   {ModelOptions{Parallel: 8}, 131072, 5000, 0, 49152, 65536, false},
		"shared, all of it":             {ModelOptions{Parallel: 8}, 32768, 5000, 0, 32768, 65536, false},
		"most of what fits":             {ModelOptions{Parallel: 8}, 131072, 4000, 0, 28416, 37888, false},
		"most of the cells asked for":   {ModelOptions{Parallel: 4, Cells: 40000}, 131072, 8000, 0, 29952, 40000, false},
		"on the GPU":                    {ModelOptions{Parallel: 1}, 131072, 8000, 16000, 131072, 0, false},
		"as was asked":                  {ModelOptions{Parallel: 1, Context: 8192}, 131072, 16000, 0, 8192, 0, false},
		"no more for one that is alone": {ModelOptions{Parallel: 1}, 131072, 3800, 0, 8192, 0, false},
		"an encoder's":                  {ModelOptions{Parallel: 1}, 131072, 16000, 0, 8192, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			tt.o.Reserve = Reserve{Given: true, Bytes: 320 * mib}
			measured := hostWith(tt.host*mib, tt.gpu*mib)
			p := planner{o: tt.o, train: tt.train, shrink: true, measure: func(o llama.Options) (*llama.Memory, error) {
				m, err := measured(o)
				m.Generates = !tt.encoder
				return m, err
			}}
			lo, memory, err := p.plan()
			if err != nil {
				t.Fatal(err)
			}
			if lo.Context != tt.context || lo.Cells != tt.cells {
				t.Errorf("got context %d, cells %d, want %d, %d", lo.Context, lo.Cells, tt.context, tt.cells)
			}
			if short := shortOf(tt.o.budgetsOf(memory)); short != nil {
				t.Errorf("%s is short", short.name)
			}
		})
	}
}

// TestBlockSizes holds the reader's table of types against the engine's own.
func TestBlockSizes(t *testing.T) {
	for kind := range uint32(64) {
		e1, b1, ok1 := models.BlockSize(kind)
		e2, b2, ok2 := llama.TypeSize(kind)
		if e1 != e2 || b1 != b2 || ok1 != ok2 {
			t.Errorf("type %d: %d elements in %d bytes (%v), the engine says %d in %d (%v)", kind, e1, b1, ok1, e2, b2, ok2)
		}
	}
}

// TestGuardAcceptsLlamaCppOwnFiles reads every model of llama.cpp's tree: what its
// loader takes, the guard lets pass.
func TestGuardAcceptsLlamaCppOwnFiles(t *testing.T) {
	names, err := filepath.Glob("../build/llama/src/models/*.gguf")
	if err != nil || len(names) < 15 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		if _, err := models.ReadModel([]string{name}); err != nil {
			t.Error(err)
		}
	}
}

package main

import (
	"cmp"
	"errors"
	"strings"
	"testing"
	"time"

	"serve/engine/llama"
	"serve/server"
)

const gib = 1 << 30

// card is a made-up device of its own memory.
func card(name string, free, total uint64) llama.DeviceMemory {
	return llama.DeviceMemory{Name: name, Type: "gpu", Free: free, Total: total}
}

func hostOf(free, total uint64) llama.DeviceMemory {
	return llama.DeviceMemory{Name: "host", Type: "cpu", Free: free, Total: total}
}

func unified(name string, free, total uint64) llama.DeviceMemory {
	return llama.DeviceMemory{Name: name, Type: "igpu", Unified: true, Free: free, Total: total}
}

// TestPlanOnDevices plans hostWith's model, of 3.1 GiB and 41 MiB of KV cells for 4096 tokens, on
// devices as drivers describe them.
func TestPlanOnDevices(t *testing.T) {
	mi := func(n uint64) memoryReserve { return memoryReserve{Given: true, Bytes: n * mib} }
	tests := []struct {
		name    string
		devices []llama.DeviceMemory
		reserve memoryReserve
		asked   string // --gpu-layers, auto by default
		layers  int
		alone   bool   // the processor computes without the cards
		words   string // of the error, if there is one
	}{
		{name: "a card has room", devices: []llama.DeviceMemory{card("CUDA0", 8*gib, 8*gib), hostOf(8*gib, 16*gib)}, layers: -1},
		{name: "a card that does not say what it has is not full",
			devices: []llama.DeviceMemory{card("SYCL0", 0, 0), hostOf(8*gib, 16*gib)}, layers: -1},
		{name: "a card that is full is full",
			devices: []llama.DeviceMemory{card("CUDA0", 0, 8*gib), hostOf(8*gib, 16*gib)}, layers: 0, alone: true},
		{name: "a host that does not say what it has", devices: []llama.DeviceMemory{hostOf(0, 0)}, layers: -1},
		{name: "more free than there is",
			devices: []llama.DeviceMemory{card("CUDA0", 64*gib, 3*gib), hostOf(8*gib, 16*gib)}, layers: 25},
		{name: "one of two unlike cards is too small for its share",
			devices: []llama.DeviceMemory{card("CUDA0", 3*gib, 24*gib), card("CUDA1", 1*gib, 8*gib), hostOf(8*gib, 16*gib)},
			reserve: mi(512), layers: 16},
		{name: "two unlike cards have room",
			devices: []llama.DeviceMemory{card("CUDA0", 6*gib, 24*gib), card("CUDA1", 2*gib, 8*gib), hostOf(8*gib, 16*gib)},
			reserve: mi(512), layers: -1},
		{name: "the reserve is larger than the card",
			devices: []llama.DeviceMemory{card("CUDA0", 2*gib, 2*gib), hostOf(16*gib, 16*gib)}, reserve: mi(4096), layers: 0, alone: true},
		{name: "it is, and layers were asked for",
			devices: []llama.DeviceMemory{card("CUDA0", 2*gib, 2*gib), hostOf(16*gib, 16*gib)}, reserve: mi(4096), asked: "8", words: "CUDA0 needs"},
		{name: "it is, and none were",
			devices: []llama.DeviceMemory{card("CUDA0", 2*gib, 2*gib), hostOf(16*gib, 16*gib)}, reserve: mi(4096), asked: "0", layers: 0, alone: true},
		{name: "a small card keeps an eighth",
			devices: []llama.DeviceMemory{card("CUDA0", 2*gib, 2*gib), hostOf(8*gib, 16*gib)}, layers: 16},
		{name: "a small machine keeps an eighth", devices: []llama.DeviceMemory{hostOf(3800*mib, 4*gib)}, words: "of which 512.0 MiB stay free"},
		{name: "a small machine has room", devices: []llama.DeviceMemory{hostOf(3800*mib, 4*gib)}, reserve: mi(256), layers: -1},
		{name: "what is unified is taken of the host",
			devices: []llama.DeviceMemory{unified("Vulkan0", 8*gib, 8*gib), hostOf(4000*mib, 8*gib)}, words: "host and Vulkan0 needs 3.4 GiB"},
		{name: "what is unified has room once",
			devices: []llama.DeviceMemory{unified("Vulkan0", 8*gib, 8*gib), hostOf(5*gib, 8*gib)}, layers: -1},
		{name: "what is unified may have less than the host",
			devices: []llama.DeviceMemory{unified("Vulkan0", 1*gib, 1*gib), hostOf(16*gib, 16*gib)}, layers: 9},
		{name: "what is unified and does not say what it has",
			devices: []llama.DeviceMemory{unified("CUDA0", 0, 0), hostOf(4000*mib, 8*gib)}, words: "host and CUDA0 needs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := modelOptions{parallel: 1, gpuLayers: tt.asked, reserve: tt.reserve}
			if o.gpuLayers == "" {
				o.gpuLayers = "auto"
			}
			lo, _, err := planMemory(o, "", 4096, true, hostOfDevices(tt.devices...))
			if tt.words != "" {
				var short *server.NoRoomError
				if !errors.As(err, &short) || short.Short == 0 || !strings.Contains(err.Error(), tt.words) {
					t.Errorf("got %v, want %q", err, tt.words)
				}
				return
			}
			if err != nil || lo.Model.GPULayers != tt.layers || lo.Model.CPUOnly != tt.alone {
				t.Errorf("got %d layers, alone %v, %v; want %d, %v", lo.Model.GPULayers, lo.Model.CPUOnly, err, tt.layers, tt.alone)
			}
		})
	}
}

// TestPlanShortensEmbeddings has embeddings give way before layers and KV cells do.
func TestPlanShortensEmbeddings(t *testing.T) {
	tests := []struct {
		name          string
		card, host    uint64 // MiB
		train         int
		asked         string
		embed, layers int
		shares        bool // the sequences share KV cells
	}{
		{name: "all has room", host: 12000, layers: -1},
		{name: "shorter ones have", host: 5400, embed: 512, layers: -1},
		{name: "the shortest have not, and KV cells give way", host: 4700, train: 32768, embed: 256, layers: -1, shares: true},
		{name: "a card has room", card: 8000, host: 8000, layers: -1},
		{name: "a card has room for shorter ones", card: 4700, host: 8000, embed: 256, layers: -1},
		{name: "a card has none, and layers give way", card: 3000, host: 12000, embed: 256, layers: 15},
		{name: "layers were asked for", card: 4700, host: 8000, asked: "32", embed: 256, layers: 32},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			devices := []llama.DeviceMemory{hostOf(tt.host*mib, 32*gib)}
			if tt.card > 0 {
				devices = append([]llama.DeviceMemory{card("CUDA0", tt.card*mib, 32*gib)}, devices...)
			}
			// A MiB for each token, on the first device.
			measure := func(lo llama.Options) (*llama.Memory, error) {
				m, err := hostOfDevices(devices...)(lo)
				if err == nil {
					m.Generates = true
					m.Devices[0].Later = uint64(cmp.Or(lo.EmbedLimit, 2048)) * mib
				}
				return m, err
			}
			o := modelOptions{parallel: 2, gpuLayers: cmp.Or(tt.asked, "auto")}
			lo, _, err := planMemory(o, "", cmp.Or(tt.train, 4096), true, measure)
			if err != nil || lo.EmbedLimit != tt.embed || lo.Model.GPULayers != tt.layers || (lo.Cells > 0) != tt.shares {
				t.Errorf("got embeddings of %d, %d layers, %d cells, %v", lo.EmbedLimit, lo.Model.GPULayers, lo.Cells, err)
			}
		})
	}
}

// TestReplan restarts an engine where memory comes back late, or is somebody else's now.
func TestReplan(t *testing.T) {
	plan := llama.Options{Context: 4096, Sequences: 1, Model: llama.ModelOptions{GPULayers: -1}}
	tests := []struct {
		name   string
		asked  string
		card   []uint64 // MiB free there at each look; the last stays
		host   []uint64
		layers int
		waited time.Duration
		words  string
	}{
		{name: "nothing has changed", card: []uint64{8000}, host: []uint64{8000}, layers: -1},
		{name: "the card's memory comes back late", card: []uint64{500, 500, 900, 900, 8000}, host: []uint64{8000}, layers: -1, waited: 4 * lookAgain},
		{name: "somebody else has half of the card", card: []uint64{3000}, host: []uint64{8000}, layers: 18, waited: steadyFor},
		{name: "layers were asked for, and its reserve is gone", asked: "32", card: []uint64{3600}, host: []uint64{8000}, layers: -1, waited: steadyFor},
		{name: "layers were asked for, and more is gone", asked: "32", card: []uint64{3000}, host: []uint64{8000}, waited: steadyFor, words: "GPU0 needs 3.3 GiB"},
		{name: "neither has room", card: []uint64{2000}, host: []uint64{1000}, waited: steadyFor, words: "GPU0 needs"},
		{name: "the host's reserve is gone", host: []uint64{3400}, layers: -1},
		{name: "more of the host is gone", host: []uint64{3000}, waited: steadyFor, words: "host needs 3.3 GiB"},
		{name: "it grows for ever, and never enough", host: growing(1000, 10, 100), waited: memoryWait, words: "host needs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			look := func(list []uint64, at int) uint64 { return list[min(at, len(list)-1)] * mib }
			looks := 0
			measure := func(lo llama.Options) (*llama.Memory, error) {
				devices := []llama.DeviceMemory{hostOf(look(tt.host, looks), 16*gib)}
				if tt.card != nil {
					devices = append([]llama.DeviceMemory{card("GPU0", look(tt.card, looks), 16*gib)}, devices...)
				}
				looks++
				return hostOfDevices(devices...)(lo)
			}
			var waited time.Duration
			o := modelOptions{gpuLayers: tt.asked}
			if tt.asked == "" {
				o.gpuLayers = "auto"
			}
			r := replanner{o: o, measure: measure, sleep: func(d time.Duration) { waited += d }}
			lo, memory, err := r.plan(plan)
			if waited != tt.waited {
				t.Errorf("it waited %s, want %s", waited, tt.waited)
			}
			if tt.words != "" {
				if !errors.Is(err, errMemory) || !strings.Contains(err.Error(), tt.words) {
					t.Errorf("got %v, want %q", err, tt.words)
				}
				return
			}
			if err != nil || memory == nil || lo.Model.GPULayers != tt.layers {
				t.Fatalf("got %d layers, %v; want %d", lo.Model.GPULayers, err, tt.layers)
			}
			if lo.Context != plan.Context || lo.Sequences != plan.Sequences || lo.Cells != plan.Cells {
				t.Errorf("got %+v: the loop that runs counts on %+v", lo, plan)
			}
		})
	}
}

// growing lists n numbers, each a step more than the one before.
func growing(from, step uint64, n int) (list []uint64) {
	for i := range uint64(n) {
		list = append(list, from+i*step)
	}
	return list
}

// TestMemoryDiffers says what is worth a line at the start.
func TestMemoryDiffers(t *testing.T) {
	planned := llama.DeviceMemory{Weights: 1000 * mib, KV: 800 * mib, Compute: 100 * mib, Base: 100 * mib, Later: 500 * mib}
	for taken, want := range map[uint64]bool{
		0: false, 1700 * mib: true, 1850 * mib: false, 1900 * mib: false, 2000 * mib: false, 2500 * mib: false, 2590 * mib: false, 2700 * mib: true,
	} {
		if differs(planned, taken) != want {
			t.Errorf("%d MiB of %d planned: got %v", taken/mib, planned.Needs()/mib, !want)
		}
	}
	small := llama.DeviceMemory{Weights: mib, Base: 50 * mib}
	if differs(small, 80*mib) || !differs(small, 90*mib) {
		t.Error("a small model: what the program's pages take is not told, more is")
	}
}

// TestMemoryTaken reads what a load left of the cards.
func TestMemoryTaken(t *testing.T) {
	planned := []llama.DeviceMemory{card("CUDA0", 9*gib, 8*gib), card("SYCL0", 0, 0), unified("Vulkan0", 8*gib, 8*gib), hostOf(8*gib, 8*gib)}
	for i := range planned {
		planned[i].Weights = gib
	}
	tk := taking{}
	tk.set(&loadAnswer{Memory: &llama.Memory{Devices: planned}, Left: map[string]uint64{"CUDA0": 6 * gib, "SYCL0": gib}})
	_, taken := tk.now()
	if taken[0] != 2*gib || taken[1] != 0 || taken[2] != 0 || taken[3] != 0 {
		t.Errorf("got %v", taken)
	}
	if list := tk.devices(); len(list) != 4 || list[0] != (server.DeviceMemory{Device: "CUDA0", Planned: gib, Taken: 2 * gib}) {
		t.Errorf("got %+v", list)
	}
}

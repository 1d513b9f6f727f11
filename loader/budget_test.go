package loader

import (
	"cmp"
	"errors"
	"strings"
	"testing"
	"time"

	"serve/engine/llama"
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
	mi := func(n uint64) Reserve { return Reserve{Given: true, Bytes: n * mib} }
	tests := []struct {
		name    string
		devices []llama.DeviceMemory
		reserve Reserve
		asked   Layers
		layers  int
		alone   bool   // the processor computes without the cards
		words   string // of the error, if there is one
	}{
		{
			name:    "a card has room",
			devices: []llama.DeviceMemory{card("CUDA0", 8*gib, 8*gib), hostOf(8*gib, 16*gib)},
			layers:  -1,
		},
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
		{
			name: "the reserve is larger than the card",
			devices: []llama.DeviceMemory{
				card("CUDA0", 2*gib, 2*gib),
				hostOf(16*gib, 16*gib),
			},
			reserve: mi(4096),
			layers:  0,
			alone:   true,
		},
		{
			name: "it is, and layers were asked for",
			devices: []llama.DeviceMemory{
				card("CUDA0", 2*gib, 2*gib),
				hostOf(16*gib, 16*gib),
			},
			reserve: mi(4096),
			asked:   Layers{Given: true, N: 8},
			words:   "CUDA0 needs",
		},
		{
			name: "it is, and none were",
			devices: []llama.DeviceMemory{
				card("CUDA0", 2*gib, 2*gib),
				hostOf(16*gib, 16*gib),
			},
			reserve: mi(4096),
			asked:   Layers{Given: true, N: 0},
			layers:  0,
			alone:   true,
		},
		{name: "a small card keeps an eighth",
			devices: []llama.DeviceMemory{card("CUDA0", 2*gib, 2*gib), hostOf(8*gib, 16*gib)}, layers: 16},
		{
			name:    "a small machine keeps an eighth",
			devices: []llama.DeviceMemory{hostOf(3800*mib, 4*gib)},
			words:   "of which 512.0 MiB is reserved",
		},
		{
			name:    "a small machine has room",
			devices: []llama.DeviceMemory{hostOf(3800*mib, 4*gib)},
			reserve: mi(256),
			layers:  -1,
		},
		{
			name: "what is unified is taken of the host",
			devices: []llama.DeviceMemory{
				unified("Vulkan0", 8*gib, 8*gib),
				hostOf(4000*mib, 8*gib),
			},
			words: "host and Vulkan0 needs 3.4 GiB",
		},
		{name: "what is unified has room once",
			devices: []llama.DeviceMemory{unified("Vulkan0", 8*gib, 8*gib), hostOf(5*gib, 8*gib)}, layers: -1},
		{name: "what is unified may have less than the host",
			devices: []llama.DeviceMemory{unified("Vulkan0", 1*gib, 1*gib), hostOf(16*gib, 16*gib)}, layers: 9},
		{name: "what is unified and does not say what it has",
			devices: []llama.DeviceMemory{unified("CUDA0", 0, 0), hostOf(4000*mib, 8*gib)}, words: "host and CUDA0 needs"},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := planner{
				o:       ModelOptions{Parallel: 1, GPULayers: tt.asked, Reserve: tt.reserve},
				train:   4096,
				shrink:  true,
				measure: hostOfDevices(tt.devices...),
			}

			lo, _, err := p.plan()
			if tt.words != "" {
				var short *MemoryError
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
		asked         Layers
		embed, layers int
		shares        bool // the sequences share KV cells
	}{
		{name: "all has room", host: 12000, layers: -1},
		{name: "shorter ones have", host: 5400, embed: 512, layers: -1},
		{
			name:   "the shortest have not, and KV cells give way",
			host:   4700,
			train:  32768,
			embed:  256,
			layers: -1,
			shares: true,
		},
		{name: "a card has room", card: 8000, host: 8000, layers: -1},
		{name: "a card has room for shorter ones", card: 4700, host: 8000, embed: 256, layers: -1},
		{name: "a card has none, and layers give way", card: 3000, host: 12000, embed: 256, layers: 15},
		{name: "layers were asked for", card: 4700, host: 8000, asked: Layers{Given: true, N: 32}, embed: 256, layers: 32},
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

			p := planner{
				o:       ModelOptions{Parallel: 2, GPULayers: tt.asked},
				train:   cmp.Or(tt.train, 4096),
				shrink:  true,
				measure: measure,
			}

			lo, _, err := p.plan()
			if err != nil || lo.EmbedLimit != tt.embed || lo.Model.GPULayers != tt.layers || (lo.Cells > 0) != tt.shares {
				t.Errorf("got embeddings of %d, %d layers, %d cells, %v", lo.EmbedLimit, lo.Model.GPULayers, lo.Cells, err)
			}
		})
	}
}

// TestReplan restarts an engine where memory comes back late, or is somebody else's now.
func TestReplan(t *testing.T) {
	plan := llama.Options{Context: 4096, Sequences: 1, Model: llama.LoadOptions{GPULayers: -1}}
	tests := []struct {
		name   string
		asked  Layers
		card   []uint64 // MiB free there at each look; the last stays
		host   []uint64
		layers int
		waited time.Duration
		words  string
	}{
		{name: "nothing has changed", card: []uint64{8000}, host: []uint64{8000}, layers: -1},
		{
			name:   "the card's memory comes back late",
			card:   []uint64{500, 500, 900, 900, 8000},
			host:   []uint64{8000},
			layers: -1,
			waited: 4 * lookAgain,
		},
		{
			name:   "somebody else has half of the card",
			card:   []uint64{3000},
			host:   []uint64{8000},
			layers: 18,
			waited: steadyFor,
		},
		{
			name:   "layers were asked for, and its reserve is gone",
			asked:  Layers{Given: true, N: 32},
			card:   []uint64{3600},
			host:   []uint64{8000},
			layers: -1,
			waited: steadyFor,
		},
		{
			name:   "layers were asked for, and more is gone",
			asked:  Layers{Given: true, N: 32},
			card:   []uint64{3000},
			host:   []uint64{8000},
			waited: steadyFor,
			words:  "GPU0 needs 3.3 GiB",
		},
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
			r := replanner{o: ModelOptions{GPULayers: tt.asked}, measure: measure, sleep: func(d time.Duration) { waited += d }}
			lo, memory, err := r.plan(plan)
			if waited != tt.waited {
				t.Errorf("it waited %s, want %s", waited, tt.waited)
			}

			if tt.words != "" {
				if !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), tt.words) {
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
	planned := llama.DeviceMemory{
		Weights: 1000 * mib,
		KV:      800 * mib,
		Compute: 100 * mib,
		Base:    100 * mib,
		Later:   500 * mib,
	}
	for taken, want := range map[uint64]bool{
		0: false, 1700: true, 1850: false, 1900: false, 2000: false, 2500: false, 2590: false, 2700: true,
	} {
		use := DeviceUse{Planned: planned, Taken: taken * mib}
		if use.differs() != want {
			t.Errorf("%d MiB of %d planned: got %v", taken, planned.Needs()/mib, !want)
		}
	}

	small := llama.DeviceMemory{Weights: mib, Base: 50 * mib}
	below := DeviceUse{small, 80 * mib}
	above := DeviceUse{small, 90 * mib}
	if below.differs() || !above.differs() {
		t.Error("a small model: what the program's pages take is not reported, more is")
	}
}

// TestMemoryTaken reads what a load left of the cards.
func TestMemoryTaken(t *testing.T) {
	planned := []llama.DeviceMemory{
		card("CUDA0", 9*gib, 8*gib), card("SYCL0", 0, 0), unified("Vulkan0", 8*gib, 8*gib), hostOf(8*gib, 8*gib),
	}
	for i := range planned {
		planned[i].Weights = gib
	}

	var u usage
	u.set(&answer{Memory: &llama.Memory{Devices: planned}, Left: map[string]uint64{"CUDA0": 6 * gib, "SYCL0": gib}})
	list := u.now()
	for i, want := range []uint64{2 * gib, 0, 0, 0} {
		if list[i].Taken != want || list[i].Planned != planned[i] {
			t.Errorf("%s: %+v", planned[i].Name, list[i])
		}
	}
}

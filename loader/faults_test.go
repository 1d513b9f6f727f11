package loader

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"serve/engine/llama"
	"serve/engine/remote"
)

// TestDeviceFault reads the last lines of processes as llama.cpp and drivers write them.
func TestDeviceFault(t *testing.T) {
	two := []llama.Device{{Name: "CUDA0", Type: "gpu"}, {Name: "CUDA1", Type: "gpu"}}
	mixed := []llama.Device{{Name: "CUDA0", Type: "gpu"}, {Name: "Vulkan0", Type: "igpu"}}
	logged := func(lines ...string) (log []string) {
		for _, line := range lines {
			log = append(log, `time=2026-11-28T06:00:00.000Z level=ERROR msg="`+line+`"`)
		}
		return log
	}

	for name, c := range map[string]struct {
		gpus   []llama.Device
		log    []string
		kind   remote.FaultKind
		device string
		words  string // of the error
	}{
		"the pool cannot grow": {two, logged("CUDA error: out of memory",
			"  current device: 1, in function alloc at ggml-cuda.cu:547", "  cuMemCreate(...)"),
			remote.FaultOfMemory, "CUDA1", "CUDA error: out of memory"},
		"a buffer at the start": {two,
			logged("alloc_buffer: allocating 512.00 MiB on device 0: cudaMalloc failed: out of memory"),
			remote.FaultOfMemory, "CUDA0", "cudaMalloc failed"},
		"on one of two devices with the same number": {mixed,
			logged("allocating 512.00 MiB on device 0: cudaMalloc failed: out of memory"), remote.FaultOfMemory, "", ""},
		"Vulkan": {mixed, logged("ggml_vulkan: Device memory allocation of size 1073741824 failed.",
			"ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory"), remote.FaultOfMemory, "", ""},
		"cuBLAS": {two, logged("CUDA error: the resource allocation failed"), remote.FaultOfMemory, "", ""},
		"an illegal access": {two, logged("CUDA error: an illegal memory access was encountered",
			"  current device: 0, in function synchronize at ggml-cuda.cu:3000"),
			remote.FaultOfContext, "CUDA0", "dmesg"},
		"AMD's":                   {two, []string{"Memory access fault by GPU node-1 on address 0x7f"}, remote.FaultOfContext, "", "dmesg"},
		"Vulkan's device is lost": {mixed, logged("vk::Queue::submit: ErrorDeviceLost"), remote.FaultOfContext, "", "reset"},
		"something new":           {two, logged("CUDA error: made up"), remote.FaultOfContext, "", "made up"},
		"off the bus":             {two, logged("CUDA error: no CUDA-capable device is detected"), remote.FaultOfDevice, "", "reboot"},
		"after a suspend":         {two, logged("CUDA error: unknown error"), remote.FaultOfDevice, "", "nvidia_uvm"},
		"the driver changed": {two, logged("Failed to initialize NVML: Driver/library version mismatch"),
			remote.FaultOfDevice, "", "old kernel modules"},
		"somebody has it": {two, logged("CUDA error: all CUDA-capable devices are busy or unavailable"),
			remote.FaultOfDevice, "", "nvidia-smi lists"},
		"the other machine": {two, []string{"ggml-rpc.cpp:530: Remote RPC server crashed or returned malformed response"},
			remote.FaultOfDevice, "", "other machine"},
		"the last counts": {two, logged("CUDA error: out of memory", "it goes on", "CUDA error: unspecified launch failure"),
			remote.FaultOfContext, "", "unspecified"},
		"an assertion of llama.cpp": {two, []string{"llama-context.cpp:1: GGML_ASSERT(n > 0) failed"}, remote.NoFault, "", ""},
		"the host's memory": {two, []string{"fatal error: runtime: out of memory", "runtime: out of memory: cannot allocate"},
			remote.NoFault, "", ""},
		"without a GPU": {nil, logged("CUDA error: out of memory"), remote.NoFault, "", ""},
		"no words":      {two, nil, remote.NoFault, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, device := deviceFault(c.log, c.gpus)
			if f.Kind != c.kind || device != c.device {
				t.Errorf("kind %d on %q, want %d on %q", f.Kind, device, c.kind, c.device)
			}
			if f.Kind == remote.NoFault {
				return
			}
			if !errors.Is(f.Err, ErrDevice) || !strings.Contains(f.Err.Error(), c.words) ||
				strings.Contains(f.Err.Error(), "level=") {
				t.Errorf("it says %v", f.Err)
			}
		})
	}
}

// TestRemedy adds advice to a driver's own message, once.
func TestRemedy(t *testing.T) {
	const said = "CUDA0 is on this machine, but the engine's process cannot use it: CUDA error: unknown error"
	if text := withRemedy(withRemedy(said)); !strings.HasPrefix(text, said+"; ") || strings.Count(text, "rmmod") != 1 {
		t.Errorf("it says %s", text)
	}
	for _, plain := range []string{"made-up driver: no such file", "CUDA error: out of memory"} {
		if text := withRemedy(plain); text != plain {
			t.Errorf("%s: it says %s", plain, text)
		}
	}
}

// TestRestartedElsewhere has an engine come back with less on its GPU, and then without it: one line says so each time,
// and so does whoever asks what computes it.
func TestRestartedElsewhere(t *testing.T) {
	gpu := llama.Device{Name: "CUDA0", Type: "gpu"}
	cpu := llama.Device{Name: "CPU", Type: "cpu"}
	memory := &llama.Memory{Devices: []llama.DeviceMemory{hostOf(8*gib, 8*gib)}}
	u := new(usage)
	u.set(&answer{Devices: []llama.Device{gpu}, Memory: memory})
	in := &Loaded{usage: u, whyCPU: func(list []llama.Device) string { return list[0].Name }}

	for _, c := range []struct {
		why, changed, says string
		devices            []llama.Device
	}{
		{"CUDA0 ran out of memory", "only 9 layers are on the GPU now",
			"warning: tiny: CUDA0 ran out of memory: only 9 layers are on the GPU now\n", []llama.Device{gpu, cpu}},
		{"", "all on the CPU", "warning: tiny: a GPU has less memory free than before: all on the CPU\n", []llama.Device{cpu}},
		{"CUDA0 ran out of memory", "", "warning: tiny: CUDA0 ran out of memory: the plan is as before\n", []llama.Device{cpu}},
		{"", "", "", []llama.Device{cpu}},
	} {
		text, err := json.Marshal(answer{Changed: c.changed, Devices: c.devices, Memory: memory})
		if err != nil {
			t.Fatal(err)
		}
		said := newRecorder()
		u.restarted(said, "tiny", c.why, text)
		if said.String() != c.says {
			t.Errorf("it says %q, want %q", said, c.says)
		}
		if devices, why := in.Computing(); !slices.Equal(devices, c.devices) || why != c.devices[0].Name {
			t.Errorf("%+v compute, %q", devices, why)
		}
	}
}

// TestMargins leaves more free each time, where memory ran out.
func TestMargins(t *testing.T) {
	gpus := []llama.Device{{Name: "CUDA0"}, {Name: "CUDA1"}}
	var m margins
	if m.now() != nil || m.tell() != "" {
		t.Error("it begins with margins")
	}
	m.widen("CUDA1", gpus)
	m.widen("CUDA1", gpus)
	if told := m.tell(); told != "CUDA1 ran out of memory, and 1.0 GiB more are left free there" || m.tell() != "" {
		t.Errorf("it tells %q", told)
	}
	m.widen("", gpus)
	now := m.now()
	if now["CUDA0"] != 512*mib || now["CUDA1"] != 2*gib {
		t.Errorf("margins %v", now)
	}

	host := hostOf(gib, 64*gib)
	for _, r := range []Reserve{{More: now}, {Given: true, Bytes: gib, More: now}} {
		if got := r.of(card("CUDA1", gib, 64*gib)); got != 3*gib {
			t.Errorf("%+v leaves %d free", r, got)
		}
		if got := r.of(host); got != gib {
			t.Errorf("%+v leaves %d of the host free", r, got)
		}
	}

	memory := &llama.Memory{Devices: []llama.DeviceMemory{unified("CUDA1", 8*gib, 8*gib), hostOf(8*gib, 8*gib)}}
	o := ModelOptions{Reserve: Reserve{More: now}}
	if list := o.budgetsOf(memory); list[0].reserve != 2*gib {
		t.Errorf("of a device with the host's memory %d are left free", list[0].reserve)
	}
}

// TestReplanLess restarts an engine whose GPU ran out of memory: fewer cells first, then fewer layers, then the numbers.
func TestReplanLess(t *testing.T) {
	all := llama.Options{
		Context:         4096,
		Sequences:       8,
		Model:           llama.LoadOptions{GPULayers: -1},
		NotReproducible: true,
	}
	shared := all
	shared.Cells = 16384
	exact := all
	exact.NotReproducible = false

	for _, tt := range []struct {
		name   string
		o      ModelOptions
		before llama.Options
		more   uint64 // MiB
		cells  int
		layers int
		says   string
		short  bool
	}{
		{name: "nothing", before: all, layers: -1},
		{name: "fewer cells", before: all, more: 512, cells: 32256, layers: -1, says: "32256 KV cells instead of 32768"},
		{name: "still fewer", before: all, more: 768, cells: 6656, layers: -1, says: "6656 KV cells instead"},
		{name: "of shared ones", before: shared, more: 768, cells: 6656, layers: -1, says: "6656 KV cells instead of 16384"},
		{name: "not enough for one", before: all, more: 1024, layers: 27, says: "only 27 layers"},
		{name: "cells that were asked for", o: ModelOptions{Cells: 16384}, before: shared, more: 768, cells: 16384, layers: 31,
			says: "only 31 layers"},
		{name: "answers may have to be reproducible", before: exact, more: 512, layers: 31, says: "only 31 layers"},
		{name: "layers that were asked for", o: ModelOptions{GPULayers: Layers{Given: true, N: -1}}, before: all, more: 512,
			cells: 32256, layers: -1, says: "32256 KV cells"},
		{name: "both", o: ModelOptions{Cells: 16384, GPULayers: Layers{Given: true, N: -1}}, before: shared, more: 768,
			short: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			measure := func(lo llama.Options) (*llama.Memory, error) {
				m, err := hostOfDevices(card("GPU0", 5160*mib, 16*gib), hostOf(16*gib, 16*gib))(lo)
				m.Generates = true
				return m, err
			}
			tt.o.Reserve.More = map[string]uint64{"GPU0": tt.more * mib}
			r := replanner{o: tt.o, measure: measure, sleep: func(time.Duration) {}}
			lo, memory, err := r.plan(tt.before)
			if tt.short {
				if !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), "GPU0 needs") {
					t.Errorf("got %v", err)
				}
				return
			}

			if err != nil || lo.Cells != tt.cells || lo.Model.GPULayers != tt.layers {
				t.Errorf("got %d cells, %d layers, %v", lo.Cells, lo.Model.GPULayers, err)
			}
			if memory != nil && shortOf(r.budgets(memory)) != nil {
				t.Error("it does not fit")
			}
			if lo.Context != tt.before.Context || lo.Sequences != tt.before.Sequences {
				t.Errorf("got %+v: the loop that runs counts on %+v", lo, tt.before)
			}
			if says := r.changes(tt.before, lo); !strings.Contains(says, tt.says) || (says == "") != (tt.says == "") {
				t.Errorf("it says %q", says)
			}
		})
	}
}

// TestReplanMoved restarts engines whose GPU runs out of memory again and again, with tensors placed as llama.cpp does:
// each plan leaves more free than the one before, in the order of a first plan.
func TestReplanMoved(t *testing.T) {
	ram := hostOf(58*gib, 64*gib)
	const fewer = "KV cells instead of"
	for name, tt := range map[string]struct {
		model   string
		devices []llama.DeviceMemory
		says    []string // after each time
	}{
		"dense": {model: "Llama 3.1 8B", devices: []llama.DeviceMemory{card("CUDA0", 11*gib, 12*gib), ram},
			says: []string{fewer, fewer, fewer, fewer, "22 of 32 layers on CUDA0 but the feed-forward networks of all",
				"all on the CPU"}},
		"experts": {model: "Qwen3 30B-A3B", devices: []llama.DeviceMemory{card("CUDA0", 23*gib, 24*gib), ram},
			says: []string{fewer, fewer, fewer, fewer, "all 48 layers on CUDA0 but the experts of 10 of them",
				"all 48 layers on CUDA0 but the experts of 36 of them"}},
		"one of two cards": {model: "Qwen3 30B-A3B",
			devices: []llama.DeviceMemory{card("CUDA0", 15*gib, 16*gib), card("CUDA1", 15*gib, 16*gib), ram},
			says: []string{"", "", "", fewer, "all 48 layers on CUDA0 (14), CUDA1 (34)",
				"all 48 layers on CUDA1 but the experts of 10 of them"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := modelNamed(t, tt.model)
			o := ModelOptions{Parallel: 8}
			facts, err := factsOf(m.Header(), nil, &o)
			if err != nil {
				t.Fatal(err)
			}
			measure := layOut(m, 400*mib, tt.devices...)
			p := planner{o: o, train: 8192, facts: facts, shrink: true, measure: measure}
			first, _, err := p.plan()
			if err != nil {
				t.Fatal(err)
			}
			first.NotReproducible = true

			var out margins
			for i, want := range tt.says {
				out.widen("CUDA0", []llama.Device{{Name: "CUDA0"}})
				o.Reserve.More = out.now()
				r := replanner{o: o, facts: facts, measure: measure, sleep: func(time.Duration) {}}
				lo, memory, err := r.plan(first)
				if err != nil {
					t.Fatal(err)
				}
				if says := r.changes(first, lo); !strings.Contains(says, want) || (says == "") != (want == "") {
					t.Errorf("after %d times it says %q, want %q", i+1, says, want)
				}
				if short := shortOf(r.budgets(memory)); short != nil {
					t.Errorf("%s takes %d of %d", short.name, short.plan.Most(), short.room())
				}
				if lo.Context != first.Context || lo.Sequences != first.Sequences || lo.Cells > max(first.Cells, 8*lo.Context) {
					t.Errorf("got %+v after %+v", lo, first)
				}
			}
		})
	}
}

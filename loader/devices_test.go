package loader

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"serve/engine/llama"
	"serve/machine"
)

// TestReadProbe reads what a process said before it ended.
func TestReadProbe(t *testing.T) {
	const seen = `{"Seen":{"Devices":[{"name":"CUDA0","type":"gpu"}],"Warnings":["slow"]}}`
	died := errors.New("signal: aborted")
	cuda := llama.Device{Name: "CUDA0"}
	for _, c := range []struct {
		name, out string
		err       error
		results   []DeviceResult
		failed    string
	}{
		{"it works", seen + `{"Device":{"name":"CUDA0"},"Act":"init"}{"Device":{"name":"CUDA0"},"Done":true,"Free":7}`,
			nil, []DeviceResult{{cuda, 7, ""}}, ""},
		{"it died", seen + `{"Device":{"name":"CUDA0"},"Act":"init"}{"Device":{"name":"CUDA0"},"Act":"allocate"}{"Dev`,
			died, []DeviceResult{{cuda, 0, "allocate: the process ended: signal: aborted: last words"}}, ""},
		{"it died before", "", died, nil, "the process that tests devices ended: signal: aborted: last words"},
		{"it says nonsense", seen + "what", nil, nil, "invalid character"},
	} {
		list, results, err := readProbe([]byte(c.out), c.err, []string{"last words"})
		if !slices.Equal(results, c.results) {
			t.Errorf("%s: %+v", c.name, results)
		}
		if (err == nil) != (c.failed == "") || err != nil && !strings.Contains(err.Error(), c.failed) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.out != "" && (len(list.Devices) != 1 || len(list.Warnings) != 1) {
			t.Errorf("%s: it saw %+v", c.name, list)
		}
	}
}

// TestSlowDriver gives up on one that does not answer, with an error.
func TestSlowDriver(t *testing.T) {
	t.Setenv(hang, "1")
	ctx, cancel := context.WithTimeout(t.Context(), 1) // is over at once
	defer cancel()
	w := NewWorkers(testHardware(), os.Environ(), t.TempDir())
	if _, err := w.ListDevices(ctx); !errors.Is(err, ErrDevice) || !strings.Contains(err.Error(), "no answer within") {
		t.Errorf("got %v", err)
	}
}

func TestUnusedGPU(t *testing.T) {
	cuda := []llama.Device{{Name: "CUDA0", Type: "gpu"}, {Name: "CPU", Type: "cpu"}}
	vulkan := []llama.Device{{Name: "Vulkan0", Type: "gpu"}}
	card := []machine.GPU{{Vendor: machine.NVIDIA, Where: "x"}}
	both := []string{"CUDA", "Vulkan"}

	for _, c := range []struct {
		name     string
		backends []string
		gpus     []machine.GPU
		devices  []llama.Device
		what     string
		advice   string
		broken   bool
	}{
		{"no GPU", nil, nil, nil, "", "", false},
		{"NVIDIA's, and a build without", nil, card, nil, "the NVIDIA GPU (x) is not used: this build", "make CUDA=1", false},
		{"AMD's, and a build without", nil, []machine.GPU{{Vendor: machine.AMD, Where: "x"}}, nil,
			"the AMD GPU (x)", "make VULKAN=1", false},
		{"it is seen", both[:1], card, cuda, "", "", false},
		{"it is not", both[:1], card, cuda[1:], "CUDA finds no device: words", "nvidia-smi", true},
		{"by another backend", both[1:], card, vulkan, "", "", false},
		{"by the other backend alone", both, card, vulkan, "CUDA finds no device", "nvidia-smi", true},
		{"another's", []string{"CUDA"}, []machine.GPU{{Vendor: machine.Intel, Where: "x"}}, nil, "", "", false},
	} {
		h := Native()
		h.Backends = func() []string { return c.backends }
		h.GPUs = func() []machine.GPU { return c.gpus }
		u, found := NewWorkers(h, nil, "").UnusedGPU(DeviceList{Devices: c.devices, Warnings: []string{"words"}})
		if found != (c.what != "") || u.Broken != c.broken {
			t.Errorf("%s: %t, %+v", c.name, found, u)
		}
		if !strings.Contains(u.What, c.what) || !strings.Contains(u.Advice, c.advice) {
			t.Errorf("%s: %+v", c.name, u)
		}
	}

	w := NewWorkers(Native(), []string{"CUDA_VISIBLE_DEVICES=-1"}, "")
	if advice := w.nvidiaAdvice(); !strings.Contains(advice, "CUDA_VISIBLE_DEVICES=-1") {
		t.Errorf("a variable hides it: %s", advice)
	}
}

func TestComputing(t *testing.T) {
	devices := []llama.Device{
		{Name: "CUDA0", Type: "gpu"}, {Name: "CUDA1", Type: "gpu"}, {Name: "BLAS", Type: "accel"}, {Name: "CPU", Type: "cpu"},
	}
	takes := func(name string, bytes uint64) llama.DeviceMemory {
		return llama.DeviceMemory{Name: name, Weights: bytes}
	}
	host := takes("host", 1)

	for _, c := range []struct {
		name   string
		memory []llama.DeviceMemory
		layers int
		want   []string
	}{
		{"no GPU", []llama.DeviceMemory{host}, -1, []string{"CPU"}},
		{"all layers on one", []llama.DeviceMemory{takes("CUDA0", 1), host}, -1, []string{"CUDA0"}},
		{"on both", []llama.DeviceMemory{takes("CUDA0", 1), takes("CUDA1", 1), host}, -1, []string{"CUDA0", "CUDA1"}},
		{"some layers", []llama.DeviceMemory{takes("CUDA0", 1), takes("CUDA1", 0), host}, 5, []string{"CUDA0", "CPU"}},
		{"none fits", []llama.DeviceMemory{takes("CUDA0", 1), host}, 0, []string{"CPU"}},
	} {
		var got []string
		for _, d := range computing(devices, &llama.Memory{Devices: c.memory}, c.layers) {
			got = append(got, d.Name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

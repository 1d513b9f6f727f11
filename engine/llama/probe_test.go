package llama

import (
	"slices"
	"strings"
	"testing"
)

// TestProbe tries every device that this machine has: the processor at least.
func TestProbe(t *testing.T) {
	devices, err := Devices()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(devices, func(d Device) bool { return d.Type == "cpu" && d.Name != "" }) {
		t.Fatalf("no processor among %+v", devices)
	}

	for i, d := range devices {
		if d.Type == "accel" {
			continue // a library for the processor, which multiplies and does nothing else
		}
		var acts []string
		free, total, err := Probe(i, func(act string) { acts = append(acts, act) })
		if err != nil || total == 0 || free > total {
			t.Errorf("%s: %d of %d bytes free, %v", d.Name, free, total, err)
		}
		if !slices.Equal(acts, []string{ActInit, ActAllocate, ActCompute}) {
			t.Errorf("%s: tried %q", d.Name, acts)
		}
	}

	var acts []string
	_, _, err = Probe(len(devices), func(act string) { acts = append(acts, act) })
	if err == nil || !strings.Contains(err.Error(), "no such device") || len(acts) != 1 {
		t.Errorf("a device that is not there: %v after %q", err, acts)
	}
}

// TestGPUBackends agrees with the devices: without a GPU backend there is no GPU.
func TestGPUBackends(t *testing.T) {
	devices, err := Devices()
	if err != nil {
		t.Fatal(err)
	}
	gpu := slices.ContainsFunc(devices, func(d Device) bool { return d.Type == "gpu" || d.Type == "igpu" })
	if names := GPUBackends(); gpu && len(names) == 0 || slices.Contains(names, "") {
		t.Errorf("backends %q, devices %+v", names, devices)
	}
}

// TestWarnings keeps the first errors that llama.cpp logs, and no more than it should.
func TestWarnings(t *testing.T) {
	warnings.Lock()
	before := warnings.lines
	warnings.lines = nil
	warnings.Unlock()
	defer func() {
		warnings.Lock()
		defer warnings.Unlock()
		warnings.lines = before
	}()

	if _, err := LoadModel("/nowhere/model.gguf", LoadOptions{}); err == nil {
		t.Fatal("a file that is not there was loaded")
	}
	if lines := Warnings(); len(lines) == 0 || !strings.Contains(strings.Join(lines, "\n"), "/nowhere/model.gguf") {
		t.Errorf("kept %q", lines)
	}

	for range 2 * maxWarnings {
		keepWarning(strings.Repeat("x", 2*maxWarningLength))
	}
	lines := Warnings()
	if len(lines) != maxWarnings || len(lines[maxWarnings-1]) != maxWarningLength {
		t.Errorf("kept %d lines, the last of %d bytes", len(lines), len(lines[len(lines)-1]))
	}
}

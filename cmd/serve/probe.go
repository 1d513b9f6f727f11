package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"serve/engine/llama"
	"serve/machine"
	"serve/sandbox"
)

// probeLine is a line of what a process says that tries devices: what it sees, then, before
// each act on a device, which, and after the last what came of it. So it is known of a
// driver that ends the process what it was doing.
type probeLine struct {
	Seen   *deviceList   `json:",omitempty"`
	Device *llama.Device `json:",omitempty"`
	Act    string        `json:",omitempty"`
	Done   bool          `json:",omitempty"`
	Free   uint64        `json:",omitempty"` // bytes, with Done
	Failed string        `json:",omitempty"` // why, with Done
}

// tryDevices tries each device, for the process that started this one.
func tryDevices(t *terminal) error {
	// As in an engine, though doctor asks for that apart.
	_ = sandbox.ForbidNetwork()

	out := json.NewEncoder(t.out)
	list, err := askDrivers()
	if err != nil {
		return err
	}
	if sees(list.gpus(), "CUDA") {
		if err := hardware.cublas(); err != nil {
			list.NoCUBLAS = err.Error()
		}
	}
	if err := out.Encode(probeLine{Seen: &list}); err != nil {
		return err
	}

	for i, d := range list.Devices {
		if d.Type == "accel" {
			continue // a library of the processor's, which has no memory and not all operations
		}
		free, _, err := hardware.probe(i, func(act string) { _ = out.Encode(probeLine{Device: &d, Act: act}) })
		line := probeLine{Device: &d, Done: true, Free: free}
		if err != nil {
			line.Failed = err.Error()
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// deviceResult is what came of trying a device.
type deviceResult struct {
	device llama.Device
	free   uint64
	failed string // why, and empty if it works
}

// readProbe reads what a process said that tried devices, and ended with err. Its last
// words say why.
func readProbe(out []byte, err error, said []string) (seen deviceList, results []deviceResult, failed error) {
	var now *probeLine // what it was doing
	lines := json.NewDecoder(bytes.NewReader(out))
	for {
		var line probeLine
		if e := lines.Decode(&line); e != nil {
			// A process that died may have left half a line.
			if err == nil && !errors.Is(e, io.EOF) {
				err = e
			}
			break
		}

		switch {
		case line.Seen != nil:
			seen = *line.Seen
		case line.Done && line.Device != nil:
			results = append(results, deviceResult{*line.Device, line.Free, line.Failed})
			now = nil
		case line.Device != nil:
			now = &line
		}
	}

	if err == nil {
		return seen, results, nil
	}
	if now != nil {
		why := fmt.Sprintf("%s: the process ended: %v%s", now.Act, err, driverWords(said))
		return seen, append(results, deviceResult{device: *now.Device, failed: why}), nil
	}
	return seen, results, fmt.Errorf("the process that asks drivers ended: %w%s", err, driverWords(said))
}

// seeDevices looks for GPUs, and has each device compute where models will be: in a process
// that is confined as engines are.
func (w *workplace) seeDevices(ctx context.Context, _ doctorOptions) []finding {
	store, err := w.store()
	if err != nil {
		return nil // seeCache says so
	}

	cache, _ := driverCache(store.Home) // seeConfinement says so
	var outside deviceList
	if len(hardware.backends()) > 0 {
		if err := hardware.nodes(ctx); err != nil {
			return []finding{{"gpu", broken, "NVIDIA's device nodes are missing: " + err.Error(),
				"run nvidia-modprobe -u -c=0 as root"}}
		}
		if outside, err = listDevices(ctx, cache); err != nil {
			return []finding{{"gpu", broken, err.Error(), "look at the driver's own tool, such as nvidia-smi"}}
		}
	}

	seen, results, err := probeConfined(ctx, cache)
	if err != nil {
		return []finding{{"gpu", broken, err.Error(), "try the driver's own tool; if that works, report these words"}}
	}
	return deviceFindings(outside, seen, results)
}

// probeConfined tries the devices in a process that is confined as engines are.
func probeConfined(ctx context.Context, cache string) (seen deviceList, results []deviceResult, err error) {
	cmd, err := engineCommand(cache, "--probe", "--log-level", "error")
	if err != nil {
		return seen, nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	out, said, err := confinedOutput(ctx, cmd, sandbox.Rules{Cache: cache})
	return readProbe(out, err, said)
}

// deviceFindings says what came of looking for devices, outside of the sandbox and in it.
func deviceFindings(outside, seen deviceList, results []deviceResult) (list []finding) {
	for _, r := range results {
		f := finding{About: "gpu", Severity: fine}
		name := fmt.Sprintf("%s %s", r.device.Name, strings.TrimSpace(r.device.Description))
		f.Seen = fmt.Sprintf("%s, %s free: initializes, allocates and computes in the sandbox", name, machine.FormatSize(r.free))
		if !r.device.GPU() {
			f.About, f.Seen = "compute", name+" computes in the sandbox"
		}
		if r.failed != "" {
			f.Severity = broken
			f.Seen = fmt.Sprintf("%s cannot be used: %s", name, r.failed)
			f.Do = "try the driver's own tool, and see whether this build has code for the device (docs/gpu.md); " +
				"--gpu-layers 0 computes on the processor"
		}
		list = append(list, f)
	}

	if seen.NoCUBLAS != "" {
		list = append(list, finding{"cublas", warning, seen.NoCUBLAS,
			"put libcublas and libcublasLt into lib beside the program, or install CUDA's toolkit: " +
				"models whose weights are not all quantized need them on the GPU (docs/gpu.md)"})
	}

	if missing := seen.missing(outside.gpus()); len(missing) > 0 {
		list = append(list, finding{"gpu", broken,
			describeDevices(missing) + " is on this machine, but not there in the sandbox" + driverWords(seen.Warnings),
			"start serve with --isolate=false, which computes without a sandbox, and report these words"})
	}

	all := deviceList{
		Devices:  append(outside.gpus(), seen.gpus()...),
		Warnings: slices.Concat(outside.Warnings, seen.Warnings),
	}
	if u, found := unusedGPU(all); found {
		f := finding{"gpu", warning, u.what, u.advice}
		if u.broken {
			f.Severity = broken
		}
		return append(list, f)
	}
	if len(all.Devices) == 0 {
		list = append(list, finding{About: "gpu", Severity: fine,
			Seen: "none that this build can use; models are computed by the processor"})
	}
	return list
}

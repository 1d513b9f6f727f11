package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"serve/engine/llama"
	"serve/machine"
	"serve/sandbox"
	"serve/server"
	"serve/worker"
)

// hardware is what is asked about GPUs; tests play a driver with it.
var hardware = struct {
	backends func() []string                 // of this build
	devices  func() ([]llama.Device, error)  // that drivers show to this process
	warnings func() []string                 // of those drivers
	gpus     func() []machine.GPU            // of this machine, whatever drivers say
	nodes    func(ctx context.Context) error // makes device nodes that are missing

	// cublas loads a library that CUDA needs for some models.
	cublas func() error

	// probe tries one of the devices, by its index.
	probe func(device int, before func(act string)) (free, total uint64, err error)
}{
	backends: llama.GPUBackends,
	devices:  llama.Devices,
	warnings: llama.Warnings,
	gpus:     func() []machine.GPU { return machine.GPUs(os.DirFS("/")) },
	nodes: func(ctx context.Context) error {
		return machine.CreateNodes(ctx, os.DirFS("/"), "nvidia-modprobe", nodesTime)
	},
	cublas: llama.LoadCUBLAS,
	probe:  llama.Probe,
}

const (
	// probeTime is what a driver may take to list its devices. A machine with many cards
	// that nobody has used since it was started takes half a minute: slow is not absent.
	probeTime = 60 * time.Second

	// nodesTime is what loading a driver and making its device nodes may take.
	nodesTime = 20 * time.Second
)

// gpuBackendOf is what a build for a vendor's GPUs is made with.
var gpuBackendOf = map[machine.Vendor]string{machine.NVIDIA: "CUDA", machine.AMD: "Vulkan", machine.Intel: "Vulkan"}

// deviceList is what a process sees of this machine's devices, and what their drivers say.
type deviceList struct {
	Devices  []llama.Device
	Warnings []string `json:",omitempty"`

	// NoCUBLAS is why cuBLAS cannot be loaded, if a device needs it and it was tried.
	NoCUBLAS string `json:",omitempty"`
}

// askDrivers lists the devices that this process can use.
func askDrivers() (list deviceList, err error) {
	list.Devices, err = hardware.devices()
	list.Warnings = hardware.warnings()
	return list, err
}

// gpus are the GPUs among them.
func (l deviceList) gpus() []llama.Device {
	return slices.DeleteFunc(slices.Clone(l.Devices), func(d llama.Device) bool { return !d.GPU() })
}

// missing are those of some devices that are not in the list.
func (l deviceList) missing(wanted []llama.Device) []llama.Device {
	return slices.DeleteFunc(slices.Clone(wanted), func(w llama.Device) bool {
		return slices.ContainsFunc(l.Devices, func(d llama.Device) bool { return d.Name == w.Name })
	})
}

// describeDevices names devices for a person.
func describeDevices(list []llama.Device) string {
	var names []string
	for _, d := range list {
		names = append(names, fmt.Sprintf("%s (%s)", d.Name, strings.TrimSpace(d.Description)))
	}
	return strings.Join(names, ", ")
}

// driverWords is what drivers said, as the end of a sentence; empty if nothing.
func driverWords(warnings []string) string {
	if len(warnings) == 0 {
		return ""
	}
	return ": " + strings.Join(warnings, "; ")
}

// deviceError says that GPUs which this machine has are not there for an engine.
func deviceError(missing []llama.Device, warnings []string) error {
	err := fmt.Errorf("%w: %s is on this machine, but the engine's process cannot use it%s",
		errDevice, describeDevices(missing), driverWords(warnings))
	return withHint(err, "serve doctor tries the driver in the sandbox; if it works outside only, "+
		"--isolate=false computes without one; --gpu-layers 0 computes on the processor")
}

// gpuProbe finds out, once, which GPUs an engine must see.
type gpuProbe struct {
	mu    sync.Mutex
	known bool
	list  deviceList
}

// expectGPUs returns the GPUs that this build's drivers show outside of the sandbox: an
// engine that lacks one of them must not compute. It says what is odd about them.
func (l *library) expectGPUs(ctx context.Context) ([]llama.Device, error) {
	l.gpus.mu.Lock()
	defer l.gpus.mu.Unlock()
	if l.gpus.known || l.o.processorOnly() {
		return l.gpus.list.gpus(), nil
	}

	if len(hardware.backends()) > 0 {
		list, err := l.probeDevices(ctx)
		if err != nil {
			return nil, &server.DeviceError{Err: err}
		}
		l.gpus.list = list
	}

	l.gpus.known = true
	if u, found := unusedGPU(l.gpus.list); found {
		l.w.t.note("warning: %s", u.what)
		l.w.t.note("hint: %s", u.advice)
	}
	return l.gpus.list.gpus(), nil
}

// probeDevices lists the devices outside of the sandbox: in a process of its own, so that
// this one never holds a driver, unless it is to compute itself.
func (l *library) probeDevices(ctx context.Context) (deviceList, error) {
	if err := hardware.nodes(ctx); err != nil {
		l.w.t.note("warning: NVIDIA's device nodes are missing and could not be made: %v", err)
	}

	_, ignored := sandbox.DriverEnviron(os.Environ())
	for _, name := range ignored {
		l.w.t.note("warning: %s is ignored: copies between GPUs vanish with it on many machines, and even =0 turns it on", name)
	}

	if l.o.isolate {
		return listDevices(ctx, l.cache())
	}
	if err := sandbox.SetDriverEnviron(); err != nil {
		return deviceList{}, err
	}
	return askDrivers()
}

// listDevices has a process that is not confined list the devices.
func listDevices(ctx context.Context, cache string) (list deviceList, err error) {
	cmd, err := engineCommand(cache, "--devices", "--log-level", "error")
	if err != nil {
		return list, err
	}

	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	out, said, err := worker.Output(ctx, cmd, cmd.Start)
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("it did not answer within %s", probeTime)
	}
	if err != nil {
		err = fmt.Errorf("%w: the GPU's driver cannot be asked for devices: %w%s", errDevice, err, driverWords(said))
		return list, withHint(err, "try the driver's own tool, such as nvidia-smi; --gpu-layers 0 computes on the processor")
	}
	return list, nil
}

// confinedOutput is output of a command that is confined by the rules. Whether the kernel can enforce
// them is told by those who look for that: spawn and seeConfinement.
func confinedOutput(ctx context.Context, cmd *exec.Cmd, rules sandbox.Rules) (out []byte, said []string, err error) {
	return worker.Output(ctx, cmd, func() error {
		_, err := sandbox.Start(cmd, rules)
		return err
	})
}

// unused is a GPU that no driver shows to this build.
type unused struct {
	what, advice string
	broken       bool // it is one that the build was made for
}

// unusedGPU returns a GPU of this machine that is not among a list of devices, if there
// is one that could be used.
func unusedGPU(list deviceList) (u unused, found bool) {
	backends := hardware.backends()

	for _, g := range hardware.gpus() {
		if len(backends) == 0 {
			u.what = fmt.Sprintf("the %s is not used: this build computes on the processor", g)
			u.advice = fmt.Sprintf("make %s=1 builds one for it; docs/gpu.md says how", strings.ToUpper(gpuBackendOf[g.Vendor]))
			return u, true
		}

		if g.Vendor == machine.NVIDIA && slices.Contains(backends, "CUDA") && !sees(list.gpus(), "CUDA") {
			u.what = fmt.Sprintf("the %s is not used: CUDA finds no device%s", g, driverWords(list.Warnings))
			u.advice = nvidiaAdvice()
			u.broken = true
			return u, true
		}
	}
	return u, false
}

// sees reports whether a backend's devices are among some: they are called by its name and
// a number.
func sees(list []llama.Device, backend string) bool {
	return slices.ContainsFunc(list, func(d llama.Device) bool { return strings.HasPrefix(d.Name, backend) })
}

// nvidiaAdvice says what to do where there is a card and CUDA does not find it.
func nvidiaAdvice() string {
	if visible, set := os.LookupEnv("CUDA_VISIBLE_DEVICES"); set {
		return fmt.Sprintf("CUDA_VISIBLE_DEVICES=%s hides those it does not name", visible)
	}
	return "nvidia-smi shows whether the driver works; in a container, it must be given the devices (--gpus all)"
}

// driverCache makes the folder for what drivers keep, and returns it; empty if this build
// has no driver to keep anything.
func driverCache(home string) (string, error) {
	if len(hardware.backends()) == 0 {
		return "", nil
	}

	folder := filepath.Join(home, "driver-cache")
	if err := sandbox.CreateCache(folder); err != nil {
		return "", err
	}
	return folder, nil
}

// engineCommand is this program as an engine, with the environment of one, whose drivers
// keep what they compile in the folder cache, if that is not empty.
func engineCommand(cache string, args ...string) (*exec.Cmd, error) {
	environ, _ := sandbox.DriverEnviron(os.Environ())
	if cache != "" {
		environ = sandbox.Environ(environ, cache)
	}
	return worker.Command(environ, append([]string{"engine"}, args...)...)
}

// processorOnly reports whether GPUs are to be left alone.
func (o *modelOptions) processorOnly() bool {
	n, err := strconv.Atoi(o.gpuLayers)
	return err == nil && n == 0
}

// computing are the devices that compute a model: the GPUs that the plan takes memory of,
// and the processor unless all layers are on those.
func computing(devices []llama.Device, memory *llama.Memory, gpuLayers int) (list []llama.Device) {
	taken := map[string]bool{}
	for _, d := range memory.Devices[:len(memory.Devices)-1] {
		taken[d.Name] = d.Weights+d.KV > 0 // a driver's context is no layer
	}

	for _, d := range devices {
		if d.GPU() && taken[d.Name] && gpuLayers != 0 {
			list = append(list, d)
		}
	}
	for _, d := range devices {
		if d.Type == "cpu" && (len(list) == 0 || gpuLayers >= 0) {
			list = append(list, d)
		}
	}
	return list
}

// whyProcessor says why a model is computed without the GPUs that this machine has; empty
// if it has none or uses one.
func (l *library) whyProcessor(a *loadAnswer) string {
	if slices.ContainsFunc(a.Devices, llama.Device.GPU) {
		return ""
	}

	l.gpus.mu.Lock()
	seen := l.gpus.list.gpus()
	l.gpus.mu.Unlock()
	gpus := hardware.gpus()
	switch {
	case len(gpus) == 0 && len(seen) == 0:
		return ""
	case l.o.processorOnly():
		return "the GPU is turned off by --gpu-layers 0"
	case len(hardware.backends()) == 0:
		return "this build has no GPU backend"
	case len(seen) == 0:
		return "no driver shows the GPU"
	}
	return "no layer is on " + describeDevices(seen)
}

// deviceFacts are the devices for /status and the metrics.
func deviceFacts(list []llama.Device) (facts []server.Device) {
	for _, d := range list {
		facts = append(facts, server.Device{Name: d.Name, Description: strings.TrimSpace(d.Description)})
	}
	return facts
}

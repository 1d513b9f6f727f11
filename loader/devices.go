package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"serve/engine/llama"
	"serve/engine/remote"
	"serve/machine"
	"serve/rpc"
	"serve/sandbox"
	"serve/worker"
)

// driverTime is how long a driver may take to list its devices. A machine with many cards that
// have not been used since it booted takes half a minute: slow does not mean absent.
const driverTime = 60 * time.Second

// DeviceList has the devices that a process sees, and the warnings of their drivers.
type DeviceList struct {
	Devices  []llama.Device
	Warnings []string `json:",omitempty"`

	// NoCUBLAS says why cuBLAS cannot be loaded, if a device needs it and loading was tried.
	NoCUBLAS string `json:",omitempty"`
}

// GPUs returns the GPUs in the list.
func (l DeviceList) GPUs() []llama.Device {
	return slices.DeleteFunc(slices.Clone(l.Devices), func(d llama.Device) bool { return !d.GPU() })
}

// Missing returns the wanted devices that are not in the list.
func (l DeviceList) Missing(wanted []llama.Device) []llama.Device {
	return slices.DeleteFunc(slices.Clone(wanted), func(w llama.Device) bool {
		return slices.ContainsFunc(l.Devices, func(d llama.Device) bool { return d.Name == w.Name })
	})
}

// DescribeDevices names devices, for display.
func DescribeDevices(list []llama.Device) string {
	var names []string
	for _, d := range list {
		names = append(names, fmt.Sprintf("%s (%s)", d.Name, strings.TrimSpace(d.Description)))
	}
	return strings.Join(names, ", ")
}

// JoinWarnings returns drivers' warnings as the end of a sentence; empty if there are none.
func JoinWarnings(warnings []string) string {
	if len(warnings) == 0 {
		return ""
	}
	return ": " + strings.Join(warnings, "; ")
}

// gpuList has the GPUs that an engine must see, once they have been listed.
type gpuList struct {
	mu    sync.Mutex
	known bool
	list  DeviceList
}

// expectGPUs returns the GPUs that drivers report outside of the sandbox: an engine that does
// not see all of them must not compute. It warns about problems.
func (l *Loader) expectGPUs(ctx context.Context) ([]llama.Device, error) {
	l.gpus.mu.Lock()
	defer l.gpus.mu.Unlock()
	if l.gpus.known || l.o.Model.cpuOnly() {
		return l.gpus.list.GPUs(), nil
	}

	if len(l.o.Hardware.Backends()) > 0 || len(l.o.Model.RPC) > 0 {
		list, err := l.probeDevices(ctx)
		if err != nil {
			return nil, err
		}
		l.gpus.list = list
	}

	l.gpus.known = true
	if u, found := l.workers.UnusedGPU(l.gpus.list); found {
		l.o.Reporter.Warn("%s", u.What)
		l.o.Reporter.Hint("%s", u.Advice)
	}
	return l.gpus.list.GPUs(), nil
}

// probeDevices lists the devices outside of the sandbox: in a separate process, so that this
// one never loads a driver, unless models run in this process.
func (l *Loader) probeDevices(ctx context.Context) (DeviceList, error) {
	if err := l.o.Hardware.Nodes(ctx); err != nil {
		l.o.Reporter.Warn("NVIDIA's device nodes are missing and could not be created: %v", err)
	}

	for _, name := range sandbox.Ignored(l.o.Environ) {
		l.o.Reporter.Warn("%s is ignored: on many machines it silently breaks copies between GPUs, even when set to 0", name)
	}

	if l.o.Isolate {
		l.driverCache()
		connections, err := l.o.Model.connect(ctx, l.o.Connect)
		if err != nil {
			return DeviceList{}, err
		}
		defer closeAll(connections)
		return l.workers.listDevices(ctx, l.o.Model.RPC, connections)
	}
	if err := l.o.Hardware.Prepare(); err != nil {
		return DeviceList{}, err
	}
	list, err := l.o.Hardware.listDevices()
	if err != nil {
		err = &DeviceError{Text: err.Error()}
	}
	return list, err
}

// cardError matches ggml's message before it ends the process because of an error from a card's driver.
var cardError = regexp.MustCompile(`(?:CUDA|ROCm|HIP|MUSA) error: [^"]+`)

// codeMissing matches CUDA's messages for a program without code for a card: it has machine code only for other cards,
// and PTX that is newer than the driver.
var codeMissing = regexp.MustCompile(`unsupported toolchain|no kernel image`)

// cardFailure returns a DeviceError if an engine's process ended because of an error from a card's driver, which other
// CPU kernels would not fix; otherwise nil.
func cardFailure(err error) error {
	var died *remote.DiedError
	if !errors.As(err, &died) {
		return nil
	}
	if slices.ContainsFunc(died.Exit.Log, rpcLost.MatchString) {
		return &DeviceError{
			Text: "an RPC device was lost while the model was loaded; serve rpc says there why",
			Todo: "start serve rpc again if it has ended; it must be of the same version as serve",
		}
	}
	i := slices.IndexFunc(died.Exit.Log, cardError.MatchString)
	if i < 0 {
		return nil
	}

	text := "the GPU's driver failed: " + cardError.FindString(died.Exit.Log[i])
	if codeMissing.MatchString(text) {
		text += " This build has no machine code for this GPU, and PTX that the driver is too old for: update the " +
			"driver, or use a build for this GPU (CUDA_ARCHITECTURES, docs/gpu.md)."
	}
	return &DeviceError{Text: withRemedy(text)}
}

// CreateNodes creates missing device nodes.
func (w *Workers) CreateNodes(ctx context.Context) error { return w.hardware.Nodes(ctx) }

// Backends returns the GPU backends of this build.
func (w *Workers) Backends() []string { return w.hardware.Backends() }

// ListDevices lists the devices in a process that is not confined.
func (w *Workers) ListDevices(ctx context.Context) (DeviceList, error) {
	return w.listDevices(ctx, nil, nil)
}

// listDevices is ListDevices with the devices of workers, to which there are connections.
func (w *Workers) listDevices(
	ctx context.Context, workers []string, connections []*os.File,
) (list DeviceList, err error) {
	cmd, _, err := w.command(quiet(FlagDevices, "--"+FlagRPC, rpc.FormatAddresses(workers))...)
	if err != nil {
		return list, err
	}
	cmd.ExtraFiles = connections

	ctx, cancel := context.WithTimeout(ctx, driverTime)
	defer cancel()
	out, said, err := worker.Output(ctx, cmd, cmd.Start)
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", driverTime)
	}
	if err != nil {
		who := "the GPU driver"
		if slices.ContainsFunc(said, rpcLost.MatchString) {
			who = "a worker of --rpc"
		}
		text := fmt.Sprintf("%s cannot list its devices: %v%s", who, err, JoinWarnings(said))
		return list, &DeviceError{Text: withRemedy(text)}
	}
	return list, nil
}

// gpuBackendOf has the backend for a vendor's GPUs.
var gpuBackendOf = map[machine.Vendor]string{machine.NVIDIA: "CUDA", machine.AMD: "Vulkan", machine.Intel: "Vulkan"}

// UnusedGPU is a GPU that this build does not use.
type UnusedGPU struct {
	What   string
	Advice string
	Broken bool // the build was made for it
}

// UnusedGPU returns a GPU of this machine that is not in a list of devices, if there is one
// that could be used.
func (w *Workers) UnusedGPU(list DeviceList) (u UnusedGPU, found bool) {
	backends := w.hardware.Backends()
	for _, g := range w.hardware.GPUs() {
		if len(backends) == 0 {
			u.What = fmt.Sprintf("the %s is not used: this build runs on the CPU only", g)
			backend := strings.ToUpper(gpuBackendOf[g.Vendor])
			u.Advice = fmt.Sprintf("build serve for it with make %s=1; see docs/gpu.md", backend)
			return u, true
		}

		if g.Vendor == machine.NVIDIA && slices.Contains(backends, "CUDA") && !hasBackend(list.GPUs(), "CUDA") {
			u.What = fmt.Sprintf("the %s is not used: CUDA finds no device%s", g, JoinWarnings(list.Warnings))
			u.Advice = w.nvidiaAdvice()
			u.Broken = true
			return u, true
		}
	}
	return u, false
}

// hasBackend reports whether a list has devices of a backend: they are named after it, with a
// number.
func hasBackend(list []llama.Device, backend string) bool {
	return slices.ContainsFunc(list, func(d llama.Device) bool { return strings.HasPrefix(d.Name, backend) })
}

// nvidiaAdvice returns advice for a card that CUDA does not find.
func (w *Workers) nvidiaAdvice() string {
	for _, pair := range slices.Backward(w.environ) {
		if strings.HasPrefix(pair, "CUDA_VISIBLE_DEVICES=") {
			return pair + " hides the GPUs that it does not name"
		}
	}
	return "nvidia-smi shows whether the driver works; a container must be given the devices (--gpus all)"
}

// computing returns the devices that compute a model: the GPUs with memory in the plan, and the
// CPU unless all layers are on those.
func computing(devices []llama.Device, memory *llama.Memory, gpuLayers int) (list []llama.Device) {
	taken := map[string]bool{}
	for _, d := range memory.Devices[:len(memory.Devices)-1] {
		taken[d.Name] = d.Weights+d.KV > 0 // a driver's context alone does not count
		if d.Type == "meta" && taken[d.Name] {
			for _, part := range devices {
				taken[part.Name] = true // each has a part of every tensor
			}
		}
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

// whyCPU returns why a model that these devices compute does not use this machine's GPUs; empty if there are none or
// one is used.
func (l *Loader) whyCPU(devices []llama.Device) string {
	if slices.ContainsFunc(devices, llama.Device.GPU) {
		return ""
	}

	l.gpus.mu.Lock()
	seen := l.gpus.list.GPUs()
	l.gpus.mu.Unlock()
	switch {
	case len(l.o.Hardware.GPUs()) == 0 && len(seen) == 0:
		return ""
	case l.o.Model.cpuOnly():
		if l.o.Model.noDevices() {
			return "the GPU is turned off by --device none"
		}
		return "the GPU is turned off by --gpu-layers 0"
	case len(l.o.Hardware.Backends()) == 0 && len(seen) == 0:
		return "this build has no GPU backend"
	case len(seen) == 0:
		return "no driver reports the GPU"
	}
	return "no layers are on " + DescribeDevices(seen)
}

package loader

import (
	"context"
	"os"
	"time"

	"serve/engine/llama"
	"serve/kernels"
	"serve/machine"
	"serve/sandbox"
)

// Hardware is the interface to devices, their drivers and the CPU's kernels. Native returns this
// machine's; tests simulate drivers.
type Hardware struct {
	Backends func() []string                 // for GPUs, of this build
	Devices  func() ([]llama.Device, error)  // that drivers report to this process
	Warnings func() []string                 // of those drivers
	GPUs     func() []machine.GPU            // of this machine, whatever drivers report
	Nodes    func(ctx context.Context) error // creates missing device nodes
	Prepare  func() error                    // makes this process ready for drivers

	// LoadCUBLAS loads a library that CUDA needs for some models.
	LoadCUBLAS func() error

	// AddRPC adds the devices of a worker, to which this process has a connection.
	AddRPC func(address string, descriptor int) error

	// Probe tests one of the devices, by its index.
	Probe func(device int, before func(act string)) (free, total uint64, err error)

	// UseKernels makes this process use the named kernels.
	UseKernels func(name string) error

	// TimeKernels times kernels with parts of a model's weights.
	TimeKernels func(paths []string, o llama.Options, names []string, trying func(string)) ([]kernels.Timing, error)

	// CheckKernels compares what the kernels in use compute with exact results.
	CheckKernels func(llama.CheckOptions) error

	// Variables name what is in the environment of engines' processes besides what package sandbox lets through:
	// for simulated drivers, which run there too.
	Variables []string
}

// nodesTime is how long loading a driver and creating its device nodes may take.
const nodesTime = 20 * time.Second

// Native returns the hardware of this machine.
func Native() *Hardware {
	root := os.DirFS("/")
	nodes := func(ctx context.Context) error {
		return machine.CreateNodes(ctx, root, "nvidia-modprobe", nodesTime)
	}
	return &Hardware{
		Backends:     llama.GPUBackends,
		Devices:      llama.Devices,
		Warnings:     llama.Warnings,
		GPUs:         func() []machine.GPU { return machine.GPUs(root) },
		Nodes:        nodes,
		Prepare:      sandbox.SetDriverEnviron,
		LoadCUBLAS:   llama.LoadCUBLAS,
		AddRPC:       llama.AddRPC,
		Probe:        llama.Probe,
		UseKernels:   llama.UseKernels,
		TimeKernels:  llama.TimeKernels,
		CheckKernels: llama.CheckKernels,
	}
}

// listDevices lists the devices that this process can use.
func (h *Hardware) listDevices() (list DeviceList, err error) {
	list.Devices, err = h.Devices()
	list.Warnings = h.Warnings()
	return list, err
}

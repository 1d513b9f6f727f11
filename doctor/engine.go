package doctor

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"serve/engine/llama"
	"serve/kernels"
	"serve/loader"
	"serve/machine"
)

// kernels reports which kernels this CPU can run, which of them failed, and the measurements.
func (e *examination) kernels(context.Context) []Finding {
	var runs, lacks []string
	for _, k := range llama.Kernels() {
		if k.Score > 0 {
			runs = append(runs, k.Name)
		} else {
			lacks = append(lacks, k.Name)
		}
	}
	if len(runs) == 0 {
		return one("kernels", Broken, "this CPU can run none of the kernels in this build: "+strings.Join(lacks, ", "),
			"build serve on this machine with make NATIVE=1")
	}

	f := Finding{About: "kernels", Severity: Fine, Seen: "this CPU runs " + strings.Join(runs, ", ")}
	if len(lacks) > 0 {
		f.Seen += "; it lacks instructions for " + strings.Join(lacks, ", ")
	}
	return append([]Finding{f}, e.measuredKernels()...)
}

// measuredKernels reports the record of kernels.
func (e *examination) measuredKernels() (list []Finding) {
	record, _ := loader.OpenRecord(e.Store.Home, 0) // a record that cannot be read is measured again
	refused := record.Refused()
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		why := refused[name]
		seen := fmt.Sprintf("%s is not used: %s, with %s, %s",
			name, why.Reason, why.Model, why.Time.Format(time.DateOnly))
		do := "nothing to do: other kernels are used; to try it again, remove " +
			filepath.Join(e.Store.Home, loader.KernelsFile)
		list = append(list, Finding{"kernels", Warning, seen, do})
	}

	for shape, timings := range record.All() {
		text := ""
		for _, t := range timings {
			text += fmt.Sprintf("; %s: %s", t.Kernels, loader.DescribeTiming(t))
		}
		list = append(list, Finding{About: "kernels", Severity: Fine, Seen: "measured with " + shape + text})
	}
	return list
}

// repairKernels is the advice for wrong results.
const repairKernels = "choose others with --kernels (serve doctor --kernels all checks each), " +
	"or build serve with another compiler; and report this message"

// results checks the kernels that models use.
func (e *examination) results(ctx context.Context) (list []Finding) {
	for _, name := range e.kernelsToCheck() {
		report, err := e.workers.CheckKernels(ctx, name)
		f := kernelFinding(name, report)
		if err != nil {
			f = Finding{"results", Broken, fmt.Sprintf("%s: the check did not finish: %v", name, err), repairKernels}
		}
		list = append(list, f)
	}
	return list
}

// kernelsToCheck returns the requested kernels: with auto the fastest ones for each model that was
// measured on this machine, or those that the first model will try.
func (e *examination) kernelsToCheck() (names []string) {
	switch e.Kernels {
	case loader.AutoKernels:
		record, _ := loader.OpenRecord(e.Store.Home, 0)
		usable := kernels.Usable(llama.Kernels(), record.Refused())
		for _, timings := range record.All() {
			names = append(names, kernels.Order(usable, timings)[:min(1, len(usable))]...)
		}
		if len(names) == 0 {
			names = usable[:min(1, len(usable))]
		}
		slices.Sort(names)
		return slices.Compact(names)
	case AllKernels:
		return kernels.Usable(llama.Kernels(), nil)
	}
	return []string{e.Kernels}
}

// shownKernels is the maximum number of kernels in a line.
const shownKernels = 5

// kernelFinding summarizes a report: what is wrong, or the largest error.
func kernelFinding(name string, r loader.KernelReport) Finding {
	types := map[string]bool{}
	worst := llama.KernelCheck{}
	wrong := r.Crashes
	for _, k := range r.Checks {
		kind, _, _ := strings.Cut(k.Kernel, " ")
		types[kind] = true
		if k.Difference/k.Tolerance >= worst.Difference/worst.Tolerance || worst.Kernel == "" {
			worst = k
		}
		switch {
		case !k.Finite:
			wrong = append(wrong, fmt.Sprintf("%s: not a number at %d rows", k.Kernel, k.Rows))
		case !k.Right():
			wrong = append(wrong, fmt.Sprintf("%s: off by %.1e at %d rows (limit %.1e)",
				k.Kernel, k.Difference, k.Rows, k.Tolerance))
		}
	}

	if len(wrong) > shownKernels {
		wrong = append(wrong[:shownKernels:shownKernels], fmt.Sprintf("and %d more", len(wrong)-shownKernels))
	}
	switch {
	case len(wrong) > 0:
		seen := name + " gives wrong results on this CPU: " + strings.Join(wrong, "; ")
		return Finding{"results", Broken, seen, repairKernels}
	case len(types) == 0:
		return Finding{"results", Broken, name + " produced no results", repairKernels}
	}
	seen := fmt.Sprintf("%s: correct for %d weight types (largest error %.1e in %s, limit %.1e)",
		name, len(types), worst.Difference, worst.Kernel, worst.Tolerance)
	return Finding{About: "results", Severity: Fine, Seen: seen}
}

// devices looks for GPUs, and tests each device in a process that is confined like an engine.
func (e *examination) devices(ctx context.Context) []Finding {
	const driversTool = "check whether the driver's own tool works, such as nvidia-smi; if it does, report this message"
	var outside loader.DeviceList
	if len(e.workers.Backends()) > 0 {
		if err := e.workers.CreateNodes(ctx); err != nil {
			return one("gpu", Broken, "NVIDIA's device nodes are missing: "+err.Error(), "run nvidia-modprobe -u -c=0 as root")
		}
		list, err := e.workers.ListDevices(ctx)
		if err != nil {
			return one("gpu", Broken, err.Error(), driversTool)
		}
		outside = list
	}

	seen, results, err := e.workers.ProbeDevices(ctx)
	if err != nil {
		return one("gpu", Broken, err.Error(), driversTool)
	}
	return e.deviceFindings(outside, seen, results)
}

// deviceFindings reports the devices seen outside and inside of the sandbox.
func (e *examination) deviceFindings(outside, seen loader.DeviceList, results []loader.DeviceResult) (list []Finding) {
	for _, r := range results {
		list = append(list, deviceFinding(r))
	}

	if seen.NoCUBLAS != "" {
		list = append(list, Finding{"cublas", Warning, seen.NoCUBLAS,
			"put libcublas and libcublasLt into lib beside the program, or install the CUDA toolkit: " +
				"models with weights that are not quantized need them on the GPU (docs/gpu.md)"})
	}

	if missing := seen.Missing(outside.GPUs()); len(missing) > 0 {
		text := loader.DescribeDevices(missing) + " is on this machine, but not visible in the sandbox"
		list = append(list, Finding{"gpu", Broken, text + loader.JoinWarnings(seen.Warnings),
			"start serve with --isolate=false, which runs models without a sandbox, and report this message"})
	}

	all := loader.DeviceList{
		Devices:  append(outside.GPUs(), seen.GPUs()...),
		Warnings: slices.Concat(outside.Warnings, seen.Warnings),
	}
	if u, found := e.workers.UnusedGPU(all); found {
		f := Finding{"gpu", Warning, u.What, u.Advice}
		if u.Broken {
			f.Severity = Broken
		}
		return append(list, f)
	}
	if len(all.Devices) == 0 {
		list = append(list, Finding{About: "gpu", Severity: Fine,
			Seen: "none that this build can use; models run on the CPU"})
	}
	return list
}

// deviceFinding reports the result of testing a device.
func deviceFinding(r loader.DeviceResult) Finding {
	name := fmt.Sprintf("%s %s", r.Device.Name, strings.TrimSpace(r.Device.Description))
	f := Finding{About: "gpu", Severity: Fine}
	f.Seen = fmt.Sprintf("%s, %s free: initializes, allocates and computes in the sandbox",
		name, machine.FormatSize(r.Free))
	if !r.Device.GPU() {
		f.About = "compute"
		f.Seen = name + ": works in the sandbox"
	}

	if r.Failed != "" {
		f.Severity = Broken
		f.Seen = fmt.Sprintf("%s cannot be used: %s", name, r.Failed)
		f.Do = "check whether the driver's own tool works, and whether this build has code for the device (docs/gpu.md); " +
			"--gpu-layers 0 uses the CPU"
	}
	return f
}

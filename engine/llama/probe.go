package llama

// #include "shim.h"
import "C"

import (
	"fmt"
	"strings"
)

// GPUBackends names the GPU backends that llama.cpp was built with: CUDA, Vulkan, Metal.
// It asks no driver.
func GPUBackends() []string {
	names := C.GoString(C.serve_gpu_backends())
	if names == "" {
		return nil
	}
	return strings.Split(names, ",")
}

// Acts that Probe tries on a device, one after another.
const (
	ActInit     = "init"
	ActAllocate = "allocate"
	ActCompute  = "compute"
)

// Probe initializes a device, a Device of Devices by its index, takes a little of its
// memory, and computes. It says before each act what comes, since a driver may end the
// process. It returns the device's memory in bytes, 0 for what is unknown.
func Probe(device int, before func(act string)) (free, total uint64, err error) {
	initialize()
	var e C.serve_error

	before(ActInit)
	p := C.serve_probe_open(C.size_t(device), &e)
	if err := goError(&e); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", ActInit, err)
	}
	defer C.serve_probe_close(p)

	before(ActAllocate)
	var f, t C.uint64_t
	C.serve_probe_memory(p, &f, &t)
	C.serve_probe_allocate(p, &e)
	if err := goError(&e); err != nil {
		return uint64(f), uint64(t), fmt.Errorf("%s: %w", ActAllocate, err)
	}

	before(ActCompute)
	C.serve_probe_compute(p, &e)
	if err := goError(&e); err != nil {
		return uint64(f), uint64(t), fmt.Errorf("%s: %w", ActCompute, err)
	}
	return uint64(f), uint64(t), nil
}

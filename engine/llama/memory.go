package llama

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"encoding/json"
	"fmt"
	"runtime/debug"
	"unsafe"
)

// Memory is what loading a model would take.
type Memory struct {
	Generates bool           // the model writes text
	Devices   []DeviceMemory // the host last
}

// Host is the main memory's share.
func (m *Memory) Host() *DeviceMemory { return &m.Devices[len(m.Devices)-1] }

// DeviceMemory is one device's share, in bytes.
type DeviceMemory struct {
	Name    string `json:"name"`
	Type    string `json:"type"`    // as Device has it, or meta: all GPUs, which split each tensor
	Unified bool   `json:"unified"` // its memory is the host's
	Free    uint64 `json:"free"`
	Total   uint64 `json:"total"` // 0 with Free 0: the device does not say
	Weights uint64 `json:"weights"`
	KV      uint64 `json:"kv"`
	Compute uint64 `json:"compute"` // graphs and logits
	// Base is what is taken besides: tables of the vocabulary, a process, a driver's context.
	Base uint64 `json:"base"`
	// Later comes with an embedding model's longest inputs, and with the first embedding that is
	// asked of a model that generates.
	Later uint64 `json:"later"`
	// Saved is for sequences that are saved: of the host's memory, not the process's.
	Saved uint64 `json:"saved"`
}

// Needs returns the bytes that are taken of the device once the model answers.
func (d DeviceMemory) Needs() uint64 { return d.Weights + d.KV + d.Compute + d.Base }

// Most returns the bytes that may ever be taken of the device.
func (d DeviceMemory) Most() uint64 { return d.Needs() + d.Later + d.Saved }

// Measure computes the memory that Load would take with the same options, device by
// device, from the file's header: llama.cpp lays everything out without allocating.
func Measure(path string, o Options) (*Memory, error) {
	mo := o.Model
	mo.layout = true
	before := uint64(C.serve_heap())
	m, err := LoadModel(path, mo)
	if err != nil {
		return nil, err
	}
	defer m.Close()

	tables := tableMemory(m.info.Vocabulary, before)
	memory := &Memory{Generates: m.info.generates()}
	embedding, err := m.layOut(o.embeddingContext(&m.info))
	switch {
	case !memory.Generates:
		memory.Devices = embedding
	case err == nil:
		memory.Devices, err = m.layOut(o.contextOptions(m))
		for i := range memory.Devices {
			memory.Devices[i].Later = embedding[i].KV + embedding[i].Compute + embedding[i].Later
		}
	default: // it cannot embed, and says so when it is asked to
		memory.Devices, err = m.layOut(o.contextOptions(m))
	}
	if err != nil {
		return nil, fmt.Errorf("measure model %q: %w", path, err)
	}
	memory.Host().Base += tables

	if o.Projector != "" {
		err = memory.addProjector(o.Projector, o.projectorDevice())
	}
	return memory, err
}

// tableMemory is what a model's vocabulary takes: that of a model without weights, which has all
// of it on the heap. before is what was there before it was loaded.
func tableMemory(vocabulary int, before uint64) uint64 {
	const (
		inC  = 600 // bytes of a token, where the heap does not say: its text, three tables, two merges
		inGo = 64  // engine.ModelInfo's Pieces and Special
	)
	if now := uint64(C.serve_heap()); now > before {
		return now - before + inGo*uint64(vocabulary)
	}
	return (inC + inGo) * uint64(vocabulary)
}

// layOut computes what the model and a context of it take.
func (m *Model) layOut(o ContextOptions) ([]DeviceMemory, error) {
	params, err := o.c()
	if err != nil {
		return nil, err
	}
	var e C.serve_error
	text := goString(C.serve_memory(m.c, params, &e))
	if err := goError(&e); err != nil {
		return nil, fmt.Errorf("measure a context of %d cells: %w", o.Cells, err)
	}
	var devices []DeviceMemory
	if err := json.Unmarshal([]byte(text), &devices); err != nil {
		return nil, err
	}

	// llama.cpp's layout leaves out the rows that come of a step. A context of embeddings has one
	// for each token, with its logits: first as many as sequences, more when an input is longer.
	host := &devices[len(devices)-1]
	width := uint64(m.info.Vocabulary) * 4
	if o.Embeddings {
		width += uint64(m.info.EmbeddingOut) * 4
		host.Later = uint64(max(0, o.Batch-o.Sequences)) * width
	}
	host.Compute += uint64(o.Sequences) * width
	return devices, nil
}

// addProjector adds what a projector takes to what a model does.
func (m *Memory) addProjector(path string, on ProjectorDevice) error {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	device := on.c()
	defer C.free(unsafe.Pointer(device))
	var e C.serve_error
	text := goString(C.serve_projector_memory(cpath, C.bool(on.GPU), device, &e))
	if err := goError(&e); err != nil {
		return fmt.Errorf("measure projector %q: %w", path, err)
	}

	var devices []struct {
		Name  string `json:"name"`
		Bytes uint64 `json:"bytes"`
	}
	if err := json.Unmarshal([]byte(text), &devices); err != nil {
		return err
	}

	for _, d := range devices {
		at := m.Host() // a device without layers: its memory is the host's, as far as we know
		for i := range m.Devices {
			if m.Devices[i].Name == d.Name {
				at = &m.Devices[i]
			}
		}
		at.Weights += d.Bytes
	}

	return nil
}

// FreeMemory returns the bytes that a device of Memory has free now; 0 where nobody knows. It
// opens the driver's context in this process.
func FreeMemory(device string) uint64 {
	name := C.CString(device)
	defer C.free(unsafe.Pointer(name))
	return uint64(C.serve_free_memory(name))
}

// Trim gives what was freed, by C and by Go, back to the system. A layout and a load leave
// much of it behind: two copies of a large vocabulary's hash tables.
func Trim() {
	debug.FreeOSMemory()
	C.serve_trim()
}

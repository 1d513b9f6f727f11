package llama

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"net"
	"strings"
	"unsafe"
)

// HasRPC reports whether this build has ggml's RPC backend.
func HasRPC() bool { return bool(C.serve_rpc()) }

// AddRPC adds the devices that a worker, a process elsewhere, offers over a connection, whose descriptor is llama.cpp's
// from then on. They are named RPC0, RPC1 and so on, in the order of the calls. A worker that does not answer, now or
// later, ends the process.
func AddRPC(address string, descriptor int) error {
	initialize()
	name := C.CString(rpcName(address))
	defer C.free(unsafe.Pointer(name))
	var e C.serve_error
	C.serve_rpc_add(name, C.int32_t(descriptor), &e)
	return goError(&e)
}

// rpcName returns an address as ggml reads it: its only colon is before the port.
func rpcName(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return strings.ReplaceAll(host, ":", "-") + ":" + port
}

// RPCMemory is what a client may take of a worker, in bytes.
type RPCMemory struct {
	Limit     uint64 // of each device; 0 for what it has free
	Available uint64 // of main memory
	Total     uint64 // of main memory
}

// WorkRPC offers this process's devices to the client of a connection: its GPUs, or without any the CPU. The process
// ends when the connection is closed; WorkRPC returns only an error. The client is trusted: it can make this process do
// anything.
func WorkRPC(descriptor int, threads int, m RPCMemory) error {
	initialize()
	memory := C.serve_rpc_budget{
		limit:     C.uint64_t(m.Limit),
		available: C.uint64_t(m.Available),
		total:     C.uint64_t(m.Total),
	}
	if threads == 0 {
		threads = Threads()
	}
	var e C.serve_error
	C.serve_rpc_work(C.int32_t(descriptor), C.int32_t(threads), memory, &e)
	return goError(&e)
}

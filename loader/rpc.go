package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"serve/engine/llama"
	"serve/flagset"
	"serve/machine"
	"serve/rpc"
	"serve/sandbox"
	"serve/worker"
)

// Connect opens a connection to each of the workers at these addresses. An rpc.Dialer's does.
type Connect func(ctx context.Context, addresses []string) ([]*os.File, error)

// rpcDevices are the devices of a worker, in a request: the process that reads it has the connection.
type rpcDevices struct {
	Address    string
	Descriptor int
}

// isRPC reports whether a device belongs to another process.
func isRPC(d llama.Device) bool { return strings.HasPrefix(d.Name, "RPC") }

// ownGPUs reports whether there is a GPU that an engine's process drives itself.
func ownGPUs(list []llama.Device) bool {
	return slices.ContainsFunc(list, func(d llama.Device) bool { return !isRPC(d) })
}

// checkRPC refuses options that workers contradict.
func (o *ModelOptions) checkRPC() error {
	switch {
	case len(o.RPC) == 0:
		return nil
	case !llama.HasRPC():
		return badOption("--rpc: this build has no RPC backend; it is for Linux")
	case o.Reproducible:
		return badOption("--reproducible cannot be held on the devices of --rpc, whose sums depend on the batch")
	case o.noDevices():
		return badOption("--rpc adds devices, and --device none leaves them alone")
	case o.cpuOnly():
		return badOption("--rpc adds devices, and --gpu-layers 0 leaves them alone")
	}
	return nil
}

// connect connects to the workers of --rpc; none without that flag.
func (o *ModelOptions) connect(ctx context.Context, connect Connect) ([]*os.File, error) {
	if len(o.RPC) == 0 {
		return nil, nil
	}
	if connect == nil {
		return nil, badOption("--rpc is of no use here")
	}
	list, err := connect(ctx, o.RPC)
	if errors.Is(err, rpc.ErrOffline) {
		return nil, badOption("%v", err)
	}
	if err != nil {
		device := &DeviceError{Text: err.Error(), Todo: "without --rpc the model runs on this machine's own devices"}
		var known interface{ Hint() string }
		if errors.As(err, &known) {
			device.Text += "; " + known.Hint() // clients are shown no hints
		}
		return nil, device
	}
	return list, nil
}

// handed returns the workers for a process whose first connection to one has a descriptor.
func (o *ModelOptions) handed(first int) (list []rpcDevices) {
	for i, address := range o.RPC {
		list = append(list, rpcDevices{address, first + i})
	}
	return list
}

// closeAll closes this process's ends of what another one has been handed.
func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// addRPC adds the devices of workers to this process's.
func (h *Hardware) addRPC(list []rpcDevices) error {
	for _, d := range list {
		if err := h.AddRPC(d.Address, d.Descriptor); err != nil {
			return &DeviceError{Text: fmt.Sprintf("the RPC device at %s: %v", d.Address, err)}
		}
	}
	return nil
}

// rpcLost matches ggml's messages before it ends a process that has lost a worker, or that does not understand it.
var rpcLost = regexp.MustCompile(`Remote RPC server crashed|RPC handshake failed|RPC server version mismatch`)

// parseRPC reads what ListDevices and WriteDevices tell each other.
func parseRPC(text string) ([]rpcDevices, error) {
	addresses, err := rpc.ParseAddresses(text)
	o := ModelOptions{RPC: addresses}
	return o.handed(firstRPC), err
}

// firstRPC is the descriptor of the first connection to a worker in a process that has no other files, and the one of
// a worker's client.
const firstRPC = 3

// RPCOptions are the options of a worker.
type RPCOptions struct {
	Memory  uint64 // that a client may take of each device; 0 for what is free
	Threads int    // of the CPU; 0 for one per physical core
}

// Declare declares the flags of serve rpc that concern its devices.
func (o *RPCOptions) Declare(f flagset.Set) {
	flagset.Parsed(f, &o.Memory, "memory", "size", flagset.ParseSize, formatMemory,
		"maximum memory that a client may take of each device; by default what is free")
	flagset.Number(f, &o.Threads, "threads", 0, flagset.Within(0, 512),
		"number of compute threads; 0 for one per physical core")
}

func formatMemory(n uint64) string {
	if n == 0 {
		return ""
	}
	return flagset.FormatSize(n)
}

// rpcWork tells a worker's process what it may give to its client.
type rpcWork struct {
	Threads int
	Memory  llama.RPCMemory
}

// WorkRPC runs a process, confined like an engine, that lets the client of a connection use this machine's devices. It
// closes its own end, and returns when the client has closed the connection, or ctx has ended.
func (w *Workers) WorkRPC(ctx context.Context, connection *os.File, o RPCOptions, log io.Writer) error {
	defer connection.Close() // again is harmless

	cmd, cache, err := w.command(quiet(FlagRPCWorker)...)
	if err != nil {
		return err
	}
	total := machine.Memory()
	if limit := machine.MemoryLimit(); limit > 0 {
		total = min(total, limit)
	}
	stdin, err := cmd.StdinPipe() // closed when this process ends, however it does
	if err != nil {
		return err
	}
	defer stdin.Close()
	work := rpcWork{o.Threads, llama.RPCMemory{
		Limit:     o.Memory,
		Available: machine.FreeMemory(),
		Total:     total,
	}}
	cmd.ExtraFiles = []*os.File{connection}

	child, err := worker.Start(cmd, worker.NewLog(log), func() error { return sandbox.Start(cmd, w.rules(cache)) })
	connection.Close() // so that the client notices when that process ends
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdin).Encode(work); err != nil {
		child.Kill(false)
	}
	stop := context.AfterFunc(ctx, func() { child.Kill(false) })
	defer stop()
	if exit := child.Wait(); exit.Fault {
		return fmt.Errorf("its process ended (%s)%s", exit.How, JoinWarnings(exit.Log[max(0, len(exit.Log)-3):]))
	}
	return nil
}

// ServeRPC lets a client use this process's devices, in the process that Workers.WorkRPC starts.
func ServeRPC(in io.Reader) error {
	var q rpcWork
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return errParent(err)
	}
	if err := sandbox.Seal(); err != nil {
		fmt.Fprintln(os.Stderr, "warning: not confined:", oneLine(err))
	}

	// A client must not keep devices that nobody offers any more.
	go func() {
		_, _ = io.Copy(io.Discard, in)
		os.Exit(0)
	}()
	return llama.WorkRPC(firstRPC, q.Threads, q.Memory)
}

// addWorkers adds the devices of workers to this process's, which plans and loads nothing.
func (o *ModelOptions) addWorkers(ctx context.Context, connect Connect) error {
	connections, err := o.connect(ctx, connect)
	if err != nil {
		return err
	}
	defer closeAll(connections)

	for i, c := range connections {
		descriptor, err := syscall.Dup(int(c.Fd()))
		if err != nil {
			return err
		}
		if err := llama.AddRPC(o.RPC[i], descriptor); err != nil {
			return err
		}
	}
	return nil
}

// Offered returns the devices that WorkRPC offers: GPUs, or without any the CPU.
func (w *Workers) Offered(ctx context.Context) ([]llama.Device, error) {
	list, err := w.ListDevices(ctx)
	if err != nil {
		return nil, err
	}
	if gpus := list.GPUs(); len(gpus) > 0 {
		return gpus, nil
	}
	return slices.DeleteFunc(list.Devices, func(d llama.Device) bool { return d.Type != "cpu" }), nil
}

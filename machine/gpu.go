// Package machine says what this machine has, as its system tells it: no driver is asked
// or woken.
package machine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Vendor is who makes a GPU.
type Vendor string

// Vendors whose GPUs llama.cpp can use.
const (
	NVIDIA Vendor = "NVIDIA"
	AMD    Vendor = "AMD"
	Intel  Vendor = "Intel"
)

// vendors are the numbers that a PCI bus knows them by.
var vendors = map[string]Vendor{"0x10de": NVIDIA, "0x1002": AMD, "0x8086": Intel}

// GPU is a card, whether or not a driver works with it.
type GPU struct {
	Vendor Vendor
	Where  string // its address on the bus, or the file that shows it
}

// String names it for a person.
func (g GPU) String() string { return fmt.Sprintf("%s GPU (%s)", g.Vendor, g.Where) }

// signs are files that only machines with such a GPU have, where no bus lists it: other
// systems' windows to it, and a container that is shown the devices and not the bus.
var signs = []GPU{
	{NVIDIA, "/dev/nvidia0"},
	{NVIDIA, "/proc/driver/nvidia/gpus"},
	{NVIDIA, "/usr/lib/wsl/lib/libcuda.so.1"},
	{NVIDIA, "/dev/nvhost-gpu"}, // Jetson
	{NVIDIA, "/dev/nvmap"},      // Jetson, too
	{AMD, "/dev/kfd"},
}

// maxDevices is how many devices of a bus are looked at.
const maxDevices = 4096

// GPUs lists the GPUs of the machine whose file system that is, by vendor and address.
// Displays without a processor for models, those of servers and virtual machines, are none.
func GPUs(root fs.FS) []GPU {
	const bus = "sys/bus/pci/devices"
	var list []GPU

	devices, _ := fs.ReadDir(root, bus) // where there is no such bus, none is on it
	for _, d := range devices[:min(len(devices), maxDevices)] {
		class := fact(root, path.Join(bus, d.Name(), "class"))
		vendor, known := vendors[fact(root, path.Join(bus, d.Name(), "vendor"))]
		if known && strings.HasPrefix(class, "0x03") {
			list = append(list, GPU{vendor, d.Name()})
		}
	}

	for _, sign := range signs {
		if _, err := fs.Stat(root, sign.Where[1:]); err == nil && !Has(list, sign.Vendor) {
			list = append(list, sign)
		}
	}

	slices.SortFunc(list, func(a, b GPU) int {
		return cmp.Or(cmp.Compare(a.Vendor, b.Vendor), cmp.Compare(a.Where, b.Where))
	})
	return list
}

// Has reports whether one of the GPUs is a vendor's.
func Has(list []GPU, vendor Vendor) bool {
	return slices.ContainsFunc(list, func(g GPU) bool { return g.Vendor == vendor })
}

// fact reads a file of one short line; empty if it cannot be read.
func fact(root fs.FS, name string) string {
	f, err := root.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()

	var line [64]byte
	n, _ := f.Read(line[:])
	return strings.TrimSpace(string(line[:n]))
}

// maxNodes is how many GPUs get device nodes.
const maxNodes = 32

// CreateNodes has a program, nvidia-modprobe, load NVIDIA's driver and make the device
// nodes that CUDA needs, if one of them is missing. CUDA runs the program itself, but it
// is setuid, and so does nothing in a process that can gain no privileges. It takes at
// most so long.
func CreateNodes(ctx context.Context, root fs.FS, program string, patience time.Duration) error {
	cards := slices.DeleteFunc(GPUs(root), func(g GPU) bool { return g.Vendor != NVIDIA })
	if len(cards) == 0 || !nodesMissing(root, len(cards)) {
		return nil
	}

	found, err := exec.LookPath(program)
	if err != nil {
		return nil // as in most containers, where the host makes them
	}

	args := []string{"-u"}
	for i := range min(len(cards), maxNodes) {
		args = append(args, "-c="+strconv.Itoa(i))
	}

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, found, args...)
	cmd.WaitDelay = time.Second // should it leave others behind with its output
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%s did not end within %s", program, patience)
	case err != nil:
		return fmt.Errorf("%s: %w: %s", program, err, firstLine(out))
	}
	return nil
}

// nodesMissing reports whether a device node of so many cards is not there. WSL and Jetson
// have others.
func nodesMissing(root fs.FS, cards int) bool {
	for _, other := range []string{"dev/dxg", "dev/nvmap", "dev/nvhost-gpu"} {
		if _, err := fs.Stat(root, other); err == nil {
			return false
		}
	}

	nodes := []string{"dev/nvidiactl", "dev/nvidia-uvm"}
	for i := range min(cards, maxNodes) {
		nodes = append(nodes, "dev/nvidia"+strconv.Itoa(i))
	}
	return slices.ContainsFunc(nodes, func(node string) bool {
		_, err := fs.Stat(root, node)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// firstLine is the beginning of what a program has said, for a message of one line.
func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line[:min(len(line), 200)]
}

// Package machine returns facts about this machine from the operating system, without
// querying or waking drivers.
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

// Vendor is the manufacturer of a GPU.
type Vendor string

// Vendors whose GPUs llama.cpp can use.
const (
	NVIDIA Vendor = "NVIDIA"
	AMD    Vendor = "AMD"
	Intel  Vendor = "Intel"
)

// vendors has the vendors by their PCI IDs.
var vendors = map[string]Vendor{"0x10de": NVIDIA, "0x1002": AMD, "0x8086": Intel}

// GPU is a card, whether or not a driver supports it.
type GPU struct {
	Vendor Vendor
	Where  string // its address on the bus, or the file that reveals it
}

// String returns a name to display.
func (g GPU) String() string { return fmt.Sprintf("%s GPU (%s)", g.Vendor, g.Where) }

// signs are files that exist only on machines with such a GPU, for GPUs that no bus
// lists: under WSL, on Jetson, and in containers that have the devices but not the bus.
var signs = []GPU{
	{NVIDIA, "/dev/nvidia0"},
	{NVIDIA, "/proc/driver/nvidia/gpus"},
	{NVIDIA, "/usr/lib/wsl/lib/libcuda.so.1"},
	{NVIDIA, "/dev/nvhost-gpu"}, // Jetson
	{NVIDIA, "/dev/nvmap"},      // Jetson, too
	{AMD, "/dev/kfd"},
}

// maxDevices is how many devices of a bus are examined.
const maxDevices = 4096

// GPUs lists the GPUs of the machine with this root file system, by vendor and address.
// Display adapters that cannot run models, as in servers and virtual machines, are left out.
func GPUs(root fs.FS) []GPU {
	const bus = "sys/bus/pci/devices"
	var list []GPU

	devices, _ := fs.ReadDir(root, bus) // without such a bus there are none
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

// fact reads a file with one short line; it returns "" if the file cannot be read.
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

// CreateNodes runs a program, nvidia-modprobe, to load NVIDIA's driver and create the
// device nodes that CUDA needs, if one of them is missing. CUDA runs the program itself,
// but it is setuid, so it does nothing in a process that cannot gain privileges. patience
// limits how long it takes.
func CreateNodes(ctx context.Context, root fs.FS, program string, patience time.Duration) error {
	cards := slices.DeleteFunc(GPUs(root), func(g GPU) bool { return g.Vendor != NVIDIA })
	if len(cards) == 0 || !nodesMissing(root, len(cards)) {
		return nil
	}

	found, err := exec.LookPath(program)
	if err != nil {
		return nil // as in most containers, where the host creates them
	}

	args := []string{"-u"}
	for i := range min(len(cards), maxNodes) {
		args = append(args, "-c="+strconv.Itoa(i))
	}

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, found, args...)
	cmd.WaitDelay = time.Second // in case it leaves children that hold its output open
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%s did not end within %s", program, patience)
	case err != nil:
		return fmt.Errorf("%s: %w: %s", program, err, firstLine(out))
	}
	return nil
}

// nodesMissing reports whether a device node of this many cards is missing. WSL and Jetson
// have different ones.
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

// firstLine returns the beginning of a program's output, for a message of one line.
func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line[:min(len(line), 200)]
}

package machine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// bus is devices by their addresses, as class and vendor.
type bus map[string][2]string

// machineWith is a file system with devices on its bus, and files.
func machineWith(devices bus, files ...string) fstest.MapFS {
	root := fstest.MapFS{}
	for address, d := range devices {
		root["sys/bus/pci/devices/"+address+"/class"] = &fstest.MapFile{Data: []byte(d[0] + "\n")}
		root["sys/bus/pci/devices/"+address+"/vendor"] = &fstest.MapFile{Data: []byte(d[1] + "\n")}
	}
	for _, name := range files {
		root[name] = &fstest.MapFile{}
	}
	return root
}

var (
	nvidia  = [2]string{"0x030200", "0x10de"}
	audio   = [2]string{"0x040300", "0x10de"} // of a card with HDMI
	amd     = [2]string{"0x030000", "0x1002"}
	intel   = [2]string{"0x030000", "0x8086"}
	display = [2]string{"0x030000", "0x1a03"} // of a server's management
	network = [2]string{"0x020000", "0x8086"}
)

func TestGPUs(t *testing.T) {
	for _, c := range []struct {
		name string
		root fstest.MapFS
		want []GPU
	}{
		{"none", machineWith(nil), nil},
		{"a server", machineWith(bus{"0000:00:01.0": display, "0000:00:02.0": network}), nil},
		{"two cards", machineWith(bus{"0000:41:00.0": nvidia, "0000:01:00.0": nvidia, "0000:01:00.1": audio}),
			[]GPU{{NVIDIA, "0000:01:00.0"}, {NVIDIA, "0000:41:00.0"}}},
		{"a laptop", machineWith(bus{"0000:00:02.0": intel, "0000:03:00.0": amd}),
			[]GPU{{AMD, "0000:03:00.0"}, {Intel, "0000:00:02.0"}}},
		{"a container without the bus", machineWith(nil, "dev/nvidia0"), []GPU{{NVIDIA, "/dev/nvidia0"}}},
		{"a driver without nodes", machineWith(nil, "proc/driver/nvidia/gpus/0000:01:00.0/information"),
			[]GPU{{NVIDIA, "/proc/driver/nvidia/gpus"}}},
		{"on the bus and in /dev", machineWith(bus{"0000:01:00.0": nvidia}, "dev/nvidia0"), []GPU{{NVIDIA, "0000:01:00.0"}}},
		{"WSL", machineWith(nil, "dev/dxg", "usr/lib/wsl/lib/libcuda.so.1"),
			[]GPU{{NVIDIA, "/usr/lib/wsl/lib/libcuda.so.1"}}},
		{"Jetson", machineWith(nil, "dev/nvmap"), []GPU{{NVIDIA, "/dev/nvmap"}}},
		{"AMD's compute", machineWith(nil, "dev/kfd"), []GPU{{AMD, "/dev/kfd"}}},
	} {
		if got := GPUs(c.root); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}

	// And this machine's, whatever it has: addresses and vendors are there.
	for _, g := range GPUs(os.DirFS("/")) {
		if g.Vendor == "" || g.Where == "" {
			t.Errorf("%+v", g)
		}
	}
}

// TestCreateNodes runs the program when a node is missing, and only then.
func TestCreateNodes(t *testing.T) {
	two := bus{"0000:01:00.0": nvidia, "0000:41:00.0": nvidia}
	all := []string{"dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia0", "dev/nvidia1"}
	log := filepath.Join(t.TempDir(), "log")

	script := func(body string) string {
		path := filepath.Join(t.TempDir(), "nvidia-modprobe")
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$@\" >>"+log+"\n"+body+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	works := script("")

	for _, c := range []struct {
		name    string
		root    fstest.MapFS
		program string
		ran     string
		err     string
	}{
		{"no card", machineWith(bus{"0000:03:00.0": amd}), works, "", ""},
		{"all there", machineWith(two, all...), works, "", ""},
		{"one missing", machineWith(two, all[:3]...), works, "-u -c=0 -c=1\n", ""},
		{"all missing", machineWith(two), works, "-u -c=0 -c=1\n", ""},
		{"WSL has others", machineWith(nil, "dev/dxg", "usr/lib/wsl/lib/libcuda.so.1"), works, "", ""},
		{"no program", machineWith(two), filepath.Join(t.TempDir(), "none"), "", ""},
		{"it fails", machineWith(two), script("echo no module; echo more; exit 3"), "-u -c=0 -c=1\n",
			"exit status 3: no module"},
		{"it never ends", machineWith(two), script("exec sleep 1000"), "", "did not end"},
	} {
		os.Remove(log)
		patience := time.Minute
		if c.err == "did not end" {
			patience = time.Millisecond
		}
		err := CreateNodes(t.Context(), c.root, c.program, patience)
		ran, _ := os.ReadFile(log)
		if c.err == "did not end" {
			ran = nil // it may have come so far
		}
		if string(ran) != c.ran {
			t.Errorf("%s: ran %q, want %q", c.name, ran, c.ran)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}

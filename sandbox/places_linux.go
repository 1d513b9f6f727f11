package sandbox

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// place is what may be done with files under a path.
type place struct {
	path   string // in the table of devices a pattern, as of filepath.Glob
	rights uint64

	// guarded is for a path that another user could have created: the place is ignored unless
	// the path is a folder, not a link to one, and owned by this user or root.
	guarded bool
}

// What every engine reads.
var system = []place{
	// The dynamic loader, the C library, and what it reads by itself: converters of encodings, languages, time zones.
	{path: "/lib", rights: mayUse},
	{path: "/lib32", rights: mayUse},
	{path: "/lib64", rights: mayUse},
	{path: "/usr/lib", rights: mayUse},
	{path: "/usr/lib32", rights: mayUse},
	{path: "/usr/lib64", rights: mayUse},
	{path: "/nix/store", rights: mayUse},
	{path: "/gnu/store", rights: mayUse},
	{path: "/snap", rights: mayUse},
	{path: "/usr/share/locale", rights: mayList},
	{path: "/usr/share/zoneinfo", rights: mayList},
	{path: "/etc/ld.so.cache", rights: mayRead},
	{path: "/etc/localtime", rights: mayRead},

	// This process itself; Enter runs when /proc/self is its own. What other processes are called, and with which
	// arguments, is nobody's business. CUDA names its threads: it opens /proc/self/task/TID/comm with O_CREAT and
	// O_TRUNC, and fails with error 304 if that is forbidden.
	{path: "/proc/self", rights: mayList | mayChange},

	// The machine: the processor, memory, huge pages, limits of the control group.
	{path: "/proc/cpuinfo", rights: mayRead},
	{path: "/proc/meminfo", rights: mayRead},
	{path: "/proc/stat", rights: mayRead},
	{path: "/proc/version", rights: mayRead},
	{path: "/proc/filesystems", rights: mayRead},
	{path: "/proc/sys/vm/overcommit_memory", rights: mayRead},
	{path: "/proc/sys/vm/max_map_count", rights: mayRead},
	{path: "/proc/sys/kernel/osrelease", rights: mayRead},
	{path: "/sys/devices/system", rights: mayList},
	{path: "/sys/kernel/mm", rights: mayList},
	{path: "/sys/fs/cgroup", rights: mayList},

	{path: "/dev/null", rights: mayRead | mayChange | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
	{path: "/dev/zero", rights: mayRead | mayChange},
	{path: "/dev/full", rights: mayRead | mayChange},
	{path: "/dev/random", rights: mayRead},
	{path: "/dev/urandom", rights: mayRead},
}

// What the drivers of GPUs need as well. On NVIDIA's all of it was used on an H100 (driver 580) in an earlier
// sandbox, which granted more; the rest is from the drivers' documents, and reports of their users.
var devices = []place{
	// Drivers' libraries, programs that they compile with, and data: manifests of Vulkan and OpenCL, kernels.
	{path: "/usr", rights: mayUse},
	{path: "/opt/rocm*", rights: mayUse},
	{path: "/opt/amdgpu*", rights: mayUse},
	{path: "/opt/nvidia", rights: mayUse}, // Jetson
	{path: "/opt/cuda*", rights: mayUse},
	{path: "/opt/intel", rights: mayUse},
	{path: "/run/opengl-driver*", rights: mayUse}, // NixOS
	{path: "/run/nvidia", rights: mayUse},         // a driver in a container
	{path: "/run/udev/data", rights: mayList},
	{path: "/etc/vulkan", rights: mayList},
	{path: "/etc/xdg/vulkan", rights: mayList}, // where Vulkan's loader looks by default, too
	{path: "/etc/glvnd", rights: mayList},
	{path: "/etc/OpenCL", rights: mayList},
	{path: "/etc/nvidia", rights: mayList},
	{path: "/etc/drirc", rights: mayRead},
	{path: "/etc/nv_tegra_release", rights: mayRead},
	{path: "/etc/ld.so.conf", rights: mayRead},
	{path: "/etc/ld.so.conf.d", rights: mayList},

	// What drivers say of cards, modules, buses and memory.
	{path: "/proc/driver", rights: mayList | mayChange},
	{path: "/proc/devices", rights: mayRead},
	{path: "/proc/modules", rights: mayRead},
	{path: "/proc/bus/pci", rights: mayList},
	{path: "/proc/sys/kernel/yama/ptrace_scope", rights: mayRead},
	{path: "/sys", rights: mayList},

	// The devices: NVIDIA's, those of Mesa and of AMD and Intel, of WSL, of Jetson.
	{path: "/dev", rights: unix.LANDLOCK_ACCESS_FS_READ_DIR},
	{path: "/dev/nvidia*", rights: mayDrive},
	{path: "/dev/dri", rights: mayDrive},
	{path: "/dev/kfd", rights: mayDrive},
	{path: "/dev/accel", rights: mayDrive},
	{path: "/dev/dxg", rights: mayDrive},
	{path: "/dev/nvmap", rights: mayDrive},
	{path: "/dev/nvhost*", rights: mayDrive},
	{path: "/dev/nvgpu", rights: mayDrive},
	{path: "/dev/nvsciipc", rights: mayDrive},
	{path: "/dev/mali*", rights: mayDrive},
	{path: "/dev/dma_heap", rights: mayDrive},
	{path: "/dev/udmabuf", rights: mayDrive},
	{path: "/dev/shm", rights: mayShare},
}

// mpsFolder is the folder of NVIDIA MPS's pipes unless mpsVariable is set.
const (
	mpsFolder   = "/tmp/nvidia-mps"
	mpsVariable = "CUDA_MPS_PIPE_DIRECTORY"
)

// mps returns the place of MPS's pipes and sockets.
func mps() place {
	if folder := os.Getenv(mpsVariable); folder != "" {
		return place{path: folder, rights: mayPipe}
	}
	return place{path: mpsFolder, rights: mayPipe, guarded: true}
}

// mpsInUse reports whether there is that place.
func mpsInUse() bool {
	fd, err := mps().open()
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// places returns what a program may access, by these rules: the system's places, the program's own file and
// libraries, those that it has loaded, those in the loader's search path, and its files.
func (r Rules) places(program string) []place {
	list := slices.Clone(system)
	if r.Devices {
		list = append(list, mps())
		for _, p := range devices {
			matches, _ := filepath.Glob(p.path) // a test sees that it is a pattern
			for _, path := range matches {
				list = append(list, place{path: path, rights: p.rights})
			}
		}
	}

	list = append(list, place{path: program, rights: mayRun})
	for _, file := range mappedLibraries() {
		list = append(list, place{path: file, rights: mayRun})
	}

	// Where engine/llama/cuda_loader.cpp looks for cuBLAS.
	folder := filepath.Dir(program)
	folders := append(filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")),
		filepath.Join(folder, "lib"), filepath.Join(folder, "..", "lib", "serve"))
	for _, file := range librariesIn(folders) {
		list = append(list, place{path: file, rights: mayRead})
	}

	for _, file := range slices.Concat(r.Files, r.Handed) {
		list = append(list, place{path: file, rights: mayRead})
	}
	if r.Devices && r.Cache != "" {
		list = append(list, place{path: r.Cache, rights: mayKeep})
	}
	return list
}

// librariesIn returns the libraries in folders. Other files in these folders stay inaccessible.
func librariesIn(folders []string) (files []string) {
	for _, folder := range folders {
		if folder == "" {
			continue
		}
		entries, _ := os.ReadDir(folder)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "lib") && strings.Contains(e.Name(), ".so") {
				files = append(files, filepath.Join(folder, e.Name()))
			}
		}
	}
	return files
}

// mappedLibraries returns the libraries that this process has loaded.
func mappedLibraries() (files []string) {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer maps.Close()

	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if _, path, ok := strings.Cut(lines.Text(), " /"); ok && strings.Contains(filepath.Base(path), ".so") {
			files = append(files, "/"+path)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

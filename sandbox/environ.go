package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	deviceOrder = "CUDA_DEVICE_ORDER"
	busOrder    = "PCI_BUS_ID" // the numbers that nvidia-smi shows

	// peerToPeer makes ggml copy directly between GPUs: on many machines such copies silently
	// fail, and any value, even 0, turns it on.
	peerToPeer = "GGML_CUDA_P2P"
)

// allowed are the variables that a confined process gets: everything else in an environment may be a secret. A name
// that ends with an asterisk stands for all that begin so; only where the owner of a prefix names no credentials so.
var allowed = []string{
	// The dynamic loader and the C library: where libraries are, how memory is allocated, language and time.
	"LD_LIBRARY_PATH", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_",
	"LANG", "LANGUAGE", "LC_*", "LOCPATH", "TZ", "TZDIR",

	// Go's runtime: threads, memory and how much a crash tells. GORACE is for tests.
	"GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG", "GOTRACEBACK", "GORACE",

	// Threads of libraries for the CPU.
	"OMP_*", "GOMP_*", "KMP_*", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",

	// llama.cpp.
	"GGML_*", "LLAMA_*",

	// NVIDIA: which devices, caches, MPS; the container runtime's choices; OpenGL's and Vulkan's driver.
	"CUDA_*", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_TF32_OVERRIDE", "CUBLAS_*",
	"CUBLASLT_*", "NCCL_*", "__GL_*", "__NV_*", "__GLX_*",

	// Vulkan's loader and Mesa's drivers: where drivers' manifests are, layers, debugging, threads.
	"VK_*", "XDG_DATA_DIRS", "XDG_CONFIG_DIRS", "MESA_*", "RADV_*", "ANV_*", "NVK_*", "LP_*", "GALLIUM_*",
	"LIBGL_*", "DRI_PRIME", "ACO_DEBUG", "INTEL_DEBUG", "NIR_DEBUG", "TU_DEBUG",

	// AMD's ROCm: which devices, what they are taken for, caches.
	"HSA_*", "HIP_*", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "GPU_MAX_HW_QUEUES", "AMD_LOG_LEVEL",
	"AMD_COMGR_*", "ROCM_PATH", "ROCBLAS_*", "HIPBLASLT_*",

	// Intel's Level Zero and SYCL.
	"ZE_*", "ZES_ENABLE_SYSMAN", "ONEAPI_DEVICE_SELECTOR", "SYCL_*", "NEO_*", "IGC_*", "UR_*",

	// Where drivers keep compiled code; Environ sets them.
	"XDG_CACHE_HOME", "TMPDIR",
}

// caches has the variables that tell drivers and their compilers where to store compiled
// code, and the folders for it in Rules.Cache.
var caches = []struct{ variable, folder string }{
	{"CUDA_CACHE_PATH", "cuda"},
	{"__GL_SHADER_DISK_CACHE_PATH", "gl"},
	{"MESA_SHADER_CACHE_DIR", "mesa"},
	{"AMD_COMGR_CACHE_DIR", "comgr"},
	{"NEO_CACHE_DIR", "neo"},
	{"SYCL_CACHE_DIR", "sycl"},
	{"XDG_CACHE_HOME", "xdg"},
	{"TMPDIR", "tmp"},
}

// cacheSize is the size of CUDA's cache in bytes, 4 GiB: compiled code for one model of GPU
// takes hundreds of megabytes, and code that does not fit is compiled at every start.
const cacheSize = "4294967296"

// CreateCache creates a folder for Rules.Cache that no other user can read.
func CreateCache(folder string) error {
	for _, c := range caches {
		if err := os.MkdirAll(filepath.Join(folder, c.folder), 0o700); err != nil {
			return fmt.Errorf("create the drivers' cache: %w", err)
		}
	}

	// It may have existed before, with different permissions.
	if err := os.Chmod(folder, 0o700); err != nil {
		return fmt.Errorf("create the drivers' cache: %w", err)
	}

	return nil
}

// Environ returns the part of an environment that a confined process gets: what is allowed, and the variables that
// are named in more. Drivers number cards as nvidia-smi does, and keep compiled code in the folder cache, unless it
// is empty: a confined process cannot write anywhere else.
func Environ(environ []string, cache string, more ...string) []string {
	names := slices.Concat(allowed, more)
	result := slices.DeleteFunc(slices.Clone(environ), func(pair string) bool { return foreign(pair, names) })

	if value(result, deviceOrder) == "" {
		result = append(without(result, deviceOrder), deviceOrder+"="+busOrder)
	}
	if cache == "" {
		return result
	}

	for _, c := range caches {
		result = append(without(result, c.variable), c.variable+"="+filepath.Join(cache, c.folder))
	}
	if value(environ, "CUDA_CACHE_MAXSIZE") == "" {
		result = append(without(result, "CUDA_CACHE_MAXSIZE"), "CUDA_CACHE_MAXSIZE="+cacheSize)
	}
	return result
}

// foreign reports whether a variable with its value is none of those named.
func foreign(pair string, names []string) bool {
	name, _, _ := strings.Cut(pair, "=")
	return name == peerToPeer || !slices.ContainsFunc(names, func(known string) bool { return covers(known, name) })
}

// covers reports whether a name in the list of allowed variables stands for a variable.
func covers(known, name string) bool {
	if prefix, open := strings.CutSuffix(known, "*"); open {
		return strings.HasPrefix(name, prefix)
	}
	return known == name
}

// Ignored returns the variables of an environment that are left out because they do harm.
func Ignored(environ []string) (names []string) {
	if slices.ContainsFunc(environ, func(pair string) bool { return strings.HasPrefix(pair, peerToPeer+"=") }) {
		names = append(names, peerToPeer)
	}
	return names
}

// SetDriverEnviron changes this process's own environment to one for drivers.
func SetDriverEnviron() error {
	err := os.Unsetenv(peerToPeer)
	if _, set := os.LookupEnv(deviceOrder); !set {
		err = errors.Join(err, os.Setenv(deviceOrder, busOrder))
	}
	return err
}

// without returns an environment without a variable.
func without(environ []string, name string) []string {
	return slices.DeleteFunc(environ, func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
}

// value returns a variable of an environment; the last one counts.
func value(environ []string, name string) string {
	for _, pair := range slices.Backward(environ) {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			return v
		}
	}
	return ""
}

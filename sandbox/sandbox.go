// Package sandbox starts a process that can access only what an engine needs: the files of
// its model, the system's programs and libraries, devices, and one folder to write to. It
// cannot connect to a network.
//
// Files are confined by Landlock, from outside, before the process begins (Start); the
// network is forbidden by seccomp, from inside (ForbidNetwork). What a kernel cannot
// enforce is returned as an error that says so, and never ignored.
package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Rules list what a confined process may access in addition to the system's files.
type Rules struct {
	// Files are the files that it may read.
	Files []string

	// Cache is the only folder that it may write to; empty for none. CreateCache creates it.
	Cache string
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

// Environ returns an environment with the drivers' caches in the folder cache, wherever
// they were before: a confined process cannot write anywhere else.
func Environ(environ []string, cache string) []string {
	result := slices.Clone(environ)

	for _, c := range caches {
		result = append(without(result, c.variable), c.variable+"="+filepath.Join(cache, c.folder))
	}

	if value(environ, "CUDA_CACHE_MAXSIZE") == "" {
		result = append(without(result, "CUDA_CACHE_MAXSIZE"), "CUDA_CACHE_MAXSIZE="+cacheSize)
	}

	return result
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

// Package sandbox starts a process that reaches what an engine needs and nothing else:
// the files of its model, the system's programs and libraries, devices, and one folder
// to write in. It opens no connection to a network.
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

// Rules are what a confined process may reach besides what belongs to the system.
type Rules struct {
	// Files that it may read.
	Files []string

	// Cache is the one folder that it may write in; empty for none. CreateCache makes it.
	Cache string
}

// caches are the variables by which drivers and their compilers are told where to keep
// what they have compiled, and the folders for it below Rules.Cache.
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

// cacheSize is how many bytes CUDA may keep, 4 GiB: what it has compiled for one model of
// GPU takes hundreds of megabytes, and what does not fit is compiled at every start.
const cacheSize = "4294967296"

// CreateCache makes a folder for Rules.Cache, which nobody else can look into.
func CreateCache(folder string) error {
	for _, c := range caches {
		if err := os.MkdirAll(filepath.Join(folder, c.folder), 0o700); err != nil {
			return fmt.Errorf("create the drivers' cache: %w", err)
		}
	}

	// It may have been there before, with other permissions.
	if err := os.Chmod(folder, 0o700); err != nil {
		return fmt.Errorf("create the drivers' cache: %w", err)
	}

	return nil
}

// Environ returns an environment with the drivers' caches in the folder cache, wherever
// they were before: a confined process can write nowhere else.
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

// without returns an environment that lacks a variable.
func without(environ []string, name string) []string {
	return slices.DeleteFunc(environ, func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
}

// value returns a variable of an environment, of which the last one counts.
func value(environ []string, name string) string {
	for _, pair := range slices.Backward(environ) {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			return v
		}
	}
	return ""
}

package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestEnviron directs every cache to the one folder.
func TestEnviron(t *testing.T) {
	given := []string{"HOME=/h", "CUDA_CACHE_PATH=/h/.nv", "TMPDIR=/t", "CUDA_CACHE_DISABLE=0"}
	got := Environ(given, "/c")

	for _, want := range []string{
		"HOME=/h", "CUDA_CACHE_DISABLE=0", "CUDA_CACHE_PATH=/c/cuda", "CUDA_CACHE_MAXSIZE=4294967296", "TMPDIR=/c/tmp",
		"MESA_SHADER_CACHE_DIR=/c/mesa", "XDG_CACHE_HOME=/c/xdg", "__GL_SHADER_DISK_CACHE_PATH=/c/gl",
		"AMD_COMGR_CACHE_DIR=/c/comgr",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("without %s: %q", want, got)
		}
	}
	for _, not := range []string{"CUDA_CACHE_PATH=/h/.nv", "TMPDIR=/t"} {
		if slices.Contains(got, not) {
			t.Errorf("with %s: %q", not, got)
		}
	}
	if given[1] != "CUDA_CACHE_PATH=/h/.nv" {
		t.Error("what was given has changed")
	}

	got = Environ([]string{"CUDA_CACHE_MAXSIZE=1"}, "/c")
	if !slices.Contains(got, "CUDA_CACHE_MAXSIZE=1") || slices.Contains(got, "CUDA_CACHE_MAXSIZE="+cacheSize) {
		t.Errorf("a size that was asked for: %q", got)
	}
}

// TestCreateCache makes folders that nobody else can look into, also where there was one.
func TestCreateCache(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "cache")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := CreateCache(folder); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{folder, filepath.Join(folder, "cuda"), filepath.Join(folder, "tmp")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}

	if err := CreateCache("/dev/null/cache"); err == nil {
		t.Error("a folder where none can be")
	}
}

func TestDriverEnviron(t *testing.T) {
	for _, c := range []struct {
		name           string
		given          []string
		result, ignore []string
	}{
		{"nothing set", []string{"A=1"}, []string{"A=1", "CUDA_DEVICE_ORDER=PCI_BUS_ID"}, nil},
		{"an order", []string{"CUDA_DEVICE_ORDER=FASTEST_FIRST"}, []string{"CUDA_DEVICE_ORDER=FASTEST_FIRST"}, nil},
		{"P2P, even off", []string{"GGML_CUDA_P2P=0", "A=1"}, []string{"A=1", "CUDA_DEVICE_ORDER=PCI_BUS_ID"},
			[]string{"GGML_CUDA_P2P"}},
	} {
		result, ignored := DriverEnviron(c.given)
		if !slices.Equal(result, c.result) || !slices.Equal(ignored, c.ignore) {
			t.Errorf("%s: %q, without %q", c.name, result, ignored)
		}
	}
}

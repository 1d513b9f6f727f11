package llama

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The library that is cuBLAS here: one that no machine has.
const testCUBLAS = "libcublas-of-a-test.so"

// buildCUDAProgram builds a program that finds NVIDIA's libraries as serve does, in folder/bin.
func buildCUDAProgram(t *testing.T, folder string) string {
	t.Helper()
	object := filepath.Join(folder, "backend.o")
	library := filepath.Join(folder, "libbackend.a")
	command(t, nil, "cc", "-c", "-o", object, "testdata/cuda/backend.c")
	command(t, nil, "ar", "cr", library, object)

	symbols := command(t, nil, "./cuda-symbols.sh", library)
	want, err := os.ReadFile("testdata/cuda/cuda.inc")
	if err != nil {
		t.Fatal(err)
	}
	if symbols != string(want) {
		t.Fatalf("cuda-symbols.sh says\n%s\nwant\n%s", symbols, want)
	}
	if err := os.WriteFile(filepath.Join(folder, "cuda.inc"), want, 0o600); err != nil {
		t.Fatal(err)
	}

	program := filepath.Join(folder, "bin", "program")
	if err := os.Mkdir(filepath.Dir(program), 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, nil, "c++", "-std=c++17", "-rdynamic", "-DSERVE_CUDA", "-DCUDA_BUILD=13050",
		`-DCUBLAS_LIBRARY="`+testCUBLAS+`"`, "-I", folder, "-I", ".", "-o", program,
		"cuda_loader.cpp", "testdata/cuda/main.cpp", library, "-ldl")
	return program
}

// TestCUDALoader starts a program with CUDA beside drivers that work and drivers that do not, and sees that what
// it calls is the driver's function, or one that fails as CUDA says.
func TestCUDALoader(t *testing.T) {
	folder := t.TempDir()
	program := buildCUDAProgram(t, folder)

	works := []string{"-DINIT=0", "-DVERSION=13000"}
	const created = "cuMemCreate: 0, handle 7\n"
	const multiplied = "cublasCreate: 0\ncublasGemmEx: 819\n"
	const refused = "cuMemCreate: 3, handle 0\ncuGetErrorString: "
	tests := map[string]struct {
		driver []string // how the compiler makes it; none for a file that is no library
		cublas string   // the folder where it is
		want   []string
	}{
		"works": {
			works, "bin/lib", []string{"driver: \n", created, multiplied},
		},
		"cuBLAS as it is installed": {
			works, "lib/serve", []string{"driver: \n", multiplied},
		},
		"cuBLAS where the loader looks": {
			works, "system", []string{"driver: \n", multiplied},
		},
		"no cuBLAS": {
			works, "", []string{
				created, "cublasCreate: 1\n", "cublasGetStatusString: cuBLAS cannot be loaded: " + testCUBLAS + ": ",
				"cublasGemmEx: 1\n",
			},
		},
		"no driver": {
			nil, "", []string{"driver: no NVIDIA driver was found: ", "libcuda.so.1", refused + "no NVIDIA driver was found"},
		},
		"a driver that fails": {
			[]string{"-DINIT=304", "-DVERSION=13000"}, "", []string{
				"driver: the NVIDIA driver does not initialize: error 304, CUDA_ERROR_OPERATING_SYSTEM, OS call failed\n",
				refused + "the NVIDIA driver does not initialize: error 304",
			},
		},
		"no card": {
			[]string{"-DINIT=100", "-DVERSION=13000"}, "", []string{"driver: the NVIDIA driver shows no GPU (error 100"},
		},
		"an old driver": {
			[]string{"-DINIT=0", "-DVERSION=12020"}, "", []string{
				"driver: the NVIDIA driver is too old: it supports CUDA 12.2, and this build needs 13.0 or later\n",
			},
		},
		"a driver of an older CUDA 13": {
			[]string{"-DINIT=0", "-DVERSION=13010"}, "", []string{"driver: \n", created},
		},
		"a driver that lacks a function": {
			append(works, "-DLACKS"), "", []string{"driver: the NVIDIA driver (CUDA 13.0) lacks cuMemCreate\n", refused},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			system := t.TempDir()
			library := filepath.Join(system, "libcuda.so.1")
			if test.driver == nil {
				if err := os.WriteFile(library, []byte("no library"), 0o600); err != nil {
					t.Fatal(err)
				}
			} else {
				command(t, nil, "cc", append(test.driver, "-shared", "-fPIC", "-o", library, "testdata/cuda/driver.c")...)
			}
			if test.cublas != "" {
				where := filepath.Join(folder, test.cublas)
				if test.cublas == "system" {
					where = system
				}
				installCUBLAS(t, where)
			}

			got := command(t, []string{"LD_LIBRARY_PATH=" + system}, program)
			for _, want := range append(test.want, "visible: no\n") {
				if !strings.Contains(got, want) {
					t.Errorf("it lacks %q:\n%s", want, got)
				}
			}
		})
	}
}

// installCUBLAS builds the cuBLAS of this test in a folder, for as long as the test runs.
func installCUBLAS(t *testing.T, folder string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	library := filepath.Join(folder, testCUBLAS)
	command(t, nil, "cc", "-shared", "-fPIC", "-o", library, "testdata/cuda/cublas.c")
	t.Cleanup(func() { os.Remove(library) })
}

// TestCUDASymbols sees that a library is refused which calls what nothing loads.
func TestCUDASymbols(t *testing.T) {
	folder := t.TempDir()
	source := filepath.Join(folder, "unknown.c")
	object := filepath.Join(folder, "unknown.o")
	const code = "int cublasLtCreate(void **); int f(void) { return cublasLtCreate(0); }"
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, nil, "cc", "-c", "-o", object, source)

	out, err := exec.Command("./cuda-symbols.sh", object).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "cublasLtCreate is of a library that nothing loads") {
		t.Errorf("%v: %s", err, out)
	}
}

package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestEnviron directs every cache to the one folder.
func TestEnviron(t *testing.T) {
	given := []string{"TZ=UTC", "CUDA_CACHE_PATH=/h/.nv", "TMPDIR=/t", "CUDA_CACHE_DISABLE=0"}
	got := Environ(given, "/c")

	for _, want := range []string{
		"TZ=UTC", "CUDA_CACHE_DISABLE=0", "CUDA_CACHE_PATH=/c/cuda", "CUDA_CACHE_MAXSIZE=4294967296", "TMPDIR=/c/tmp",
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

// TestDriverEnviron numbers cards as nvidia-smi does, and leaves out what does harm.
func TestDriverEnviron(t *testing.T) {
	for _, c := range []struct {
		name           string
		given          []string
		result, ignore []string
	}{
		{"nothing set", []string{"TZ=UTC"}, []string{"TZ=UTC", "CUDA_DEVICE_ORDER=PCI_BUS_ID"}, nil},
		{"an order", []string{"CUDA_DEVICE_ORDER=FASTEST_FIRST"}, []string{"CUDA_DEVICE_ORDER=FASTEST_FIRST"}, nil},
		{"P2P, even off", []string{"GGML_CUDA_P2P=0", "TZ=UTC"}, []string{"TZ=UTC", "CUDA_DEVICE_ORDER=PCI_BUS_ID"},
			[]string{"GGML_CUDA_P2P"}},
	} {
		result := Environ(c.given, "")
		ignored := Ignored(c.given)
		if !slices.Equal(result, c.result) || !slices.Equal(ignored, c.ignore) {
			t.Errorf("%s: %q, without %q", c.name, result, ignored)
		}
	}
}

// TestNoSecrets lets nothing through that has ever been a secret in an environment, nor what leads to one.
func TestNoSecrets(t *testing.T) {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET",
		"GOOGLE_APPLICATION_CREDENTIALS",
		"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "NVIDIA_API_KEY", "NGC_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
		"GITHUB_TOKEN", "GH_TOKEN", "NPM_TOKEN", "GOPROXY", "GOFLAGS", "DATABASE_URL", "PGPASSWORD", "KUBECONFIG",
		"HTTP_PROXY", "HTTPS_PROXY", "https_proxy", "SSH_AUTH_SOCK", "SSH_ASKPASS", "GPG_AGENT_INFO", "GNUPGHOME",
		"DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "DOCKER_HOST",
		"NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "OTEL_EXPORTER_OTLP_HEADERS", "SERVE_API_KEY", "HOME", "USER", "PATH",
		"LD_PRELOAD", "LD_AUDIT", "VAULT_TOKEN", "CI_JOB_TOKEN", "WANDB_API_KEY", "LANGSMITH_API_KEY",
	} {
		if got := Environ([]string{name + "=value"}, ""); len(got) != 1 || got[0] != "CUDA_DEVICE_ORDER=PCI_BUS_ID" {
			t.Errorf("%s gets through: %q", name, got)
		}
	}
	if got := Environ([]string{"TEST_DRIVER=1"}, "", "TEST_DRIVER"); !slices.Contains(got, "TEST_DRIVER=1") {
		t.Errorf("without a variable that was asked for: %q", got)
	}
}

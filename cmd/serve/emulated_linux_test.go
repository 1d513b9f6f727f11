package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestEmulated asks the demo on processors that this machine is not, by Debian's qemu-user: TEST_EMULATED names
// serve's binary for x86-64, TEST_EMULATED_ARM64 that for Arm. Each answers what this machine's own processor does.
// The engine runs in serve's process, since what an emulated process starts is not emulated.
func TestEmulated(t *testing.T) {
	binary := os.Getenv("TEST_EMULATED")
	if binary == "" {
		t.Skip("make emulated and make portable run this")
	}
	const question = `{"model":"demo","messages":[{"role":"user","content":"How do I serve Mistral?"}],"temperature":0}`
	want, _ := askEmulated(t, question, binary)
	if !strings.Contains(want, "serve mistral-7b") {
		t.Fatalf("here it answers %q", want)
	}

	for name, test := range map[string]struct {
		command []string
		kernels string
	}{
		"Nehalem":      {[]string{"qemu-x86_64", "-cpu", "Nehalem", binary}, "sse42"},
		"Haswell":      {[]string{"qemu-x86_64", "-cpu", "Haswell", binary}, "haswell"},
		"Cortex-A53":   {[]string{"qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", "cortex-a53"}, "armv8.0_1"},
		"Cortex-A76":   {[]string{"qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", "cortex-a76"}, "armv8.2_2"},
		"Arm with SVE": {[]string{"qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", "max"}, "armv8.6_2"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.command[0] == "qemu-aarch64" {
				arm := os.Getenv("TEST_EMULATED_ARM64")
				if arm == "" {
					t.Skip("make portable builds serve for Arm")
				}
				test.command = append(test.command, arm)
			}
			// Emulated, the most capable kernels are not the fastest, and would not be chosen.
			got, said := askEmulated(t, question, append(test.command, "--kernels", test.kernels)...)
			if got != want {
				t.Errorf("answers %q, want %q", got, want)
			}
			if !strings.Contains(said, "serve: kernels   "+test.kernels) {
				t.Errorf("it does not compute with %s:\n%s", test.kernels, said)
			}
		})
	}
}

// askEmulated starts serve by a command and asks it once. It returns the answer and what serve said on stderr.
func askEmulated(t *testing.T, question string, command ...string) (answer, said string) {
	t.Helper()
	cmd := exec.Command(command[0], append(command[1:], "--isolate=false", "--offline", "--port", "0")...)
	home := t.TempDir()
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()

	url := ""
	for lines := bufio.NewScanner(stderr); url == "" && lines.Scan(); {
		said += lines.Text() + "\n"
		if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
			url = m[1]
		}
	}
	if url == "" {
		t.Fatalf("it never became ready:\n%s", said)
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()

	res, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(question))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s %v: %s", res.Status, err, body)
	}
	var answered struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(body, &answered); err != nil || len(answered.Choices) != 1 {
		t.Fatalf("%v: %s", err, body)
	}
	return answered.Choices[0].Message.Content, said
}

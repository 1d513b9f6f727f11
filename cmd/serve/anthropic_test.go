package main

import (
	"os/exec"
	"testing"
)

// TestAnthropicByNode lets the npm package @anthropic-ai/sdk talk to the server.
func TestAnthropicByNode(t *testing.T) {
	r := startServe(t, templated(t, "Qwen-Qwen2.5-7B-Instruct"), "--ctx-size", "4096", "--parallel", "4")
	cmd := exec.Command("node", "anthropic.mjs", r.url, "tiny")
	cmd.Dir = "testdata/node"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestAnthropicByPython lets PyPI's anthropic do the same.
func TestAnthropicByPython(t *testing.T) {
	r := startServe(t, templated(t, "Qwen-Qwen2.5-7B-Instruct"), "--ctx-size", "4096", "--parallel", "4")
	python(t, []string{"HOME=" + t.TempDir()}, "anthropic_sdk.py", r.url, "tiny")
}

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"serve/engine/llama"
	"serve/kernels"
	"serve/models/testmodel"
)

// TestMessages checks that errors say what is wrong, once, and what to do about it.
func TestMessages(t *testing.T) {
	dir := t.TempDir()
	cut := filepath.Join(dir, "cut.gguf")
	if err := os.WriteFile(cut, testmodel.Bytes(testmodel.Options{})[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "page.gguf")
	if err := os.WriteFile(page, []byte("<html>please log in to download</html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.gguf")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	occupied := filepath.Join(dir, "occupied")
	if err := os.WriteFile(occupied, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	noServer := "serve: error: no server answers at http://127.0.0.1:1 (connection refused)\n" +
		"serve: hint: start one with serve MODEL\n"
	for name, tt := range map[string]struct {
		args []string
		code int
		want string // all of stderr, or a part of it if it begins with an ellipsis
	}{
		"an unknown flag": {[]string{"pull", "--nope"}, exitUsage,
			"serve: error: unknown flag: --nope\nserve: hint: see serve pull --help\n"},
		"no argument": {[]string{"show"}, exitUsage,
			"serve: error: serve show takes one model\nserve: hint: see serve show --help\n"},
		"a command of other programs": {[]string{"status", "--port", "0"}, exitNotFound,
			"serve: error: no command or model is named \"status\"\n" +
				"serve: hint: did you mean serve ps? serve --help lists the commands, and serve catalog the models\n"},
		"a command mistyped": {[]string{"lst", "--port", "0"}, exitNotFound,
			"serve: error: no command or model is named \"lst\"\n" +
				"serve: hint: did you mean serve list? serve --help lists the commands, and serve catalog the models\n"},
		"a flag as a command": {[]string{"version", "--port", "0"}, exitNotFound,
			"…hint: did you mean serve --version?\n"},
		"an empty name":         {[]string{"", "--port", "0"}, exitNotFound, "…error: the name of the model is empty\n"},
		"a repository mistyped": {[]string{"org/repo@", "--port", "0"}, exitNotFound, "…hint: write org/repo, "},
		"another shell": {[]string{"completion", "foo"}, exitUsage,
			"serve: error: serve completion takes bash, fish, powershell or zsh\nserve: hint: see serve completion --help\n"},
		"an empty model": {[]string{empty, "--port", "0"}, exitModel,
			"serve: error: " + empty + " is not a usable GGUF file: it is empty\n"},
		"no such projector": {[]string{"demo", "--port", "0", "--mmproj", "/nowhere"}, exitUsage,
			"…error: --mmproj: there is no file /nowhere\n"},
		"no such bundle": {[]string{"bundle", "import", "/nowhere"}, exitModel,
			"…error: cannot open the bundle /nowhere: no such file or directory\n"},
		"no such host": {[]string{"demo", "--host", "999.1.1.1", "--port", "0"}, exitListen,
			"…hint: --host must be an address"},
		"an origin without a scheme": {[]string{"demo", "--port", "0", "--allow-origin", "foo"}, exitUsage,
			"…error: --allow-origin \"foo\" must be an origin such as http://localhost:5173\n"},
		"no such model or command": {[]string{"frobnicate", "--port", "0"}, exitNotFound,
			"…./file.gguf a local file; serve --help lists the commands\n"},
		"help for no command": {[]string{"help", "foo"}, exitUsage,
			"serve: error: no command is named \"foo\"\nserve: hint: serve --help lists the commands\n"},
		"help":              {[]string{"help", "bundle", "export"}, exitOK, ""},
		"nothing to verify": {[]string{"verify"}, exitOK, "serve: no models to verify\n"},
		"nothing to remove": {[]string{"rm", "mistral-7b"}, exitNotFound,
			"…hint: serve list shows the models on this machine"},
		"the demo removed": {[]string{"rm", "demo"}, exitNotFound,
			"serve: error: demo is built into serve and cannot be removed\n"},
		"ps without a server":   {[]string{"ps", "--url", "http://127.0.0.1:1"}, exitError, noServer},
		"chat without a server": {[]string{"chat", "--url", "http://127.0.0.1:1"}, exitError, noServer},
		"a folder for responses that is a file": {[]string{"demo", "--port", "0", "--data-dir", occupied}, exitError,
			"…error: cannot open --data-dir " + occupied + ": "},
		"an address of another machine": {[]string{"demo", "--host", "203.0.113.7", "--port", "1"}, exitListen,
			"…error: cannot listen on 203.0.113.7:1: cannot assign requested address\n"},
		"a model cut off": {[]string{cut, "--port", "0"}, exitModel,
			"…error: " + cut + " is not a usable GGUF file: the file is truncated: it ends in the middle of its header"},
		"a web page": {[]string{page, "--port", "0"}, exitModel,
			"…error: " + page + " is not a usable GGUF file: it begins with"},
	} {
		t.Run(name, func(t *testing.T) {
			environ := []string{"HOME=" + t.TempDir()}
			code, _, text := command(environ, tt.args...)
			part, isPart := strings.CutPrefix(tt.want, "…")
			if code != tt.code || isPart && !strings.Contains(text, part) || !isPart && text != tt.want {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, tt.code, tt.want, text)
			}
		})
	}
}

// TestInterruptedLoad interrupts a first start while it measures kernels: it says so and nothing else.
func TestInterruptedLoad(t *testing.T) {
	if len(kernels.Usable(llama.Kernels(), nil)) < 2 {
		t.Skip("this CPU has no kernels to choose from")
	}

	said := newSyncBuffer()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		for !strings.Contains(said.String(), "measuring") && ctx.Err() == nil {
			select {
			case <-said.more:
			case <-ctx.Done():
			}
		}
		cancel()
	}()

	code := run(ctx, []string{"demo", "--port", "0"}, []string{"HOME=" + t.TempDir()}, said, said)
	_, after, measuring := strings.Cut(said.String(), "measuring")
	_, after, _ = strings.Cut(after, "\n")
	if code != exitInterrupted || !measuring || after != "serve: error: interrupted\n" {
		t.Errorf("exit code %d, want %d and nothing but that it was interrupted:\n%s", code, exitInterrupted, said)
	}
}

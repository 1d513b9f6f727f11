package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryComponentHasALicense collects the licenses as a release does.
func TestEveryComponentHasALicense(t *testing.T) {
	t.Chdir("..")
	for _, folder := range []string{llamaSource, "web/node_modules"} {
		if _, err := os.Stat(folder); err != nil {
			t.Skipf("make llama page brings %s", folder)
		}
	}

	for _, arch := range []string{"amd64", "arm64"} {
		components, err := allComponents(licenseOptions{goarch: arch})
		if err != nil {
			t.Fatal(err)
		}

		// Some of each kind, with words that only their own licenses have.
		for name, words := range map[string]string{
			"Go":                      "The Go Authors",
			"github.com/spf13/cobra":  "Apache License",
			"modernc.org/sqlite":      "public domain",
			"preact":                  "Jason Miller",
			"@preact/signals-core":    "MIT",
			"dompurify":               "Apache License",
			"highlight.js":            "Ivan Sagalaev",
			"llama.cpp and ggml":      "The ggml authors",
			"cpp-httplib":             "yhirose",
			"GCC's runtime libraries": "GCC RUNTIME LIBRARY EXCEPTION",
		} {
			i := slices.IndexFunc(components, func(c component) bool { return c.name == name })
			if i < 0 {
				t.Errorf("%s: %s is not among the components", arch, name)
				continue
			}
			if !slices.ContainsFunc(components[i].texts, func(l text) bool { return strings.Contains(l.body, words) }) {
				t.Errorf("%s: the license of %s does not say %q", arch, name, words)
			}
		}
		if slices.ContainsFunc(components, func(c component) bool { return c.name == "vite" }) {
			t.Errorf("%s: vite is no part of the page", arch)
		}
	}
}

func TestLicensedNamesWhatHasNone(t *testing.T) {
	err := licensed([]component{
		{name: "good", texts: []text{{name: "LICENSE", body: "Do what you like."}}},
		{name: "bad"},
		{name: "empty", texts: []text{{name: "LICENSE", body: " \n"}}},
	})
	if err == nil || !strings.HasSuffix(err.Error(), "for bad, empty") {
		t.Errorf("got %v, want an error about bad and empty", err)
	}
}

// marks are what authors write above what they give away, in small letters.
var marks = []string{"copyright (c)", "copyright 20", "public domain", "spdx-", "mit license", "adapted from http",
	"adapted from arm", "borrowed from the"}

// TestNoNoticeInLlamaIsMissed looks through the source that is linked for notices: each file that has one must be one
// whose license is collected.
func TestNoNoticeInLlamaIsMissed(t *testing.T) {
	t.Chdir(filepath.Join("..", llamaSource))
	known := []string{
		"vendor/nlohmann/", "vendor/hash/", "vendor/cpp-httplib/", // the whole folder is under the license collected
		"ggml/src/ggml-cpu/kleidiai/", "ggml/include/ggml-cann.h", "ggml/include/ggml-sycl.h", // not compiled
	}
	for _, v := range vendored {
		known = append(known, v.path)
	}

	for _, folder := range []string{"include", "src", "common", "tools/mtmd", "vendor", "ggml/include", "ggml/src"} {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() {
				// Of ggml's backends the processor's alone is always linked.
				if strings.HasPrefix(path, "ggml/src/ggml-") && !strings.HasPrefix(path, "ggml/src/ggml-cpu") {
					return fs.SkipDir
				}
				return nil
			}
			if !regexp.MustCompile(`\.(c|h|cc|cpp|hpp|m|S)$`).MatchString(path) {
				return nil
			}

			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(path, k) }) {
				return nil
			}
			content = bytes.ToLower(content)
			for _, mark := range marks {
				if bytes.Contains(content, []byte(mark)) {
					t.Errorf("%s says %q, and native.go does not know it", path, mark)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.h")
	if err := os.WriteFile(path, []byte("code\n/* License:\nfree\nfor all */\ncode\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	got, err := readLines(path, "License:", "*/")
	if want := "/* License:\nfree\nfor all"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	for _, missing := range [][2]string{{"Lizenz", "*/"}, {"License:", "forever"}} {
		if _, err := readLines(path, missing[0], missing[1]); err == nil {
			t.Errorf("%v: no error", missing)
		}
	}
}

func TestLicensesIn(t *testing.T) {
	folder := t.TempDir()
	for name, body := range map[string]string{
		"LICENSE.md":            "one\r\ntwo\r\n",
		"COPYING":               "three",
		"license.go":            "package p",
		"main.go":               "package p",
		"licenses/LICENSE-json": "four",
		"other/LICENSE":         "not of this package",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	got, err := licensesIn(folder, "sub/")
	want := []text{{"sub/COPYING", "three"}, {"sub/LICENSE.md", "one\ntwo"}, {"sub/licenses/LICENSE-json", "four"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}

	if err := os.WriteFile(filepath.Join(folder, "LICENSE.txt"), make([]byte, maxLicense+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := licensesIn(folder, ""); err == nil {
		t.Error("a license of more than a megabyte was taken")
	}
}

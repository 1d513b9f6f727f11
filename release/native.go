package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// llamaSource is where build.sh leaves llama.cpp's source.
const llamaSource = "build/llama/src"

// vendored lists the licenses of the parts of llama.cpp, by their paths in its tree.
var vendored = []struct {
	name string
	path string
	// The lines from one that has the first to one that has the last; all of the file if there are none.
	first string
	last  string
}{
	{name: "llama.cpp and ggml", path: "LICENSE"},
	{name: "cpp-httplib", path: "vendor/cpp-httplib/LICENSE"},
	{name: "JSON for Modern C++", path: "licenses/LICENSE-jsonhpp"},
	{name: "xxHash", path: "vendor/hash/xxhash/LICENSE"},
	{name: "SHA-256 by Igor Pavlov", path: "vendor/hash/sha256/LICENSE"},
	{name: "SHA-1 by Steve Reid", path: "vendor/hash/sha1/sha1.h", first: "SHA-1 in C", last: "Public Domain"},
	{
		name:  "stb_image",
		path:  "vendor/stb/stb_image.h",
		first: "This software is available under 2 licenses",
		last:  "*/",
	},
	{
		name:  "miniaudio",
		path:  "vendor/miniaudio/miniaudio.h",
		first: "This software is available as a choice of",
		last:  "*/",
	},
	{
		name:  "subprocess.h",
		path:  "vendor/sheredom/subprocess.h",
		first: "This is free and unencumbered",
		last:  "unlicense.org",
	},
	{name: "base64.hpp", path: "common/base64.hpp", first: "This is free and unencumbered", last: "unlicense.org"},
	{
		name:  "llamafile's sgemm",
		path:  "ggml/src/ggml-cpu/llamafile/sgemm.cpp",
		first: "Copyright 2024",
		last:  "// SOFTWARE.",
	},
	{name: "YaRN", path: "ggml/src/ggml-cpu/ops.cpp", first: "YaRN algorithm based on", last: "MIT licensed."},
	{
		name:  "ggllm.cpp's tokenizer",
		path:  "src/llama-vocab.cpp",
		first: "adapted from https://github.com/cmp-nct",
		last:  "MIT License",
	},
	{
		name:  "Arm Optimized Routines",
		path:  "ggml/src/ggml-cpu/vec.h",
		first: "adapted from arm limited",
		last:  "adapted from arm limited",
	},
	{
		name:  "OpenVINO's exp for SVE",
		path:  "ggml/src/ggml-cpu/vec.h",
		first: "Below function was borrowed",
		last:  "openvino",
	},
	{
		name:  "Pillow's resampling",
		path:  "tools/mtmd/mtmd-image.cpp",
		first: "Adapted from https://github.com/python-pillow",
		last:  "python-pillow",
	},
	{
		name:  "string-algorithms' Z algorithm",
		path:  "src/llama-sampler.cpp",
		first: "adapted from the public domain",
		last:  "ivanyu",
	},
}

// nativeComponents reads the licenses of C and C++ that is linked. The version is build.sh's.
func nativeComponents(script, tree string) (list []component, err error) {
	b, err := os.ReadFile(script)
	if err != nil {
		return nil, err
	}
	version := regexp.MustCompile(`(?m)^version=(.+)$`).FindSubmatch(b)
	if version == nil {
		return nil, errors.New(script + " names no version")
	}

	for _, v := range vendored {
		body, err := readLines(filepath.Join(tree, v.path), v.first, v.last)
		if err != nil {
			return nil, err
		}
		c := component{name: v.name, texts: []text{{name: "in " + v.path, body: body}}}
		if v.path == "LICENSE" {
			c.version = string(version[1])
		}
		list = append(list, c)
	}
	return list, nil
}

// readLines reads from the first line that has first in it to the next one that has last in it, or all of the file if
// there is no first. The end of a comment is left out.
func readLines(path, first, last string) (string, error) {
	if first == "" {
		return readLicense(path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}

	lines := strings.Split(string(b), "\n")
	start := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, first) })
	if start < 0 {
		return "", fmt.Errorf("%s has no line with %q", path, first)
	}
	end := slices.IndexFunc(lines[start:], func(line string) bool { return strings.Contains(line, last) })
	if end < 0 {
		return "", fmt.Errorf("%s has no line with %q after %q", path, last, first)
	}

	body := strings.Join(lines[start:start+end+1], "\n")
	return strings.TrimSpace(strings.TrimSuffix(body, "*/")), nil
}

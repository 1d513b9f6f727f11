package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// goPackage is the output of go list for a package.
type goPackage struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *struct {
		Path    string
		Version string
		Dir     string
		Main    bool
		Replace *struct {
			Path    string
			Version string
		}
	}
}

// goModules finds the modules that are linked into serve, and Go itself. Licenses are read in each
// package's folder that is linked, and in those above it: what a module took from others has its
// own at times.
func goModules(goarch string) ([]component, error) {
	packages, err := listPackages(goarch)
	if err != nil {
		return nil, err
	}

	root, err := goroot()
	if err != nil {
		return nil, err
	}
	list := []component{root}
	index := map[string]int{}
	read := map[string]bool{}
	for _, p := range packages {
		m := p.Module
		if p.Standard || m == nil || m.Main {
			continue
		}

		i, known := index[m.Path]
		if !known {
			i = len(list)
			index[m.Path] = i
			list = append(list, component{name: m.Path, version: m.Version})
			if m.Replace != nil {
				list[i].name = m.Replace.Path
				list[i].version = m.Replace.Version
			}
		}

		for folder := p.Dir; !read[folder]; folder = filepath.Dir(folder) {
			read[folder] = true
			prefix := strings.TrimPrefix(strings.TrimPrefix(folder, m.Dir)+"/", "/")
			texts, err := licensesIn(folder, prefix)
			if err != nil {
				return nil, err
			}
			list[i].texts = append(list[i].texts, texts...)

			if folder == m.Dir {
				break
			}
		}
	}
	return list, nil
}

// listPackages lists all packages that serve is linked of.
func listPackages(goarch string) (list []goPackage, err error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Standard,Module", "./cmd/serve")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+goarch, "CGO_ENABLED=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}

	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		list = append(list, p)
	}
}

// goroot is Go's own library, including its packages from golang.org/x.
func goroot() (component, error) {
	out, err := exec.Command("go", "env", "GOVERSION", "GOROOT").Output()
	if err != nil {
		return component{}, fmt.Errorf("go env: %w", err)
	}
	version, folder, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")

	texts, err := licensesIn(folder, "")
	return component{name: "Go", version: strings.TrimPrefix(version, "go"), texts: texts}, err
}

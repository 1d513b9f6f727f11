package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// builders are packages that build the page but are not included in it.
var builders = []string{"vite"}

// npmPackages finds the packages included in the page: the dependencies of web/package.json, and theirs.
func npmPackages(folder string) (list []component, err error) {
	var lock struct {
		Packages map[string]struct {
			Version      string            `json:"version"`
			Dependencies map[string]string `json:"dependencies"`
		} `json:"packages"`
	}
	b, err := os.ReadFile(filepath.Join(folder, "package-lock.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &lock); err != nil {
		return nil, fmt.Errorf("read package-lock.json: %w", err)
	}

	seen := map[string]bool{}
	var add func(dependencies map[string]string) error
	add = func(dependencies map[string]string) error {
		for name := range dependencies {
			if seen[name] || slices.Contains(builders, name) {
				continue
			}
			seen[name] = true

			path := "node_modules/" + name
			p, ok := lock.Packages[path]
			if !ok {
				return fmt.Errorf("package-lock.json has no %s", path)
			}
			texts, err := licensesIn(filepath.Join(folder, path), "")
			if err != nil {
				return fmt.Errorf("read license of npm package %s (make page installs it): %w", name, err)
			}
			list = append(list, component{name: name, version: p.Version, texts: texts})
			if err := add(p.Dependencies); err != nil {
				return err
			}
		}
		return nil
	}
	return list, add(lock.Packages[""].Dependencies)
}

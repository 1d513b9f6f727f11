package web

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

//go:embed package-lock.json
var lockFile []byte

// builders are packages that build the page but are not included in it.
var builders = []string{"vite"}

// Package is a package of npm that is included in the page.
type Package struct {
	Name      string
	Version   string
	Integrity string // as npm writes it: sha512- and Base64
	License   string // as the package declares it
}

// Packages returns the packages that are included in the page: its dependencies, and theirs.
func Packages() ([]Package, error) {
	var lock struct {
		Packages map[string]struct {
			Version      string            `json:"version"`
			Integrity    string            `json:"integrity"`
			License      string            `json:"license"`
			Dependencies map[string]string `json:"dependencies"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(lockFile, &lock); err != nil {
		return nil, fmt.Errorf("read package-lock.json: %w", err)
	}

	var list []Package
	seen := map[string]bool{}
	var add func(dependencies map[string]string) error
	add = func(dependencies map[string]string) error {
		for name := range dependencies {
			if seen[name] || slices.Contains(builders, name) {
				continue
			}
			seen[name] = true
			p, ok := lock.Packages["node_modules/"+name]
			if !ok {
				return fmt.Errorf("package-lock.json has no node_modules/%s", name)
			}
			list = append(list, Package{Name: name, Version: p.Version, Integrity: p.Integrity, License: p.License})
			if err := add(p.Dependencies); err != nil {
				return err
			}
		}
		return nil
	}
	if err := add(lock.Packages[""].Dependencies); err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

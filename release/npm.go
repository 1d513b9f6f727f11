package main

import (
	"fmt"
	"path/filepath"

	"serve/web"
)

// npmPackages finds the packages included in the page, and their licenses.
func npmPackages(folder string) (list []component, err error) {
	packages, err := web.Packages()
	if err != nil {
		return nil, err
	}
	for _, p := range packages {
		texts, err := licensesIn(filepath.Join(folder, "node_modules", p.Name), "")
		if err != nil {
			return nil, fmt.Errorf("read license of npm package %s (make page installs it): %w", p.Name, err)
		}
		list = append(list, component{name: p.Name, version: p.Version, texts: texts})
	}
	return list, nil
}

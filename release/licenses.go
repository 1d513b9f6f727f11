package main

import (
	"cmp"
	"debug/buildinfo"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// component is a third-party part of serve.
type component struct {
	name    string
	version string
	texts   []text
}

// text is a license, or a notice that must be included.
type text struct {
	name string
	body string
}

type licenseOptions struct {
	goarch  string
	program string // its modules must be among those that were found
	extra   []text
}

// maxLicense is more than any license has; modernc.org/libc's list of others is the longest.
const maxLicense = 1 << 20

//go:embed licenses/gcc.txt
var gccLicense string

//go:embed licenses/glibc.txt
var glibcLicense string

// writeLicenses writes one file with the licenses of everything that is linked into serve.
func writeLicenses(w io.Writer, o licenseOptions) error {
	components, err := allComponents(o)
	if err != nil {
		return err
	}

	var b strings.Builder
	b.WriteString("serve is under the MIT license (LICENSE); so is its built-in model, demo.\n")
	b.WriteString("These parts are by others, under the licenses below:\n\n")
	for _, c := range components {
		fmt.Fprintf(&b, "  %s\n", strings.TrimSpace(c.name+" "+c.version))
	}

	for _, c := range components {
		for _, t := range c.texts {
			fmt.Fprintf(&b, "\n%s\n%s: %s\n%s\n\n%s\n", strings.Repeat("=", 100),
				strings.TrimSpace(c.name+" "+c.version), t.name, strings.Repeat("=", 100), t.body)
		}
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// allComponents finds everything that is linked into serve, sorted by name. A component without a license is an error.
func allComponents(o licenseOptions) ([]component, error) {
	modules, err := goModules(o.goarch)
	if err != nil {
		return nil, err
	}
	if o.program != "" {
		if err := complete(o.program, modules); err != nil {
			return nil, err
		}
	}

	packages, err := npmPackages("web")
	if err != nil {
		return nil, err
	}
	native, err := nativeComponents("engine/llama/build.sh", llamaSource)
	if err != nil {
		return nil, err
	}

	all := slices.Concat(modules, packages, native, []component{
		{name: "GCC's runtime libraries", texts: []text{{name: "notice", body: gccLicense}}},
		{name: "GNU C Library", texts: []text{{name: "notice", body: glibcLicense}}},
	})
	for _, t := range o.extra {
		all = append(all, component{name: t.name, texts: []text{{name: "license", body: t.body}}})
	}
	slices.SortFunc(all, func(a, b component) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.name), strings.ToLower(b.name)), cmp.Compare(a.version, b.version))
	})
	return all, licensed(all)
}

// licensed makes sure that every component has a license.
func licensed(components []component) error {
	var missing []string
	for _, c := range components {
		if !slices.ContainsFunc(c.texts, func(t text) bool { return strings.TrimSpace(t.body) != "" }) {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no license was found for %s", strings.Join(missing, ", "))
	}
	return nil
}

// complete makes sure that every module in a program is among components.
func complete(program string, components []component) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fmt.Errorf("read modules of %q: %w", program, err)
	}

	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		if !slices.ContainsFunc(components, func(c component) bool { return c.name == m.Path && c.version == m.Version }) {
			return fmt.Errorf("%s has module %s %s, whose license was not collected", program, m.Path, m.Version)
		}
	}
	return nil
}

// licenseFile matches the names of files with a license, or a notice that must be included.
var licenseFile = regexp.MustCompile(`(?i)(licen[cs]e|copying|copyright|notice|patents)[^/]*$`)

// source matches source files whose names look like licenses: license.go.
var source = regexp.MustCompile(`\.(go|c|h|js|ts|mjs|json|ya?ml|sh|tmpl)$`)

// licensesIn reads the licenses in a folder, or in its subfolder licenses. Their
// names begin with prefix.
func licensesIn(folder, prefix string) (texts []text, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}

	for _, entry := range entries {
		name := entry.Name()
		path := filepath.Join(folder, name)

		switch {
		case entry.IsDir() && regexp.MustCompile(`(?i)^licen[cs]es$`).MatchString(name):
			below, err := licensesIn(path, prefix+name+"/")
			if err != nil {
				return nil, err
			}
			texts = append(texts, below...)
		case entry.Type().IsRegular() && licenseFile.MatchString(name) && !source.MatchString(name):
			body, err := readLicense(path)
			if err != nil {
				return nil, err
			}
			texts = append(texts, text{name: prefix + name, body: body})
		}
	}
	return texts, nil
}

// readLicense reads a text of bounded size, with the line ends of Unix.
func readLicense(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()

	b, err := io.ReadAll(io.LimitReader(f, maxLicense+1))
	if err != nil {
		return "", fmt.Errorf("read license %q: %w", path, err)
	}
	if len(b) > maxLicense {
		return "", fmt.Errorf("%s has more than %d bytes: is it a license?", path, maxLicense)
	}
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\r\n", "\n")), nil
}

// readNamed reads NAME=FILE.
func readNamed(value string) (t text, err error) {
	name, path, ok := strings.Cut(value, "=")
	if !ok {
		return t, errors.New("expected NAME=FILE")
	}
	body, err := readLicense(path)
	return text{name: name, body: body}, err
}

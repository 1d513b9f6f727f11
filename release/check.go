package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"serve/release/glibc"
)

// check returns an error if a program must not be published.
func check(root string, programs []string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}

	for _, program := range programs {
		if err := checkProgram(program, root); err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
	}
	return nil
}

// checkProgram makes sure that a program runs where README.md says, and that it contains nothing about who built it.
func checkProgram(program, root string) error {
	version, symbols, err := glibc.Needs(program)
	if err != nil {
		return err
	}
	if glibc.Compare(version, glibc.Oldest) > 0 {
		return fmt.Errorf("needs glibc %s for %v, README.md says %s: build it on Debian 12", version, symbols, glibc.Oldest)
	}

	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if found := pathBelow(root).FindSubmatch(content); found != nil {
		return fmt.Errorf("has the path of the folder that it was built in: %q", printable(found[1]))
	}

	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return fmt.Errorf("was built with %s=%s", s.Key, s.Value)
		}
	}
	return nil
}

// pathBelow matches a path below a folder and what follows, but not where its name is the end of another: of /src,
// which containers build in, there is more than one.
func pathBelow(folder string) *regexp.Regexp {
	return regexp.MustCompile(`(?:^|[^\w.+-])(` + regexp.QuoteMeta(folder) + `/[!-~]*)`)
}

// printable is the beginning of some bytes, up to one that is no text.
func printable(b []byte) []byte {
	end := bytes.IndexFunc(b, func(r rune) bool { return r < ' ' || r > '~' })
	if end < 0 || end > 120 {
		end = min(120, len(b))
	}
	return b[:end]
}

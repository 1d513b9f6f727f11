// Package glibc reads which version of the C library a program needs.
package glibc

import (
	"debug/elf"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Oldest is the oldest version that README.md promises support for. Ubuntu 22.04 has 2.35, Debian 12 has 2.36, RHEL 9
// and Amazon Linux 2023 have 2.34.
const Oldest = "2.34"

// Needs returns the newest version of glibc that a program requires, and the symbols that require it.
func Needs(path string) (version string, symbols []string, err error) {
	file, err := elf.Open(path)
	if err != nil {
		return "", nil, fmt.Errorf("read program %q: %w", path, err)
	}
	defer file.Close()

	imported, err := file.ImportedSymbols()
	if err != nil {
		return "", nil, fmt.Errorf("read symbols of %q: %w", path, err)
	}

	for _, s := range imported {
		needed, ok := strings.CutPrefix(s.Version, "GLIBC_")
		if !ok {
			continue
		}

		switch Compare(needed, version) {
		case 1:
			version = needed
			symbols = []string{s.Name}
		case 0:
			symbols = append(symbols, s.Name)
		}
	}
	return version, symbols, nil
}

// Compare compares two versions, number by number; the empty one is the least.
func Compare(a, b string) int { return slices.Compare(numbers(a), numbers(b)) }

// numbers reads a version up to the first part that is no number.
func numbers(version string) (list []int) {
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		list = append(list, n)
	}
	return list
}

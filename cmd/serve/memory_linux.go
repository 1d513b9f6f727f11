package main

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// freeMemory returns the bytes that this process may still take: what the
// machine has available, or less where a control group says so. 0 means unknown.
func freeMemory() uint64 {
	free := meminfo("/proc/meminfo", "MemAvailable:")
	group, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return free
	}
	// Version 2 has one line, 0::/path. Every group up to the root can have a limit.
	_, path, _ := strings.Cut(strings.TrimSpace(string(group)), "0::")
	for dir := filepath.Join("/sys/fs/cgroup", path); strings.HasPrefix(dir, "/sys/fs/cgroup"); dir = filepath.Dir(dir) {
		if left, ok := groupRoom(dir); ok {
			free = min(free, left)
		}
	}
	return free
}

// groupRoom returns what a control group's limit leaves; cached files do not count.
func groupRoom(dir string) (uint64, bool) {
	limit, err := readNumber(filepath.Join(dir, "memory.max"))
	if err != nil {
		return 0, false
	}
	used, err := readNumber(filepath.Join(dir, "memory.current"))
	if err != nil {
		return 0, false
	}
	used -= min(used, meminfo(filepath.Join(dir, "memory.stat"), "inactive_file"))
	return limit - min(limit, used), true
}

func readNumber(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}

// meminfo returns a number from a file of names and numbers, in bytes.
func meminfo(path, name string) uint64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != name {
			continue
		}
		n, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			return 0
		}
		if len(fields) > 2 && fields[2] == "kB" {
			n <<= 10
		}
		return n
	}
	return 0
}

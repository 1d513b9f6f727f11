package machine

import (
	"bufio"
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FreeMemory returns the bytes that this process can still allocate: those available on
// the machine, or fewer if a control group (cgroup) has a limit. 0 means unknown.
func FreeMemory() uint64 {
	free := meminfo("/proc/meminfo", "MemAvailable:")
	for dir := range controlGroups() {
		if left, ok := groupRoom(dir); ok {
			free = min(free, left)
		}
	}
	return free
}

// Memory returns the bytes of main memory that this process could have if it were alone: the machine's, or
// the limit of its control group. 0 means unknown.
func Memory() uint64 {
	total := meminfo("/proc/meminfo", "MemTotal:")
	if limit := MemoryLimit(); limit > 0 {
		total = min(total, limit)
	}
	return total
}

// MemoryLimit returns the memory limit of this process's control group, in bytes; 0 for no limit.
func MemoryLimit() (limit uint64) {
	for dir := range controlGroups() {
		n, err := readNumber(filepath.Join(dir, "memory.max"))
		if err == nil && (limit == 0 || n < limit) {
			limit = n
		}
	}
	return limit
}

// controlGroups yields this process's control group and its ancestors: each can have a limit.
func controlGroups() iter.Seq[string] {
	return func(yield func(string) bool) {
		group, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			return
		}

		// Version 2 has one line, 0::/path.
		_, path, _ := strings.Cut(strings.TrimSpace(string(group)), "0::")
		const root = "/sys/fs/cgroup"
		for dir := filepath.Join(root, path); strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
			if !yield(dir) {
				return
			}
		}
	}
}

// ResidentMemory returns a process's resident memory in bytes, including mapped files; 0 if
// unknown.
func ResidentMemory(pid int) uint64 {
	if pid == 0 {
		return 0
	}
	return meminfo(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
}

// PrivateMemory returns a process's resident memory in bytes without mapped files, which processes share; 0 if unknown.
func PrivateMemory(pid int) uint64 {
	if pid == 0 {
		return 0
	}
	return meminfo(fmt.Sprintf("/proc/%d/status", pid), "RssAnon:")
}

// ResidentFiles returns the resident bytes of mapped files of this process.
func ResidentFiles() uint64 { return meminfo("/proc/self/status", "RssFile:") }

// CPUQuota returns how many CPUs' worth of time the control group allows, 0 for no limit.
func CPUQuota() float64 {
	var quota float64
	for dir := range controlGroups() {
		text, err := os.ReadFile(filepath.Join(dir, "cpu.max"))
		if err != nil {
			continue
		}

		var most, period float64
		n, _ := fmt.Sscan(string(text), &most, &period) // "max" is not a number: no quota
		if n == 2 && period > 0 && (quota == 0 || most/period < quota) {
			quota = most / period
		}
	}
	return quota
}

// groupRoom returns the bytes that a control group's limit leaves; cached files do not count.
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

// LockLimit returns the bytes that this process may lock in memory.
func LockLimit() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return 0
	}
	return limit.Cur
}

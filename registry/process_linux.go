package registry

import (
	"bytes"
	"fmt"
	"os"
)

// startOf returns when a process was started, as the number of the machine's start and the ticks since then; "" if that
// cannot be found out.
func startOf(pid int) string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}

	// The second field is a name in parentheses, which may have any characters; the 22nd is the time.
	const after = 22 - 3
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= after {
		return ""
	}
	return fmt.Sprintf("%s/%s", bytes.TrimSpace(boot), fields[after])
}

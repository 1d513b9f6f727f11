package main

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sys/unix"

	"serve/machine"
)

// leastFiles is how many files serve may want open: a connection a request, and its own.
const leastFiles = 1024

// seeLimits looks at what the system lets a process have.
func (w *workplace) seeLimits(context.Context, doctorOptions) (list []finding) {
	var files, space unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		f := finding{About: "open files", Severity: fine, Seen: fmt.Sprintf("%d at a time", files.Cur)}
		if files.Cur < leastFiles {
			f.Severity, f.Do = warning, fmt.Sprintf("each request that is answered or waits takes one: ulimit -n %d, or LimitNOFILE= of a service", leastFiles)
		}
		list = append(list, f)
	}
	if err := unix.Getrlimit(unix.RLIMIT_AS, &space); err == nil && space.Cur < math.MaxInt64 {
		list = append(list, finding{"address space", warning, machine.FormatSize(space.Cur) + " at most",
			"mapped weights count, too: ulimit -v unlimited, or start serve with --no-mmap"})
	}
	if quota := machine.CPUQuota(); quota > 0 && quota < float64(runtime.NumCPU()) {
		list = append(list, finding{"cpu quota", fine, fmt.Sprintf("%.1f of %d processors, by the control group", quota, runtime.NumCPU()), ""})
	}
	return list
}

// freeDisk returns the bytes that this user may still write to a folder's disk.
func freeDisk(folder string) (uint64, bool) {
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		return 0, false
	}
	return fs.Bavail * uint64(fs.Bsize), true
}

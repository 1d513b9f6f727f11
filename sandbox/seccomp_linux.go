package sandbox

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The offsets of struct seccomp_data, which describes a system call.
const (
	offsetNumber   = 0
	offsetArch     = 4
	offsetArgument = 16 // the lower half of the first
)

// arches has the numbers that identify architectures in filters.
var arches = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// Results of a filter.
const (
	seccompAllow = 0x7fff0000
	seccompErrno = 0x00050000
)

// ForbidNetwork prevents this process, with all its threads and children, from ever opening
// network sockets and from gaining privileges. Open sockets stay open, and local sockets
// (MPS's, a driver's) can still be opened.
func ForbidNetwork() error {
	arch, known := arches[runtime.GOARCH]
	if !known {
		return fmt.Errorf("not supported on %s", runtime.GOARCH)
	}

	filter := networkFilter(arch)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}

	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("no network: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("no network: thread %d cannot be confined", thread)
	}
	return nil
}

// networkFilter is the program that decides on every system call.
func networkFilter(arch uint32) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	// is compares the value, and skips a number of instructions for equal and for different.
	is := func(value uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: yes, Jf: no}
	}
	answer := func(value uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value} }
	refuse := func(errno unix.Errno) unix.SockFilter { return answer(seccompErrno | uint32(errno)) }

	return []unix.SockFilter{
		load(offsetArch),
		is(arch, 1, 0),
		refuse(unix.ENOSYS), // another set of system calls, with different numbers
		load(offsetNumber),
		is(unix.SYS_IO_URING_SETUP, 0, 1),
		refuse(unix.ENOSYS), // which could open sockets too
		is(unix.SYS_SOCKET, 0, 4),
		load(offsetArgument),
		is(unix.AF_UNIX, 2, 0),
		is(unix.AF_NETLINK, 1, 0), // which drivers use to talk to the kernel
		refuse(unix.EACCES),
		answer(seccompAllow),
	}
}

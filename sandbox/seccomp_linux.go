package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The offsets of struct seccomp_data, which describes a system call.
const (
	offsetNumber    = 0
	offsetArch      = 4
	offsetArguments = 16 // 8 bytes each, the lower half first
)

// arches has the numbers that identify architectures in filters.
var arches = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// Results of a filter.
const (
	seccompAllow = 0x7fff0000
	seccompErrno = 0x00050000
)

// lastKnown is the last system call that was considered for the lists. The kernel does not have those after it, as
// far as the process is told: libraries then fall back to older ones. The calls of x32, another set for amd64, have
// larger numbers, too.
const lastKnown = unix.SYS_RSEQ_SLICE_YIELD

// call is a system call that is allowed, if all conditions hold.
type call struct {
	number     uint32
	conditions []condition
}

// condition holds if a half of an argument, of the bits in mask, is one of the values.
type condition struct {
	argument uint32
	upper    bool // half; otherwise the lower one
	mask     uint32
	values   []uint32
}

// on is the condition that an argument, of which the lower half counts, is one of the values.
func on(argument uint32, values ...uint32) condition { return masked(argument, all, values...) }

// masked is the condition that these bits of an argument are one of the values.
func masked(argument, mask uint32, values ...uint32) condition {
	return condition{argument: argument, mask: mask, values: values}
}

// offset returns where the half is in struct seccomp_data.
func (c condition) offset() uint32 {
	if c.upper {
		return offsetArguments + 8*c.argument + 4
	}
	return offsetArguments + 8*c.argument
}

// all is the mask of a condition about a whole argument.
const all = 0xffffffff

// Seal leaves this process, with all its threads, no system calls but those that computing needs; what it has
// open stays open. The error says what of the sandbox is not in force. A process that Start did not start is not
// confined by Enter either.
func Seal() error {
	var before error
	s := entered
	if s == nil {
		s = new(state)
		before = errors.New("files: the process was not started in a sandbox")
	} else if s.Failed != "" {
		before = errors.New(s.Failed)
	}

	// Nobody else looks into its memory, and no dump shows it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		before = errors.Join(before, fmt.Errorf("memory: %w", err))
	}
	return errors.Join(before, seal(s))
}

// seal installs the filter.
func seal(s *state) error {
	arch, known := arches[runtime.GOARCH]
	if !known {
		return fmt.Errorf("system calls: not supported on %s", runtime.GOARCH)
	}
	return install(filterOf(arch, allowedCalls(s, uint32(os.Getpid()))))
}

// install has the kernel ask a filter about each system call of all threads of this process, and of what it starts.
func install(filter []unix.SockFilter) error {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}

	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("system calls: %w", errno)
	}
	if thread != 0 {
		return fmt.Errorf("system calls: thread %d cannot be confined", thread)
	}
	return nil
}

// filterOf returns the program that decides on every system call of an architecture: those of another have
// different numbers. On Linux 5.11 and later the kernel decides calls without conditions by a bitmap; before, the
// program runs each time, and comes to the first calls of the list first.
func filterOf(arch uint32, calls []call) []unix.SockFilter {
	program := beginning(arch, absent)
	for _, c := range calls {
		program = append(program, c.program()...)
	}
	return append(program, refuse(unix.EPERM))
}

// beginning returns the instructions that refuse other architectures' calls, calls that nobody knew when the lists
// were made, and those that are to look absent. The call's number is loaded behind them.
func beginning(arch uint32, absent []uint32) []unix.SockFilter {
	program := []unix.SockFilter{
		load(offsetArch),
		jump(unix.BPF_JEQ, arch, 1, 0),
		refuse(unix.ENOSYS),
		load(offsetNumber),
		jump(unix.BPF_JGT, lastKnown, 0, 1),
		refuse(unix.ENOSYS),
	}
	for _, number := range absent {
		program = append(program, jump(unix.BPF_JEQ, number, 0, 1), refuse(unix.ENOSYS))
	}
	return program
}

// program allows a call or goes on behind it; the number is loaded before and after.
func (c call) program() []unix.SockFilter {
	var body []unix.SockFilter
	for _, cond := range c.conditions {
		body = append(body, load(cond.offset()))
		if cond.mask != all {
			body = append(body, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: cond.mask})
		}
		for i, value := range cond.values {
			body = append(body, jump(unix.BPF_JEQ, value, uint8(len(cond.values)-i), 0))
		}
		body = append(body, jump(unix.BPF_JA, 0, 0, 0)) // to the end, below
	}
	body = append(body, answer(seccompAllow))

	for i := range body {
		if body[i].Code == unix.BPF_JMP|unix.BPF_JA {
			body[i].K = uint32(len(body) - i - 1)
		}
	}
	if len(c.conditions) > 0 {
		body = append(body, load(offsetNumber))
	}
	return append([]unix.SockFilter{jump(unix.BPF_JEQ, c.number, 0, uint8(len(body)))}, body...)
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// jump compares the value, and skips a number of instructions for yes and for no.
func jump(comparison uint16, value uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_K, K: value, Jt: yes, Jf: no}
}

func answer(value uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
}

func refuse(errno unix.Errno) unix.SockFilter { return answer(seccompErrno | uint32(errno)) }

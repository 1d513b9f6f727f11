//go:build amd64 || arm64

package sandbox

import (
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// decide runs a filter as the kernel does.
func decide(t *testing.T, program []unix.SockFilter, arch, number uint32, arguments ...uint64) uint32 {
	t.Helper()
	data := map[uint32]uint32{offsetNumber: number, offsetArch: arch}
	for i := range 6 {
		data[uint32(offsetArguments+8*i)] = 0
		data[uint32(offsetArguments+8*i+4)] = 0
	}
	for i, a := range arguments {
		data[uint32(offsetArguments+8*i)] = uint32(a)
		data[uint32(offsetArguments+8*i+4)] = uint32(a >> 32)
	}

	var value uint32
	for at := 0; at < len(program); at++ {
		i := program[at]
		yes := false
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			value = data[i.K]
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			value &= i.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_JA:
			at += int(i.K)
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			yes = value == i.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			yes = value > i.K
		default:
			t.Fatalf("instruction %d: code %#x", at, i.Code)
		}
		if yes {
			at += int(i.Jt)
		} else {
			at += int(i.Jf)
		}
	}
	t.Fatal("the program has no end")
	return 0
}

// TestFilter decides on calls that a probe cannot make: of other architectures, or such as would do something.
func TestFilter(t *testing.T) {
	const pid = 77
	const other = 78
	const x32Bit = 0x40000000
	arch := arches[runtime.GOARCH]
	closed := &state{}
	devices := &state{Devices: true}
	mps := &state{Devices: true, MPS: true}
	refusedBy := func(errno unix.Errno) uint32 { return seccompErrno | uint32(errno) }
	thread := uint64(unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD)

	for _, c := range []struct {
		name      string
		state     *state
		arch      uint32
		number    uint32
		arguments []uint64
		want      uint32
	}{
		{"read", closed, arch, unix.SYS_READ, nil, seccompAllow},
		{"a thread", closed, arch, unix.SYS_CLONE, []uint64{thread}, seccompAllow},
		{"a process", closed, arch, unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, refusedBy(unix.EPERM)},
		{"a process that shares memory", closed, arch, unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_VFORK},
			refusedBy(unix.EPERM)},
		{"a process, said newly", closed, arch, unix.SYS_CLONE3, nil, refusedBy(unix.ENOSYS)},
		{"a signal to itself", closed, arch, unix.SYS_TGKILL, []uint64{pid, 99, 6}, seccompAllow},
		{"a signal to another", closed, arch, unix.SYS_TGKILL, []uint64{other, 99, 6}, refusedBy(unix.EPERM)},
		{"a signal to all", closed, arch, unix.SYS_KILL, []uint64{^uint64(0), 9}, refusedBy(unix.EPERM)},
		{"a signal to its group", closed, arch, unix.SYS_KILL, []uint64{0, 9}, refusedBy(unix.EPERM)},
		{"its limits", closed, arch, unix.SYS_PRLIMIT64, []uint64{0, 7}, seccompAllow},
		{"another's limits", closed, arch, unix.SYS_PRLIMIT64, []uint64{other, 7}, refusedBy(unix.EPERM)},
		{"its priority", closed, arch, unix.SYS_SETPRIORITY, []uint64{unix.PRIO_PROCESS, 0, 5}, seccompAllow},
		{"its user's priority", closed, arch, unix.SYS_SETPRIORITY, []uint64{unix.PRIO_USER, 0, 19},
			refusedBy(unix.EPERM)},
		{"open", closed, arch, unix.SYS_OPENAT, []uint64{0, 0, unix.O_RDONLY | unix.O_CLOEXEC}, seccompAllow},
		{"open to write, and truncate", closed, arch, unix.SYS_OPENAT, []uint64{0, 0, unix.O_WRONLY | unix.O_TRUNC},
			seccompAllow},
		{"open to read, and truncate", closed, arch, unix.SYS_OPENAT, []uint64{0, 0, unix.O_RDONLY | unix.O_TRUNC},
			refusedBy(unix.EPERM)},
		{"name a thread", closed, arch, unix.SYS_PRCTL, []uint64{unix.PR_SET_NAME}, seccompAllow},
		{"be dumped", closed, arch, unix.SYS_PRCTL, []uint64{unix.PR_SET_DUMPABLE, 1}, refusedBy(unix.EPERM)},
		{"a program", closed, arch, unix.SYS_EXECVE, nil, refusedBy(unix.EPERM)},

		{"a UNIX socket", closed, arch, unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, refusedBy(unix.EPERM)},
		{"a UNIX socket for drivers", devices, arch, unix.SYS_SOCKET,
			[]uint64{unix.AF_UNIX, unix.SOCK_SEQPACKET | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK}, seccompAllow},
		{"datagrams for drivers", devices, arch, unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_DGRAM},
			refusedBy(unix.EPERM)},
		{"events for drivers", devices, arch, unix.SYS_SOCKET,
			[]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT}, seccompAllow},
		{"routes for drivers", devices, arch, unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
			refusedBy(unix.EPERM)},
		{"TCP for drivers", devices, arch, unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM}, refusedBy(unix.EPERM)},
		{"connect for drivers", devices, arch, unix.SYS_CONNECT, nil, refusedBy(unix.EPERM)},
		{"connect to MPS", mps, arch, unix.SYS_CONNECT, nil, seccompAllow},

		{"another architecture's", closed, unix.AUDIT_ARCH_I386, unix.SYS_READ, nil, refusedBy(unix.ENOSYS)},
		{"x32's", closed, arch, x32Bit | unix.SYS_READ, nil, refusedBy(unix.ENOSYS)},
		{"one that nobody knows", closed, arch, lastKnown + 1, nil, refusedBy(unix.ENOSYS)},
	} {
		filter := filterOf(arch, allowedCalls(c.state, pid))
		if got := decide(t, filter, c.arch, c.number, c.arguments...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

// TestFilterLength keeps the program below what the kernel takes, and its jumps within what an instruction holds.
func TestFilterLength(t *testing.T) {
	calls := allowedCalls(&state{Devices: true, MPS: true}, 1)
	if n := len(filterOf(arches[runtime.GOARCH], calls)); n > 4096 {
		t.Errorf("%d instructions", n)
	}
	for _, c := range calls {
		if n := len(c.program()); n > 256 {
			t.Errorf("call %d: %d instructions", c.number, n)
		}
	}
	numbers := slices.Concat(anytime, legacy, forDrivers, legacyForDrivers)
	slices.Sort(numbers)
	if len(slices.Compact(slices.Clone(numbers))) != len(numbers) {
		t.Error("a call is listed twice")
	}
}

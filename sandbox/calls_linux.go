//go:build amd64 || arm64

package sandbox

import (
	"slices"

	"golang.org/x/sys/unix"
)

// absent are system calls for which libraries have another way, which they take if the kernel has none of these.
var absent = []uint32{
	unix.SYS_CLONE3, // whose flags a filter cannot see
	unix.SYS_OPENAT2,
	unix.SYS_FUTEX_WAITV,
	unix.SYS_IO_URING_SETUP,
	unix.SYS_MAP_SHADOW_STACK,
}

// anytime are what Go's runtime, the C library and the kernels for the CPU need: memory, files that Landlock
// grants, threads, time. The frequent ones come first.
var anytime = []uint32{
	unix.SYS_FUTEX, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_NANOSLEEP, unix.SYS_SCHED_YIELD, unix.SYS_EPOLL_PWAIT,
	unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_MADVISE, unix.SYS_CLOCK_GETTIME,

	unix.SYS_BRK, unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MREMAP, unix.SYS_MSYNC,
	unix.SYS_MINCORE, unix.SYS_MLOCK, unix.SYS_MLOCK2, unix.SYS_MUNLOCK, unix.SYS_MLOCKALL, unix.SYS_MUNLOCKALL,
	unix.SYS_MEMBARRIER, unix.SYS_GET_MEMPOLICY, unix.SYS_SET_MEMPOLICY, unix.SYS_MBIND,

	unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE, unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_READV,
	unix.SYS_WRITEV, unix.SYS_PREADV, unix.SYS_PREADV2, unix.SYS_LSEEK, unix.SYS_FSTAT, unix.SYS_NEWFSTATAT,
	unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_FSTATFS, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINKAT,
	unix.SYS_GETDENTS64, unix.SYS_GETCWD, unix.SYS_FCNTL, unix.SYS_FLOCK, unix.SYS_DUP, unix.SYS_DUP3,
	unix.SYS_PIPE2, unix.SYS_IOCTL, unix.SYS_FADVISE64, unix.SYS_READAHEAD,

	unix.SYS_PPOLL, unix.SYS_PSELECT6, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT2,
	unix.SYS_EVENTFD2, unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMERFD_GETTIME,

	// Of the two sockets that it has.
	unix.SYS_SHUTDOWN, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,

	unix.SYS_CLOCK_GETRES, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_GETTIMEOFDAY, unix.SYS_TIMES,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_GETTIME, unix.SYS_TIMER_DELETE,
	unix.SYS_SETITIMER, unix.SYS_GETITIMER,

	unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_SET_TID_ADDRESS,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SCHED_GETPARAM,
	unix.SYS_SCHED_GETSCHEDULER, unix.SYS_SCHED_GETATTR, unix.SYS_SCHED_GET_PRIORITY_MAX,
	unix.SYS_SCHED_GET_PRIORITY_MIN, unix.SYS_GETPRIORITY, unix.SYS_GETCPU,

	unix.SYS_RT_SIGACTION, unix.SYS_SIGALTSTACK, unix.SYS_RT_SIGPENDING, unix.SYS_RT_SIGSUSPEND,
	unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_RESTART_SYSCALL,

	unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETRLIMIT, unix.SYS_SETRLIMIT, unix.SYS_GETRUSAGE, unix.SYS_GETRANDOM,
	unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_GETRESUID, unix.SYS_GETRESGID,
	unix.SYS_GETGROUPS, unix.SYS_GETPGID, unix.SYS_GETSID, unix.SYS_CAPGET,
}

// forDrivers are what the drivers of GPUs need as well: they keep files in the cache and share memory and descriptors
// between their parts, by sockets that are not connected to anybody else's. Calls that change a file's owner,
// permissions, times or length by its path are not among them: Landlock restricts none of these, or not in its first
// versions.
var forDrivers = []uint32{
	unix.SYS_MEMFD_CREATE, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FSYNC, unix.SYS_FDATASYNC,
	unix.SYS_PWRITEV, unix.SYS_PWRITEV2, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2,
	unix.SYS_FCHMOD, unix.SYS_UMASK,
	unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_SENDMSG, unix.SYS_RECVMSG,
	unix.SYS_SENDTO, unix.SYS_RECVFROM, unix.SYS_SIGNALFD4,
}

// opening is what may be asked of an open file: O_TRUNC only with leave to write, which Landlock's first versions do
// not see to.
func opening(argument uint32) condition {
	var modes []uint32
	for mode := range uint32(unix.O_ACCMODE + 1) {
		modes = append(modes, mode)
		if mode != unix.O_RDONLY {
			modes = append(modes, mode|unix.O_TRUNC)
		}
	}
	return masked(argument, unix.O_ACCMODE|unix.O_TRUNC, modes...)
}

// socketType is the mask of the type of a socket, without flags.
const socketType = 0xf

// streams is what a call for a socket says that is to be connected: to one with datagrams, any can be sent.
var streams = masked(1, socketType, unix.SOCK_STREAM, unix.SOCK_SEQPACKET)

// allowedCalls returns the calls that a process with this ID may make.
func allowedCalls(s *state, pid uint32) (calls []call) {
	numbers := slices.Concat(anytime, legacy)
	if s.Devices {
		numbers = slices.Concat(numbers, forDrivers, legacyForDrivers)
	}
	if s.Scratch {
		numbers = append(numbers, unix.SYS_MEMFD_CREATE)
	}
	if s.MPS {
		numbers = append(numbers, unix.SYS_CONNECT)
	}
	for _, n := range numbers {
		calls = append(calls, call{number: n})
	}

	calls = append(calls, legacyOpening...)
	calls = append(calls,
		call{unix.SYS_OPENAT, []condition{opening(2)}},

		// Threads, no processes.
		call{unix.SYS_CLONE, []condition{masked(0, unix.CLONE_THREAD, unix.CLONE_THREAD)}},

		// Signals to itself: Go interrupts its threads so, and abort ends with one.
		call{unix.SYS_TGKILL, []condition{on(0, pid)}},
		call{unix.SYS_KILL, []condition{on(0, pid)}},

		// Only itself: it must neither slow down others nor see their limits.
		call{unix.SYS_PRLIMIT64, []condition{on(0, 0, pid)}},
		call{unix.SYS_SCHED_SETAFFINITY, []condition{on(0, 0, pid)}},
		call{unix.SYS_SCHED_SETSCHEDULER, []condition{on(0, 0, pid)}},
		call{unix.SYS_SCHED_SETPARAM, []condition{on(0, 0, pid)}},
		call{unix.SYS_SETPRIORITY, []condition{on(0, unix.PRIO_PROCESS), on(1, 0, pid)}},

		// Names of threads and of memory; the size of SVE's vectors on Arm.
		call{unix.SYS_PRCTL, []condition{on(0, unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_VMA, unix.PR_GET_DUMPABLE,
			unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP, unix.PR_CAPBSET_READ, unix.PR_SVE_GET_VL)}},
	)
	if !s.Devices {
		return calls
	}

	local := []condition{on(0, unix.AF_UNIX), streams}
	return append(calls,
		call{unix.SYS_SOCKET, local},
		call{unix.SYS_SOCKETPAIR, local},
		// What devices there are, and that one comes or goes.
		call{unix.SYS_SOCKET, []condition{on(0, unix.AF_NETLINK), on(2, unix.NETLINK_KOBJECT_UEVENT)}},
		call{unix.SYS_MOVE_PAGES, []condition{on(0, 0, pid)}},
	)
}

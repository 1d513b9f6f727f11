package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// act is something that a sandbox refuses. If it is not refused, it does no harm: it asks for something that the
// kernel then finds to be wrong, or that changes nothing.
type act struct {
	group string
	name  string
	do    func(Scene) error

	privileged bool // the kernel refuses it to users anyhow
	lacking    bool // not every kernel has it
	granted    bool // to processes that use devices
}

// Probe tries all acts in this process, which must have called Seal.
func Probe(s Scene) (results []Result) {
	for _, a := range acts() {
		err := a.do(s)
		r := Result{Group: a.group, Act: a.name, Refused: refused(err)}
		r.Granted = a.granted && entered != nil && entered.Devices
		if err != nil {
			r.Said = err.Error()
		}
		results = append(results, r)
	}
	return results
}

// refused reports whether an act failed because it is forbidden, not because what it asked for is wrong.
func refused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS)
}

// acts returns all acts.
func acts() []act {
	return slices.Concat(fileActs, processActs, networkActs, privilegeActs, kernelActs, legacyActs)
}

// invalid is an address at which there is nothing, and nowhere a descriptor that is not open.
const (
	invalid = uintptr(1)
	nowhere = ^uintptr(0)
)

// raw makes an act of a system call with these arguments; the rest are zero.
func raw(number uintptr, arguments ...uintptr) func(Scene) error {
	return func(Scene) error {
		var a [6]uintptr
		copy(a[:], arguments)
		return result(unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]))
	}
}

// onParent makes an act of a system call whose first argument is the process that started this one.
func onParent(number uintptr, arguments ...uintptr) func(Scene) error {
	return func(s Scene) error { return raw(number, append([]uintptr{uintptr(s.Process)}, arguments...)...)(s) }
}

func result(_, _ uintptr, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// opened makes an act of opening a file.
func opened(path func(Scene) string, flags int) func(Scene) error {
	return func(s Scene) error {
		file, err := os.OpenFile(path(s), flags, 0o600)
		if err == nil {
			err = file.Close()
		}
		return err
	}
}

// at is a path that is always the same.
func at(path string) func(Scene) string { return func(Scene) string { return path } }

// ofParent is a file in the folder of the process that started this one.
func ofParent(name string) func(Scene) string {
	return func(s Scene) string { return fmt.Sprintf("/proc/%d/%s", s.Process, name) }
}

func theFile(s Scene) string   { return s.File }
func theFolder(s Scene) string { return s.Folder }

var fileActs = []act{
	{group: GroupFiles, name: "read a user's file", do: opened(theFile, os.O_RDONLY)},
	{group: GroupFiles, name: "change a user's file", do: opened(theFile, os.O_WRONLY)},
	{group: GroupFiles, name: "truncate a file opened for reading", do: opened(theFile, os.O_RDONLY|os.O_TRUNC)},
	{group: GroupFiles, name: "truncate", do: func(s Scene) error { return unix.Truncate(s.File, 0) }},
	{group: GroupFiles, name: "list a user's folder", do: opened(theFolder, os.O_RDONLY)},
	{group: GroupFiles, name: "create a file", do: func(s Scene) error {
		path := filepath.Join(s.Folder, "new")
		return errors.Join(opened(at(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL)(s), os.Remove(path))
	}},
	{group: GroupFiles, name: "create a file in /tmp", do: func(s Scene) error {
		path := fmt.Sprintf("/tmp/serve-probe-%d", os.Getpid())
		return errors.Join(opened(at(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL)(s), os.Remove(path))
	}},
	{group: GroupFiles, name: "create a folder", do: func(s Scene) error {
		path := filepath.Join(s.Folder, "folder")
		return errors.Join(os.Mkdir(path, 0o700), os.Remove(path))
	}},
	{group: GroupFiles, name: "create a link", do: raw(unix.SYS_LINKAT, nowhere, invalid, nowhere, invalid)},
	{group: GroupFiles, name: "create a symbolic link", do: raw(unix.SYS_SYMLINKAT, invalid, nowhere, invalid)},
	{group: GroupFiles, name: "create a device", do: raw(unix.SYS_MKNODAT, nowhere, invalid, unix.S_IFIFO)},
	{group: GroupFiles, name: "change permissions", do: func(s Scene) error { return os.Chmod(s.File, 0o600) }},
	{group: GroupFiles, name: "change the owner", do: func(s Scene) error { return os.Chown(s.File, -1, -1) }},
	{group: GroupFiles, name: "change times", do: raw(unix.SYS_UTIMENSAT, nowhere, invalid, invalid)},
	{group: GroupFiles, name: "set an attribute", do: raw(unix.SYS_SETXATTR, invalid, invalid)},
	{group: GroupFiles, name: "create memory with a descriptor", do: raw(unix.SYS_MEMFD_CREATE, invalid), granted: true},
	{group: GroupFiles, name: "list /", do: opened(at("/"), os.O_RDONLY)},
	{group: GroupFiles, name: "list /tmp", do: opened(at("/tmp"), os.O_RDONLY)},
	{group: GroupFiles, name: "list /run", do: opened(at("/run"), os.O_RDONLY)},
	{group: GroupFiles, name: "read /etc/passwd", do: opened(at("/etc/passwd"), os.O_RDONLY)},
	{group: GroupFiles, name: "read /etc/shadow", do: opened(at("/etc/shadow"), os.O_RDONLY), privileged: true},
	{group: GroupFiles, name: "list processes", do: opened(at("/proc"), os.O_RDONLY)},
	{group: GroupFiles, name: "read another process's command line", do: opened(ofParent("cmdline"), os.O_RDONLY)},
	{group: GroupFiles, name: "read another process's environment", do: opened(ofParent("environ"), os.O_RDONLY),
		privileged: true},
	{group: GroupFiles, name: "read another process's memory", do: opened(ofParent("mem"), os.O_RDONLY),
		privileged: true},
	{group: GroupFiles, name: "list another process's files", do: opened(ofParent("fd"), os.O_RDONLY),
		privileged: true},
	{group: GroupFiles, name: "change a kernel parameter", do: opened(at("/proc/sys/kernel/core_pattern"), os.O_WRONLY),
		privileged: true},
	{group: GroupFiles, name: "read the kernel's log", do: opened(at("/dev/kmsg"), os.O_RDONLY|unix.O_NONBLOCK),
		privileged: true, lacking: true},
	{group: GroupFiles, name: "open a terminal multiplexer", do: opened(at("/dev/ptmx"), os.O_RDWR), lacking: true},
	{group: GroupFiles, name: "see variables of the environment that are not allowed", do: foreignVariables},
	{group: GroupFiles, name: "leave a core dump", do: func(Scene) error {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err == nil && limit.Max > 0 {
			return nil
		}
		return unix.EPERM
	}},
}

// foreignVariables fails unless there are variables that Environ leaves out.
func foreignVariables(Scene) error {
	names := allowed
	if entered != nil {
		names = slices.Concat(allowed, entered.Variables)
	}
	if slices.ContainsFunc(os.Environ(), func(pair string) bool { return foreign(pair, names) }) {
		return nil
	}
	return unix.EPERM
}

var processActs = []act{
	// Without flags that go together, so that no process begins.
	{group: GroupProcesses, name: "fork", do: raw(unix.SYS_CLONE, unix.CLONE_NEWNS|unix.CLONE_FS)},
	{group: GroupProcesses, name: "clone3", do: raw(unix.SYS_CLONE3, invalid)},
	{group: GroupProcesses, name: "execve", do: raw(unix.SYS_EXECVE, invalid)},
	{group: GroupProcesses, name: "execveat", do: raw(unix.SYS_EXECVEAT, nowhere, invalid)},
	{group: GroupProcesses, name: "signal the parent", do: onParent(unix.SYS_KILL, 0)},
	{group: GroupProcesses, name: "tkill", do: onParent(unix.SYS_TKILL, 0)},
	{group: GroupProcesses, name: "tgkill", do: func(s Scene) error {
		return unix.Tgkill(s.Process, s.Process, 0)
	}},
	{group: GroupProcesses, name: "rt_sigqueueinfo", do: onParent(unix.SYS_RT_SIGQUEUEINFO, 0, invalid)},
	{group: GroupProcesses, name: "rt_tgsigqueueinfo", do: onParent(unix.SYS_RT_TGSIGQUEUEINFO, 1, 0, invalid)},
	{group: GroupProcesses, name: "pidfd_open", do: onParent(unix.SYS_PIDFD_OPEN)},
	{group: GroupProcesses, name: "pidfd_send_signal", do: raw(unix.SYS_PIDFD_SEND_SIGNAL, nowhere)},
	{group: GroupProcesses, name: "pidfd_getfd", do: raw(unix.SYS_PIDFD_GETFD, nowhere)},
	{group: GroupProcesses, name: "ptrace", do: func(s Scene) error {
		return raw(unix.SYS_PTRACE, unix.PTRACE_PEEKTEXT, uintptr(s.Process))(s)
	}},
	{group: GroupProcesses, name: "process_vm_readv", do: onParent(unix.SYS_PROCESS_VM_READV), lacking: true},
	{group: GroupProcesses, name: "process_vm_writev", do: onParent(unix.SYS_PROCESS_VM_WRITEV), lacking: true},
	{group: GroupProcesses, name: "process_madvise", do: raw(unix.SYS_PROCESS_MADVISE, nowhere), lacking: true},
	{group: GroupProcesses, name: "kcmp", do: onParent(unix.SYS_KCMP, nowhere, 99), lacking: true},
	{group: GroupProcesses, name: "limits of the parent", do: onParent(unix.SYS_PRLIMIT64, unix.RLIMIT_CPU),
		privileged: true},
	{group: GroupProcesses, name: "processors of the parent", do: onParent(unix.SYS_SCHED_SETAFFINITY, 8, invalid)},
	{group: GroupProcesses, name: "priority of the parent", do: func(s Scene) error {
		return raw(unix.SYS_SETPRIORITY, 99, uintptr(s.Process))(s)
	}},
	{group: GroupProcesses, name: "scheduling of the parent", do: onParent(unix.SYS_SCHED_SETSCHEDULER, 0, invalid)},
	{group: GroupProcesses, name: "memory policy of the parent", do: onParent(unix.SYS_MIGRATE_PAGES, 64, invalid),
		lacking: true},
	{group: GroupProcesses, name: "ioprio_set", do: raw(unix.SYS_IOPRIO_SET, 99)},
	{group: GroupProcesses, name: "setpgid", do: raw(unix.SYS_SETPGID, 0, nowhere)},
}

// socket makes an act of opening a socket.
func socket(family, kind, protocol int) func(Scene) error {
	return func(Scene) error {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

// dial makes an act of connecting.
func dial(network string, address func(Scene) string) func(Scene) error {
	return func(s Scene) error {
		c, err := net.Dial(network, address(s))
		if err == nil {
			c.Close()
		}
		return err
	}
}

var networkActs = []act{
	{group: GroupNetwork, name: "TCP", do: dial("tcp", func(s Scene) string { return s.Address })},
	{group: GroupNetwork, name: "TCP over IPv6", do: socket(unix.AF_INET6, unix.SOCK_STREAM, 0), lacking: true},
	{group: GroupNetwork, name: "UDP", do: dial("udp", at("127.0.0.1:9"))},
	{group: GroupNetwork, name: "ICMP", do: socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), privileged: true},
	{group: GroupNetwork, name: "packets", do: socket(unix.AF_PACKET, unix.SOCK_RAW, 0), privileged: true, lacking: true},
	{group: GroupNetwork, name: "virtual machines' sockets", do: socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
		lacking: true},
	{group: GroupNetwork, name: "the kernel's cryptography", do: socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
		lacking: true},
	{group: GroupNetwork, name: "routes by netlink", do: socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)},
	{group: GroupNetwork, name: "a UNIX socket", do: socket(unix.AF_UNIX, unix.SOCK_STREAM, 0), granted: true},
	{group: GroupNetwork, name: "a UNIX datagram socket", do: socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)},
	{group: GroupNetwork, name: "connect to a UNIX socket", do: dial("unix", func(s Scene) string { return s.Socket })},
	{group: GroupNetwork, name: "connect", do: raw(unix.SYS_CONNECT, nowhere)},
	{group: GroupNetwork, name: "bind", do: raw(unix.SYS_BIND, nowhere), granted: true},
	{group: GroupNetwork, name: "listen", do: raw(unix.SYS_LISTEN, nowhere), granted: true},
	{group: GroupNetwork, name: "accept", do: raw(unix.SYS_ACCEPT4, nowhere), granted: true},
	{group: GroupNetwork, name: "sendmsg", do: raw(unix.SYS_SENDMSG, nowhere), granted: true},
	{group: GroupNetwork, name: "sendmmsg", do: raw(unix.SYS_SENDMMSG, nowhere)},
	{group: GroupNetwork, name: "recvmsg", do: raw(unix.SYS_RECVMSG, nowhere), granted: true},
	{group: GroupNetwork, name: "sendto", do: raw(unix.SYS_SENDTO, nowhere), granted: true},
}

// status makes an act of a line of /proc/self/status, which fails if it has the value that it should have.
func status(name string, want ...string) func(Scene) error {
	return func(Scene) error {
		file, err := os.Open("/proc/self/status")
		if err != nil {
			return errors.New("/proc/self/status cannot be read")
		}
		defer file.Close()

		for lines := bufio.NewScanner(file); lines.Scan(); {
			if value, ok := strings.CutPrefix(lines.Text(), name+":\t"); ok && slices.Contains(want, value) {
				return unix.EPERM
			}
		}
		return nil
	}
}

const noCapabilities = "0000000000000000"

var privilegeActs = []act{
	{group: GroupPrivileges, name: "have capabilities", do: status("CapPrm", noCapabilities), privileged: true},
	{group: GroupPrivileges, name: "have effective capabilities", do: status("CapEff", noCapabilities), privileged: true},
	{group: GroupPrivileges, name: "pass on capabilities", do: status("CapInh", noCapabilities), privileged: true,
		lacking: true},
	{group: GroupPrivileges, name: "have ambient capabilities", do: status("CapAmb", noCapabilities), privileged: true,
		lacking: true},
	{group: GroupPrivileges, name: "gain privileges by a program", do: status("NoNewPrivs", "1")},
	{group: GroupPrivileges, name: "make calls without a filter", do: status("Seccomp", "2")},
	{group: GroupPrivileges, name: "be looked into by others", do: func(Scene) error {
		if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err == nil && dumpable == 0 {
			return unix.EPERM
		}
		return nil
	}},
	{group: GroupPrivileges, name: "let others look into it", do: raw(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1)},
	{group: GroupPrivileges, name: "change the filter", do: raw(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0,
		invalid)},
	{group: GroupPrivileges, name: "make a ruleset", do: raw(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1), lacking: true},
	{group: GroupPrivileges, name: "capset", do: raw(unix.SYS_CAPSET, invalid)},
	{group: GroupPrivileges, name: "setuid", do: raw(unix.SYS_SETRESUID, nowhere, nowhere, nowhere)},
	{group: GroupPrivileges, name: "setgid", do: raw(unix.SYS_SETRESGID, nowhere, nowhere, nowhere)},
	{group: GroupPrivileges, name: "setgroups", do: raw(unix.SYS_SETGROUPS, 1, invalid), privileged: true},
	{group: GroupPrivileges, name: "unshare", do: raw(unix.SYS_UNSHARE)},
	{group: GroupPrivileges, name: "setns", do: raw(unix.SYS_SETNS, nowhere)},
	{group: GroupPrivileges, name: "chroot", do: raw(unix.SYS_CHROOT, invalid), privileged: true},
	{group: GroupPrivileges, name: "pivot_root", do: raw(unix.SYS_PIVOT_ROOT, invalid, invalid), privileged: true},
	{group: GroupPrivileges, name: "mount", do: raw(unix.SYS_MOUNT, invalid, invalid, invalid), privileged: true},
	{group: GroupPrivileges, name: "umount", do: raw(unix.SYS_UMOUNT2, invalid), privileged: true},
	{group: GroupPrivileges, name: "fsopen", do: raw(unix.SYS_FSOPEN, invalid), privileged: true, lacking: true},
	{group: GroupPrivileges, name: "open_tree", do: raw(unix.SYS_OPEN_TREE, nowhere, invalid), privileged: true,
		lacking: true},
	{group: GroupPrivileges, name: "move_mount", do: raw(unix.SYS_MOVE_MOUNT, nowhere, invalid, nowhere, invalid),
		privileged: true, lacking: true},
	{group: GroupPrivileges, name: "personality", do: raw(unix.SYS_PERSONALITY, 0xffffffff)},
}

var kernelActs = []act{
	{group: GroupKernel, name: "keyctl", do: raw(unix.SYS_KEYCTL, 0xffff), lacking: true},
	{group: GroupKernel, name: "add_key", do: raw(unix.SYS_ADD_KEY, invalid, invalid), lacking: true},
	{group: GroupKernel, name: "request_key", do: raw(unix.SYS_REQUEST_KEY, invalid, invalid), lacking: true},
	{group: GroupKernel, name: "bpf", do: raw(unix.SYS_BPF, 0xffff), privileged: true, lacking: true},
	{group: GroupKernel, name: "perf_event_open", do: raw(unix.SYS_PERF_EVENT_OPEN, invalid), lacking: true},
	{group: GroupKernel, name: "userfaultfd", do: raw(unix.SYS_USERFAULTFD, 0xffff), privileged: true, lacking: true},
	{group: GroupKernel, name: "io_uring_setup", do: raw(unix.SYS_IO_URING_SETUP, 1, invalid), lacking: true},
	{group: GroupKernel, name: "io_uring_enter", do: raw(unix.SYS_IO_URING_ENTER, nowhere), lacking: true},
	{group: GroupKernel, name: "io_uring_register", do: raw(unix.SYS_IO_URING_REGISTER, nowhere, 99), lacking: true},
	{group: GroupKernel, name: "init_module", do: raw(unix.SYS_INIT_MODULE, invalid), privileged: true, lacking: true},
	{group: GroupKernel, name: "finit_module", do: raw(unix.SYS_FINIT_MODULE, nowhere), privileged: true, lacking: true},
	{group: GroupKernel, name: "delete_module", do: raw(unix.SYS_DELETE_MODULE, invalid), privileged: true, lacking: true},
	{group: GroupKernel, name: "kexec_load", do: raw(unix.SYS_KEXEC_LOAD, 0, 99), privileged: true, lacking: true},
	{group: GroupKernel, name: "reboot", do: raw(unix.SYS_REBOOT), privileged: true},
	{group: GroupKernel, name: "syslog", do: raw(unix.SYS_SYSLOG, 10), privileged: true, lacking: true},
	{group: GroupKernel, name: "acct", do: raw(unix.SYS_ACCT, invalid), privileged: true, lacking: true},
	{group: GroupKernel, name: "swapon", do: raw(unix.SYS_SWAPON, invalid), privileged: true, lacking: true},
	{group: GroupKernel, name: "swapoff", do: raw(unix.SYS_SWAPOFF, invalid), privileged: true, lacking: true},
	{group: GroupKernel, name: "settimeofday", do: raw(unix.SYS_SETTIMEOFDAY, invalid), privileged: true},
	{group: GroupKernel, name: "clock_settime", do: raw(unix.SYS_CLOCK_SETTIME, 0, invalid), privileged: true},
	{group: GroupKernel, name: "adjtimex", do: raw(unix.SYS_ADJTIMEX, invalid)},
	{group: GroupKernel, name: "sethostname", do: raw(unix.SYS_SETHOSTNAME, invalid, 1), privileged: true},
	{group: GroupKernel, name: "quotactl", do: raw(unix.SYS_QUOTACTL, nowhere, invalid), privileged: true, lacking: true},
	{group: GroupKernel, name: "name_to_handle_at", do: raw(unix.SYS_NAME_TO_HANDLE_AT, nowhere, invalid), lacking: true},
	{group: GroupKernel, name: "open_by_handle_at", do: raw(unix.SYS_OPEN_BY_HANDLE_AT, nowhere, invalid),
		privileged: true, lacking: true},
	{group: GroupKernel, name: "fanotify_init", do: raw(unix.SYS_FANOTIFY_INIT, nowhere), privileged: true, lacking: true},
	{group: GroupKernel, name: "inotify_init1", do: raw(unix.SYS_INOTIFY_INIT1, nowhere)},
	{group: GroupKernel, name: "memfd_secret", do: raw(unix.SYS_MEMFD_SECRET, nowhere), lacking: true},
	{group: GroupKernel, name: "splice", do: raw(unix.SYS_SPLICE, nowhere, 0, nowhere, 0, 1)},
	{group: GroupKernel, name: "vmsplice", do: raw(unix.SYS_VMSPLICE, nowhere)},
	{group: GroupKernel, name: "shmget", do: raw(unix.SYS_SHMGET), lacking: true},
	{group: GroupKernel, name: "semget", do: raw(unix.SYS_SEMGET), lacking: true},
	{group: GroupKernel, name: "msgget", do: raw(unix.SYS_MSGGET, 0x5e57e), lacking: true},
	{group: GroupKernel, name: "mq_open", do: raw(unix.SYS_MQ_OPEN, invalid), lacking: true},
	{group: GroupKernel, name: "a call that is not known", do: raw(lastKnown + 100), lacking: true},
}

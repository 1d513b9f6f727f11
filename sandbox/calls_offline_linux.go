//go:build amd64 || arm64

package sandbox

import "golang.org/x/sys/unix"

// connecting are the system calls by which a process, or somebody else for it, sends to others: a filter sees no
// addresses, so that connections to this machine are refused as well.
var connecting = []uint32{
	unix.SYS_CONNECT, unix.SYS_SENDMMSG,

	// The sockets and the memory of other processes.
	unix.SYS_PIDFD_GETFD, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,

	// File systems on a network, modules and programs for the kernel, names that it looks up, other namespaces.
	unix.SYS_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSPICK, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_MOVE_MOUNT,
	unix.SYS_OPEN_TREE, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_BPF, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_SETNS,
}

// absentOffline are calls that do the work of others unseen by a filter. Libraries have another way.
var absentOffline = []uint32{unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER}

// limitedCalls are the calls of which some are harmless.
func limitedCalls(o Offline) []call {
	unopened := func(argument uint32) condition { return masked(argument, unix.MSG_FASTOPEN, 0) }
	pointer := condition{argument: 4, upper: true, mask: all, values: []uint32{0}}
	calls := []call{
		// To whom a socket is connected: with an address, or TCP's fast open, it could be to others.
		{unix.SYS_SENDTO, []condition{unopened(3), on(4, 0), pointer}},
		{unix.SYS_SENDMSG, []condition{unopened(2)}},

		// Pairs, for engines. Datagrams could be sent to others.
		{unix.SYS_SOCKETPAIR, []condition{on(0, unix.AF_UNIX), streams}},

		// The addresses of this machine; what devices there are.
		{unix.SYS_SOCKET, []condition{on(0, unix.AF_NETLINK), on(2, unix.NETLINK_ROUTE)}},
	}
	if o.Devices {
		calls = append(calls, call{unix.SYS_SOCKET, []condition{on(0, unix.AF_NETLINK), on(2, unix.NETLINK_KOBJECT_UEVENT)}})
	}
	if o.Devices || o.Listens {
		calls = append(calls, call{unix.SYS_SOCKET, []condition{on(0, unix.AF_UNIX), streams}})
	}
	if o.Listens {
		calls = append(calls, call{unix.SYS_SOCKET, []condition{
			on(0, unix.AF_INET, unix.AF_INET6),
			masked(1, socketType, unix.SOCK_STREAM),
			on(2, 0, unix.IPPROTO_TCP, unix.IPPROTO_MPTCP),
		}})
	}
	return calls
}

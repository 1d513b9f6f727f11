package sandbox

import "golang.org/x/sys/unix"

// legacy are calls of this architecture for which there are newer ones. Libraries still use them.
var legacy = []uint32{
	unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_ACCESS, unix.SYS_READLINK, unix.SYS_GETDENTS, unix.SYS_DUP2,
	unix.SYS_PIPE, unix.SYS_POLL, unix.SYS_SELECT, unix.SYS_EPOLL_CREATE, unix.SYS_EPOLL_WAIT, unix.SYS_EVENTFD,
	unix.SYS_TIME, unix.SYS_PAUSE, unix.SYS_GETPGRP,

	// Segments of threads, and leave to use AMX.
	unix.SYS_ARCH_PRCTL,
}

// legacyForDrivers are those that the drivers of GPUs need as well.
var legacyForDrivers = []uint32{
	unix.SYS_MKDIR, unix.SYS_RMDIR, unix.SYS_UNLINK, unix.SYS_RENAME,
}

// legacyOpening opens files.
var legacyOpening = []call{{unix.SYS_OPEN, []condition{opening(1)}}}

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a confined process may do with files, by place. It can neither read nor write
// other files on the machine, in particular those of users.
const (
	mayRead = unix.LANDLOCK_ACCESS_FS_READ_FILE
	mayList = mayRead | unix.LANDLOCK_ACCESS_FS_READ_DIR
	mayRun  = mayRead | unix.LANDLOCK_ACCESS_FS_EXECUTE
	mayUse  = mayList | mayRun

	// For existing files. Opening one with O_TRUNC requires a separate right, which was
	// added in the third version of Landlock.
	mayChange = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE

	// For the pipes and sockets of a daemon.
	mayPipe = mayList | mayChange | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX

	// For the drivers' caches. Nothing in them can be executed, and no links can be created,
	// which could lead another process elsewhere.
	mayKeep = mayList | mayChange |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REFER

	// For memory that processes share.
	mayShare = mayKeep

	mayDrive = mayList | mayChange | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	// For a file that is not a folder.
	mayFile = mayRead | mayChange | unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	// The rights of the first version of Landlock.
	firstVersion = mayUse | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
)

// A newer Landlock can restrict more.
var laterRights = []struct {
	version int
	what    string
	files   uint64
	network uint64
	scope   uint64
}{
	// Before it, files cannot be moved from folder to folder at all.
	{version: 2, what: "moving files", files: unix.LANDLOCK_ACCESS_FS_REFER},
	{version: 3, what: "truncating files", files: unix.LANDLOCK_ACCESS_FS_TRUNCATE},
	{version: 4, what: "TCP", network: unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP},
	{version: 5, what: "commands to devices", files: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
	{version: 6, what: "abstract UNIX sockets and signals",
		scope: unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL},
	{version: 9, what: "UNIX sockets by their path", files: unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX},
}

// Lacks returns what versions later than this one restrict besides.
func Lacks(version int) (what []string) {
	for _, later := range laterRights {
		if version < later.version {
			what = append(what, later.what)
		}
	}
	return what
}

// Version returns the kernel's version of Landlock.
func Version() (int, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(version), nil
	case unix.ENOSYS, unix.EOPNOTSUPP:
		return 0, errors.New("the kernel has no Landlock, or it is turned off")
	}
	return 0, fmt.Errorf("landlock: %w", errno)
}

// rulesetOf returns all that a version of Landlock can restrict, and the bytes of the description that it knows.
func rulesetOf(version int) (attr unix.LandlockRulesetAttr, size uintptr) {
	attr.Handled_access_fs = firstVersion
	for _, later := range laterRights {
		if version >= later.version {
			attr.Handled_access_fs |= later.files
			attr.Handled_access_net |= later.network
			attr.Scoped |= later.scope
		}
	}

	size = unsafe.Offsetof(attr.Handled_access_net)
	if attr.Handled_access_net != 0 {
		size = unsafe.Offsetof(attr.Scoped)
	}
	if attr.Scoped != 0 {
		size = unsafe.Offsetof(attr.Quiet_access_fs)
	}
	return attr, size
}

// confine confines this thread, and what it runs, to these places. It can use no network, and, where the kernel
// can restrict that, neither connect to sockets of processes outside nor send them signals.
func confine(places []place) error {
	version, err := Version()
	if err != nil {
		return fmt.Errorf("files: %w", err)
	}

	attr, size := rulesetOf(version)
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("files: landlock: %w", errno)
	}
	defer unix.Close(int(ruleset))

	for _, p := range places {
		if err := p.allow(int(ruleset), attr.Handled_access_fs); err != nil {
			return fmt.Errorf("files: %w", err)
		}
	}

	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return fmt.Errorf("files: landlock: %w", errno)
	}
	return nil
}

// open opens a place, if it is there and what it should be.
func (p place) open() (int, error) {
	flags := unix.O_PATH | unix.O_CLOEXEC
	if p.guarded {
		flags |= unix.O_NOFOLLOW | unix.O_DIRECTORY
	}
	fd, err := unix.Open(p.path, flags, 0)
	if err != nil || !p.guarded {
		return fd, err
	}

	var stat unix.Stat_t
	err = unix.Fstat(fd, &stat)
	if err == nil && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		err = errors.New("it belongs to another user")
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

// allow adds a place to a ruleset. One that does not exist needs no rule.
func (p place) allow(ruleset int, handled uint64) error {
	fd, err := p.open()
	if err != nil {
		return nil
	}
	defer unix.Close(fd)

	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("%s: %w", p.path, err)
	}
	rights := p.rights & handled
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= mayFile
	}
	if rights == 0 {
		return nil
	}

	beneath := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&beneath)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("landlock: %s: %w", p.path, errno)
	}
	return nil
}

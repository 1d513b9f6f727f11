package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFiles is how many files a process without devices may have open: its connections, its model's, and some.
const openFiles = 1024

// Enter confines this process to the rules with which Start started it, and runs its program again. It must be
// called first in main. In a process that Start did not start, and in the second run, it returns.
//
// Landlock's rules refer to files that exist, and apply to a thread. /proc/self exists only now; and all threads are
// confined because a program that is run begins with the one that ran it.
func Enter() {
	if text, again := os.LookupEnv(stateVariable); again {
		_ = os.Unsetenv(stateVariable)
		entered = new(state)
		if err := json.Unmarshal([]byte(text), entered); err != nil {
			entered.Failed = fmt.Sprintf("the sandbox's state: %v", err)
		}
		return
	}
	text, confined := os.LookupEnv(rulesVariable)
	if !confined {
		return
	}

	runtime.LockOSThread()
	err := enter(text)
	fmt.Fprintln(os.Stderr, "error: the engine's process cannot enter its sandbox:", err)
	os.Exit(1)
}

// enter returns only if it fails.
func enter(text string) error {
	_ = os.Unsetenv(rulesVariable)
	var r Rules
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}

	// As long as the folder is open, rules for it stay in force: without use, the kernel forgets its inode.
	if _, err := unix.Open("/proc/self", unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return fmt.Errorf("/proc/self: %w", err)
	}

	s := state{
		Devices:   r.Devices,
		Scratch:   r.Scratch,
		MPS:       r.Devices && mpsInUse(),
		Variables: r.Variables,
	}
	if err := errors.Join(confine(r.places(program)), limit(r), dropPrivileges()); err != nil {
		s.Failed = err.Error()
	}
	tellUnreadable(r.Files)

	result, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.Setenv(stateVariable, string(result)); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// tellUnreadable names the files that this process cannot read any more, in its log.
func tellUnreadable(files []string) {
	for _, file := range files {
		fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		} else if errors.Is(err, unix.EACCES) {
			fmt.Fprintf(os.Stderr, "%s cannot be read: engines have no privileges, even if root starts serve; "+
				"make the file and its folders readable for all, or start serve as their owner\n", file)
		}
	}
}

// limit sets the limits of this process. There is none on processes, which the kernel counts by user; others are
// refused by Seal. None is on its address space either: weights are mapped, and drivers reserve terabytes.
func limit(r Rules) error {
	limits := map[int]uint64{unix.RLIMIT_CORE: 0} // a dump would hold prompts
	if !r.Devices {
		limits[unix.RLIMIT_NOFILE] = openFiles
	}
	if !r.Devices && !r.Scratch {
		limits[unix.RLIMIT_FSIZE] = 0 // it writes no file
	}

	for resource, most := range limits {
		var now syscall.Rlimit
		if err := syscall.Getrlimit(resource, &now); err != nil {
			return fmt.Errorf("limits: %w", err)
		}
		now = syscall.Rlimit{Cur: min(now.Cur, most), Max: min(now.Max, most)}
		if err := syscall.Setrlimit(resource, &now); err != nil {
			return fmt.Errorf("limits: %w", err)
		}
	}
	return nil
}

// lastCapability is a number that no capability exceeds: they are bits of 64.
const lastCapability = 63

// rootIsNobody makes user 0 one that running a program gives no capabilities, for ever: the bits NOROOT,
// NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE of linux/securebits.h, not KEEP_CAPS, and the locks of all four.
const rootIsNobody = 0b11_10_11_11

// dropPrivileges gives up all capabilities, of this thread and of the program that it runs next. That no program
// gains privileges is enough for that; the bounding set and the bits that only a privileged process can change are
// dropped as well where that is possible.
func dropPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}

	for c := range uintptr(lastCapability + 1) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			break // not privileged, or there are no more
		}
	}
	_ = unix.Prctl(unix.PR_SET_SECUREBITS, rootIsNobody, 0, 0, 0)
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // Linux 4.3

	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&head, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

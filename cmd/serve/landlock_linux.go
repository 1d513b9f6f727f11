package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What an engine's process may do with files, by where they lie. The rest of the machine,
// people's files above all, it can neither read nor write.
const (
	mayRead = unix.LANDLOCK_ACCESS_FS_READ_FILE
	mayUse  = mayRead | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_EXECUTE
	// Drivers make files of their own below /dev.
	mayAll = mayUse | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	// For a file that is no folder.
	mayFile = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// systemFolders are where programs, libraries and drivers lie.
var systemFolders = map[string]uint64{
	"/bin": mayUse, "/sbin": mayUse, "/lib": mayUse, "/lib32": mayUse, "/lib64": mayUse, "/libx32": mayUse, "/usr": mayUse, "/etc": mayUse,
	"/opt": mayUse, "/nix": mayUse, "/gnu": mayUse, "/snap": mayUse, "/sys": mayUse, "/run": mayUse,
	"/proc": mayUse | unix.LANDLOCK_ACCESS_FS_WRITE_FILE, // a thread's name is written there
	"/dev":  mayAll | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV,
}

// startConfined starts a command that can read the files named, and what belongs to the
// system, and write nothing but devices. loose is why it is not confined; it runs then,
// too.
func startConfined(cmd *exec.Cmd, files []string) (loose, err error) {
	// A domain is a thread's, and of what the thread starts. This thread ends with the
	// goroutine, which does not unlock it, and so the rest of serve is as it was.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if loose = confineFiles(cmd.Path, files); loose != nil {
			loose = fmt.Errorf("files: %w", loose)
		}
		err = cmd.Start()
	}()
	<-done
	return loose, err
}

// landlockVersion returns what the kernel knows of Landlock.
func landlockVersion() (int, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(version), nil
	case unix.ENOSYS, unix.EOPNOTSUPP:
		return 0, errors.New("the kernel has no Landlock, or it is turned off")
	}
	return 0, fmt.Errorf("landlock: %w", errno)
}

// confineFiles confines this thread.
func confineFiles(program string, files []string) error {
	version, err := landlockVersion()
	if err != nil {
		return err
	}
	handled := uint64(mayAll)
	for i, right := range []uint64{unix.LANDLOCK_ACCESS_FS_REFER, unix.LANDLOCK_ACCESS_FS_TRUNCATE, 0, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV} {
		if version >= i+2 { // each came with a version of its own
			handled |= right
		}
	}
	// Older kernels know only the first field.
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&unix.LandlockRulesetAttr{Handled_access_fs: handled})), 8, 0)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	defer unix.Close(int(ruleset))
	for path, rights := range allowed(program, files) {
		if err := allow(int(ruleset), path, rights&handled); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	return nil
}

// allowed are the files and folders that an engine needs, and what it may do with them:
// the system's, this program, where the loader and this program's own libraries look, and
// the model's files.
func allowed(program string, files []string) map[string]uint64 {
	paths := map[string]uint64{program: mayUse}
	for path, rights := range systemFolders {
		paths[path] = rights
	}
	for _, folder := range append(filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")), mappedFolders()...) {
		if folder != "" && paths[folder] == 0 {
			paths[folder] = mayUse
		}
	}
	for _, file := range files {
		paths[file] |= mayRead
	}
	return paths
}

// mappedFolders are where the libraries lie that this process has loaded.
func mappedFolders() (folders []string) {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if _, path, ok := strings.Cut(lines.Text(), " /"); ok && strings.Contains(path, ".so") {
			folders = append(folders, filepath.Dir("/"+path))
		}
	}
	return folders
}

// allow adds a rule. What is not there needs none.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= mayFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("landlock: %s: %w", path, errno)
	}
	return nil
}

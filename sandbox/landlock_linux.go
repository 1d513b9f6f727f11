package sandbox

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

// What a confined process may do with files, by location. It can neither read nor write
// other files on the machine, in particular those of users.
const (
	mayRead = unix.LANDLOCK_ACCESS_FS_READ_FILE
	mayUse  = mayRead | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_EXECUTE

	// For existing files. Opening one with O_TRUNC requires a separate right, which was
	// added in the third version of Landlock.
	mayChange = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE

	// For the drivers' caches. Nothing in them can be executed, and no links can be created,
	// which could lead another process elsewhere.
	mayKeep = mayRead | unix.LANDLOCK_ACCESS_FS_READ_DIR | mayChange |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REFER

	// Drivers create files of their own in /dev.
	mayDrive = mayUse | mayKeep | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM

	// For a file that is not a folder.
	mayFile = mayRead | mayChange | unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	// The rights of the first version of Landlock.
	firstVersion = mayDrive &^ (unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_IOCTL_DEV)
)

// laterRights were added one per version, from the second on.
var laterRights = []uint64{
	unix.LANDLOCK_ACCESS_FS_REFER,
	unix.LANDLOCK_ACCESS_FS_TRUNCATE,
	0, // that version added rights for the network
	unix.LANDLOCK_ACCESS_FS_IOCTL_DEV,
}

// rule is what may be done with files under a path.
type rule struct {
	path   string
	rights uint64

	// guarded is for a path that another user could have created: the rule is ignored unless
	// the path is a folder, not a link to one, and owned by this user or root.
	guarded bool
}

// system has the locations of programs, libraries and drivers. Those of a single driver are
// listed only if they are not under the others: the devices of WSL, Jetson, AMD and Intel
// are /dev/dxg, /dev/nvmap, /dev/kfd and /dev/dri, their libraries in /usr and /opt.
var system = []rule{
	{path: "/bin", rights: mayUse},
	{path: "/sbin", rights: mayUse},
	{path: "/lib", rights: mayUse},
	{path: "/lib32", rights: mayUse},
	{path: "/lib64", rights: mayUse},
	{path: "/libx32", rights: mayUse},
	{path: "/usr", rights: mayUse},
	{path: "/etc", rights: mayUse},
	{path: "/opt", rights: mayUse},
	{path: "/nix", rights: mayUse},
	{path: "/gnu", rights: mayUse},
	{path: "/snap", rights: mayUse},
	{path: "/sys", rights: mayUse},
	{path: "/run", rights: mayUse},

	// CUDA names its threads: it opens /proc/self/task/TID/comm with O_CREAT and O_TRUNC,
	// and fails with error 304 if that is forbidden. A rule refers to an inode, and /proc/self
	// is the parent's when the rule is created, so the rule must cover all of /proc.
	{path: "/proc", rights: mayUse | mayChange},

	{path: "/dev", rights: mayDrive},
	{path: "/dev/shm", rights: mayDrive}, // where it is a link into /run
}

// mpsFolder is the folder of NVIDIA MPS's pipes unless CUDA_MPS_PIPE_DIRECTORY is set.
const mpsFolder = "/tmp/nvidia-mps"

// Start starts a command that is confined by the rules and cannot gain privileges. If it
// cannot be confined, unconfined says why, and the command runs anyway.
func Start(cmd *exec.Cmd, r Rules) (unconfined, err error) {
	// A domain applies to a thread and the processes that it starts. This thread ends with the
	// goroutine, which does not unlock it, so the rest of this process is not affected.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unconfined = confine(r.all(cmd)); unconfined != nil {
			unconfined = fmt.Errorf("files: %w", unconfined)
		}
		err = cmd.Start()
	}()
	<-done
	return unconfined, err
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

// confine confines this thread.
func confine(rules []rule) error {
	version, err := Version()
	if err != nil {
		return err
	}

	handled := uint64(firstVersion)
	for i, right := range laterRights {
		if version >= i+2 {
			handled |= right
		}
	}

	// Older kernels support only the first field.
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), 8, 0)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	defer unix.Close(int(ruleset))

	for _, r := range rules {
		r.rights &= handled
		if err := r.add(int(ruleset)); err != nil {
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

// all returns the rules for a command: those of the system, for its program and the
// libraries installed with it, for the loader's search path, for MPS, and its own.
func (r Rules) all(cmd *exec.Cmd) []rule {
	rules := append([]rule{{path: cmd.Path, rights: mayUse}}, system...)
	environ := cmd.Environ()

	libraries := append(filepath.SplitList(value(environ, "LD_LIBRARY_PATH")), mappedFolders()...)
	for _, folder := range libraries {
		if folder != "" {
			rules = append(rules, rule{path: folder, rights: mayUse})
		}
	}

	for _, file := range ownLibraries(cmd.Path) {
		rules = append(rules, rule{path: file, rights: mayRead})
	}

	if folder := value(environ, "CUDA_MPS_PIPE_DIRECTORY"); folder != "" {
		rules = append(rules, rule{path: folder, rights: mayUse | mayChange})
	} else {
		rules = append(rules, rule{path: mpsFolder, rights: mayUse | mayChange, guarded: true})
	}

	for _, file := range r.Files {
		rules = append(rules, rule{path: file, rights: mayRead})
	}
	if r.Cache != "" {
		rules = append(rules, rule{path: r.Cache, rights: mayKeep})
	}
	return rules
}

// ownLibraries returns the libraries installed with a program, in the folders where
// engine/llama/cuda_loader.cpp looks for cuBLAS. Other files in these folders stay
// inaccessible.
func ownLibraries(program string) (files []string) {
	folder := filepath.Dir(program)
	for _, libraries := range []string{filepath.Join(folder, "lib"), filepath.Join(folder, "..", "lib", "serve")} {
		entries, _ := os.ReadDir(libraries)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "lib") && strings.Contains(e.Name(), ".so") {
				files = append(files, filepath.Join(libraries, e.Name()))
			}
		}
	}
	return files
}

// mappedFolders returns the folders of the libraries that this process has loaded.
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

// add adds a rule to a ruleset. A path that does not exist needs none.
func (r rule) add(ruleset int) error {
	flags := unix.O_PATH | unix.O_CLOEXEC
	if r.guarded {
		flags |= unix.O_NOFOLLOW | unix.O_DIRECTORY
	}
	fd, err := unix.Open(r.path, flags, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)

	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("%s: %w", r.path, err)
	}
	if r.guarded && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return nil
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		r.rights &= mayFile
	}

	beneath := unix.LandlockPathBeneathAttr{Allowed_access: r.rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&beneath)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("landlock: %s: %w", r.path, errno)
	}
	return nil
}

package doctor

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"serve/engine/llama"
	"serve/hub"
	"serve/loader"
	"serve/machine"
)

const (
	leastMemory = 1 << 30 // for a 4-bit model of a billion parameters and everything else that it needs
	leastDisk   = 5 << 30 // for a model of seven billion parameters
	leastFiles  = 1024    // open at a time: a connection for each request, and serve's own
	recent      = 7 * 24 * time.Hour
)

// processor checks the CPU.
func (e *examination) processor(context.Context) []Finding {
	f := Finding{About: "processor", Severity: Fine}
	f.Seen = fmt.Sprintf("%s, %d compute threads; %s", machine.ProcessorName(), llama.Threads(), llama.SystemInfo())
	if runtime.GOARCH == "amd64" && !strings.Contains(f.Seen, "AVX2 = 1") {
		f.Severity = Warning
		f.Do = "use a machine with AVX2 if there is one: without it, prompts are processed several times slower"
	}
	return []Finding{f}
}

// memory checks the memory that is free for models.
func (e *examination) memory(context.Context) []Finding {
	free := machine.FreeMemory()
	f := Finding{About: "memory", Severity: Fine, Seen: machine.FormatSize(free) + " free for models"}
	switch {
	case free == 0:
		f.Seen = "free memory is unknown on this system"
	case free < leastMemory:
		f.Severity = Warning
		f.Do = "close other programs, or raise the cgroup's limit: only the smallest models fit"
	}
	return []Finding{f}
}

// limits checks the system's limits for a process.
func (e *examination) limits(context.Context) (list []Finding) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		f := Finding{About: "open files", Severity: Fine, Seen: fmt.Sprintf("limit %d", files.Cur)}
		if files.Cur < leastFiles {
			f.Severity = Warning
			f.Do = fmt.Sprintf("run ulimit -n %d, or set LimitNOFILE= in the service: "+
				"every open request needs a file descriptor", leastFiles)
		}
		list = append(list, f)
	}

	var space unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &space); err == nil && space.Cur < math.MaxInt64 {
		list = append(list, Finding{"address space", Warning, "limit " + machine.FormatSize(space.Cur),
			"run ulimit -v unlimited, or start serve with --no-mmap: mapped weights count, too"})
	}

	if quota := machine.CPUQuota(); quota > 0 && quota < float64(runtime.NumCPU()) {
		seen := fmt.Sprintf("%.1f of %d CPUs, set by the cgroup", quota, runtime.NumCPU())
		list = append(list, Finding{About: "cpu quota", Severity: Fine, Seen: seen})
	}
	return list
}

// cache checks the folder with models.
func (e *examination) cache(context.Context) []Finding {
	if e.Store == nil {
		return one("cache", Broken, e.NoStore.Error(), "correct the environment variable or the flag that it names")
	}
	folder := e.Store.Hub.Dir
	if err := writable(folder); err != nil {
		return one("cache", Broken, err.Error(), "make the folder writable, or set HF_HUB_CACHE to another")
	}

	f := Finding{About: "cache", Severity: Fine, Seen: folder}
	if free, ok := freeDisk(folder); ok {
		f.Seen += ", " + machine.FormatSize(free) + " free"
		if free < leastDisk {
			f.Severity = Warning
			f.Do = "remove models with serve rm, or set HF_HUB_CACHE to a folder on another disk: " +
				"a model with 7 billion parameters needs 4 GiB or more"
		}
	}

	locals, err := e.Store.List()
	if err != nil {
		return []Finding{f, {"models", Warning, err.Error(), "run serve verify to see which files are damaged"}}
	}
	seen := "none on this machine; serve pull downloads them"
	if len(locals) > 0 {
		seen = fmt.Sprintf("%d on this machine; serve list shows them", len(locals))
	}
	return []Finding{f, {About: "models", Severity: Fine, Seen: seen}}
}

// home checks serve's own folder, and reports recent crashes of engines.
func (e *examination) home(context.Context) []Finding {
	home := e.Store.Home
	if err := writable(home); err != nil {
		return one("home", Broken, err.Error(), "make the folder writable, or set SERVE_HOME to another")
	}

	f := Finding{About: "home", Severity: Fine, Seen: home}
	crashes := filepath.Join(home, loader.CrashFolder)
	reports, _ := os.ReadDir(crashes)
	reports = slices.DeleteFunc(reports, func(e os.DirEntry) bool {
		info, err := e.Info()
		return err != nil || time.Since(info.ModTime()) > recent
	})
	if len(reports) == 0 {
		return []Finding{f, {About: "crashes", Severity: Fine, Seen: "no engine died in the last week"}}
	}
	last := filepath.Join(crashes, reports[len(reports)-1].Name())
	seen := fmt.Sprintf("%d engine crashes in the last week; the last: %s", len(reports), last)
	return []Finding{f, {"crashes", Warning, seen,
		"read the crash report, or attach it to a bug report: it contains no prompts and no answers"}}
}

// port checks whether the address is free, and who uses it.
func (e *examination) port(ctx context.Context) []Finding {
	address := net.JoinHostPort(e.Host, strconv.Itoa(e.Port))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err == nil {
		listener.Close()
		return one("port", Fine, address+" is free", "")
	}

	if pid, found := e.Owner(e.Port); found {
		return one("port", Fine, fmt.Sprintf("%s: serve is running there, process %d", address, pid), "")
	}
	seen := fmt.Sprintf("cannot listen on %s: %v", address, hub.Cause(err))
	return one("port", Broken, seen, "choose another --port, 0 for any free port, or a --host of this machine")
}

// unvalidated is the version of Go's FIPS 140-3 module in builds that do not choose one: that of the compiler.
const unvalidated = "latest"

// cryptography says whether Go's cryptography is in FIPS 140-3 mode.
func (e *examination) cryptography(context.Context) []Finding {
	const about = "FIPS 140-3"
	version := fips140.Version()
	switch {
	case !fips140.Enabled():
		return one(about, Fine, "off; builds by make FIPS=1 have it", "")
	case version == unvalidated:
		return one(about, Warning, "on, with the compiler's own version of Go's module, which no laboratory has tested",
			"use a build by make FIPS=1")
	case fips140.Enforced():
		return one(about, Fine, "on and enforced, with Go's module "+version, "")
	}
	return one(about, Fine, "on, with Go's module "+version, "")
}

// writable creates a folder if it does not exist, and a file in it, which it removes.
func writable(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(folder, ".doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// freeDisk returns the bytes that this user can still write to a folder's disk.
func freeDisk(folder string) (uint64, bool) {
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		return 0, false
	}
	return fs.Bavail * uint64(fs.Bsize), true
}

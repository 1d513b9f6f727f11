package hostmem

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Arena is a file in memory. Its pages take memory once they have been written.
type Arena struct{ file *os.File }

// New returns memory without any bytes, which Limit gives it. The caller must Close it.
func New() (*Arena, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("serve-prefixes", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3
		fd, err = unix.MemfdCreate("serve-prefixes", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	return &Arena{os.NewFile(uintptr(fd), "memory")}, nil
}

// Handed returns the memory of which this process has a descriptor: in a child, its parent's. The descriptor stays the
// caller's.
func Handed(descriptor int) (*Arena, error) {
	fd, err := unix.FcntlInt(uintptr(descriptor), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("use the memory that was handed over: %w", err)
	}
	return &Arena{os.NewFile(uintptr(fd), "memory")}, nil
}

// File is what a child is handed.
func (m *Arena) File() *os.File { return m.file }

// Limit gives the memory its size, which nobody who has it can change afterwards.
func (m *Arena) Limit(bytes int64) error {
	if err := unix.Ftruncate(int(m.file.Fd()), bytes); err != nil {
		return fmt.Errorf("size a file in memory: %w", err)
	}
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(m.file.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal a file in memory: %w", err)
	}
	return nil
}

// Read has read see the bytes of a region, only until it returns.
func (m *Arena) Read(at, n int64, read func([]byte) error) error {
	return m.use(at, n, unix.PROT_READ, read)
}

// Write has write write to a region.
func (m *Arena) Write(at, n int64, write func([]byte) error) error {
	return m.use(at, n, unix.PROT_READ|unix.PROT_WRITE, write)
}

// use maps a region for as long as a call takes: nothing else that goes wrong in this process can write to it.
func (m *Arena) use(at, n int64, protection int, call func([]byte) error) error {
	var s unix.Stat_t
	if err := unix.Fstat(int(m.file.Fd()), &s); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	if err := check(at, n, s.Size, int64(os.Getpagesize())); err != nil {
		return err
	}

	b, err := unix.Mmap(int(m.file.Fd()), at, int(n), protection, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("map %d bytes: %w", n, err)
	}
	defer func() { _ = unix.Munmap(b) }()
	return call(b)
}

// Discard gives the memory of a region back to the system; it reads as zeros from then on.
func (m *Arena) Discard(at, n int64) error {
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if err := unix.Fallocate(int(m.file.Fd()), punch, at, n); err != nil {
		return fmt.Errorf("discard %d bytes: %w", n, err)
	}
	return nil
}

// Prepare has a region take its memory, whatever it has, so that it need not when it is written: the kernel then makes
// and clears each page, which takes ten times as long as writing. It may be called while others read and write.
func (m *Arena) Prepare(at, n int64) error {
	file, err := m.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("prepare memory: %w", err)
	}
	var failed error
	err = file.Control(func(fd uintptr) { failed = populate(int(fd), at, n) }) // it cannot be closed meanwhile
	return errors.Join(err, failed)
}

// populate writes to pages of a file what they have.
func populate(fd int, at, n int64) error {
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return fmt.Errorf("prepare memory: %w", err)
	}
	if err := check(at, n, s.Size, int64(os.Getpagesize())); err != nil {
		return err
	}
	b, err := unix.Mmap(fd, at, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %d bytes: %w", n, err)
	}
	defer func() { _ = unix.Munmap(b) }()
	if err := unix.Madvise(b, unix.MADV_POPULATE_WRITE); err != nil {
		return fmt.Errorf("prepare %d bytes: %w", n, err)
	}
	return nil
}

// Taken returns how many bytes the memory takes.
func (m *Arena) Taken() (int64, error) {
	var s unix.Stat_t
	err := unix.Fstat(int(m.file.Fd()), &s)
	return s.Blocks * 512, err
}

// Close gives the memory up. It is freed once no process has it.
func (m *Arena) Close() error { return m.file.Close() }

package remote

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// Pair makes the two sockets: the parent's end, and the child's as files to hand it.
func Pair() (parent Conn, child []*os.File, err error) {
	var ends [2][2]*os.File
	for i, name := range []string{"steps", "calls"} {
		// Between these two lines no other child may be started, to inherit them.
		syscall.ForkLock.RLock()
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err == nil {
			syscall.CloseOnExec(fds[0])
			syscall.CloseOnExec(fds[1])
		}
		syscall.ForkLock.RUnlock()
		if err != nil {
			for _, f := range ends[0] {
				if f != nil {
					f.Close()
				}
			}
			return Conn{}, nil, fmt.Errorf("make a pair of sockets: %w", err)
		}
		ends[i] = [2]*os.File{os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)}
	}

	child = []*os.File{ends[0][1], ends[1][1]}
	parent, err = Join(ends[0][0], ends[1][0])
	if err != nil {
		child[0].Close()
		child[1].Close()
	}

	return parent, child, err
}

// Join makes a connection of the files of one end.
func Join(steps, calls *os.File) (Conn, error) {
	defer calls.Close()
	conn, err := net.FileConn(calls)
	if err != nil {
		steps.Close()
		return Conn{}, fmt.Errorf("use a socket: %w", err)
	}
	return Conn{blocking{steps}, conn}, nil
}

// blocking is a socket whose reads and writes block their thread.
type blocking struct{ *os.File }

// Close ends a Read that waits, too, which closing a blocking file does not.
func (b blocking) Close() error {
	if raw, err := b.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	}
	return b.File.Close()
}

var _ io.ReadWriteCloser = blocking{}

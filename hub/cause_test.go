package hub

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

// TestCause checks that a failure in the network is told without the words of package net.
func TestCause(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	unknown := &net.DNSError{Err: "no such host", Name: "x"}
	for want, err := range map[string]error{
		"connection refused":                              refused,
		"the proxy cannot be reached: connection refused": &net.OpError{Op: "proxyconnect", Net: "tcp", Err: refused},
		"no such host":                                    &net.OpError{Op: "dial", Err: unknown},
		"i/o timeout":                                     &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded},
		"no such file or directory":                       &os.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT},
		"something else":                                  errors.New("something else"),
	} {
		if got := Cause(err); got.Error() != want {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
	if !errors.Is(Cause(&os.PathError{Op: "open", Err: syscall.ENOENT}), os.ErrNotExist) {
		t.Error("the cause has lost its kind")
	}
}

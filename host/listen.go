package host

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"serve/hub"
)

// ErrListen is the kind of a ListenError.
var ErrListen = errors.New("cannot listen on the address")

// ListenError means that a server cannot listen on an address. It is an ErrListen.
type ListenError struct {
	Address string
	Err     error
	port    string // what to do if the port is at fault
}

// Error implements error.
func (e *ListenError) Error() string {
	return fmt.Sprintf("cannot listen on %s: %v", e.Address, hub.Cause(e.Err))
}

// Unwrap implements the interface of package errors.
func (e *ListenError) Unwrap() []error { return []error{ErrListen, e.Err} }

// Hint says what to do about the error.
func (e *ListenError) Hint() string {
	if errors.Is(e.Err, syscall.EADDRINUSE) || errors.Is(e.Err, syscall.EACCES) {
		return e.port
	}
	return "--host must be an address or a name of this machine, such as 127.0.0.1, or 0.0.0.0 for all"
}

// Listen listens on an address. The hint of its error is portHint if the port is at fault, and not the host.
func Listen(host string, port int, portHint string) (net.Listener, error) {
	address := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &ListenError{address, err, portHint}
	}
	return l, nil
}

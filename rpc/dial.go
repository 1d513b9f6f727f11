package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"serve/egress"
)

// ErrOffline says that a process without connections reaches no workers, not even on this machine: under --offline the
// kernel refuses all connections.
var ErrOffline = errors.New("--rpc connects to workers, which --offline forbids, also on this machine")

// Error is a worker that cannot be used.
type Error struct {
	Address string
	Err     error
	Todo    string
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("the RPC device at %s cannot be reached: %v", e.Address, e.Err)
}

// Unwrap implements the interface of package errors.
func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do about the error.
func (e *Error) Hint() string { return e.Todo }

// dialTime is how long it may take to connect to a worker.
const dialTime = 10 * time.Second

// Dialer connects to workers. It may be used by several goroutines.
type Dialer struct {
	Net *egress.Net
}

// Connect opens a connection to each of the workers. The caller closes them when a process has them.
func (d *Dialer) Connect(ctx context.Context, addresses []string) (list []*os.File, err error) {
	if d.Net.Offline {
		return nil, ErrOffline
	}

	way := egress.NewWay("rpc", "computes on the devices of serve rpc").Allow("--rpc", addresses...)
	for _, address := range addresses {
		file, err := d.connect(ctx, way, address)
		if err != nil {
			for _, f := range list {
				f.Close()
			}
			return nil, err
		}
		list = append(list, file)
	}
	return list, nil
}

// connect opens a connection to a worker.
func (d *Dialer) connect(ctx context.Context, way *egress.Way, address string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(egress.WithControl(ctx, refusePublic), dialTime)
	defer cancel()

	connection, err := d.Net.Dial(ctx, way, "tcp", address)
	var public *publicError
	if errors.As(err, &public) {
		return nil, &Error{address, public, advice}
	}
	if err != nil {
		todo := fmt.Sprintf("start serve rpc there (serve rpc --listen %s), or leave it out of --rpc", address)
		return nil, &Error{address, cause(err), todo}
	}
	defer connection.Close()
	return handOver(connection)
}

// cause returns what is known of an error without the addresses, which the message has.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// publicError is an address that a name leads to, and that is not of a private network.
type publicError struct{ address string }

func (e *publicError) Error() string {
	return fmt.Sprintf("%s is a public address, and %s", e.address, limits)
}

// refusePublic refuses to connect to addresses that are not of a private network.
func refusePublic(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !trusted(at.Addr()) {
		return &publicError{address}
	}
	return nil
}

// handOver returns a connection as a file for another process. The other end's silence is noticed: a machine that is
// gone must not look like one that computes.
func handOver(connection net.Conn) (*os.File, error) {
	tcp, ok := connection.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("a connection of the type %T", connection)
	}
	probes := net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4}
	if err := errors.Join(tcp.SetKeepAliveConfig(probes), tcp.SetNoDelay(true), limitSilence(tcp)); err != nil {
		return nil, err
	}
	return tcp.File()
}

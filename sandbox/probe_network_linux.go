package sandbox

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outward is a way to send something to somebody who has not asked.
type outward struct {
	name string
	do   func(NetworkScene) error

	// there reports whether the scene has what this tries to reach; nil if it needs nothing.
	there func(NetworkScene) bool

	privileged bool // the kernel refuses it to users anyhow
	lacking    bool // not every kernel has it
}

// ProbeNetwork tries every way to send something to the scene, or to have somebody else do it.
func ProbeNetwork(s NetworkScene) (results []Result) {
	for _, o := range outwards {
		if o.there != nil && !o.there(s) {
			continue
		}
		err := o.do(s)
		r := Result{Group: GroupNetwork, Act: o.name, Refused: refused(err)}
		if err != nil {
			r.Said = innermost(err)
		}
		results = append(results, r)
	}
	return results
}

// innermost returns what the kernel said to which call, without what package net puts before it.
func innermost(err error) string {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Error()
	}
	return err.Error()
}

// reached makes a way of connecting to an address, and sending to it.
func reached(network string, address func(NetworkScene) string) outward {
	return outward{
		do: func(s NetworkScene) error {
			c, err := net.Dial(network, address(s))
			if err != nil {
				return err
			}
			_, err = c.Write([]byte("x"))
			return errors.Join(err, c.Close())
		},
		there: func(s NetworkScene) bool { return address(s) != "" },
	}
}

// called returns the way under a name.
func (o outward) called(name string) outward {
	o.name = name
	return o
}

// outwards has the ways.
var outwards = []outward{
	reached("tcp", func(s NetworkScene) string { return s.TCP }).called("TCP over IPv4"),
	reached("tcp", func(s NetworkScene) string { return s.TCP6 }).called("TCP over IPv6"),
	{name: "TCP's fast open", do: fastOpen},
	{name: "multipath TCP", do: multipath, lacking: true},
	reached("udp", func(s NetworkScene) string { return s.UDP }).called("UDP over IPv4"),
	reached("udp", func(s NetworkScene) string { return s.UDP6 }).called("UDP over IPv6"),
	{name: "UDP without a connection", do: sendUDP},
	{name: "asking a name server", do: lookUp},
	{name: "ICMP", do: only(socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)), privileged: true},
	{name: "packets", do: only(socket(unix.AF_PACKET, unix.SOCK_RAW, 0)), privileged: true, lacking: true},
	{name: "a virtual machine's socket", do: only(socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)), lacking: true},
	reached("unix", func(s NetworkScene) string { return s.Unix }).called("a UNIX socket"),
	reached("unix", func(s NetworkScene) string { return s.Abstract }).called("an abstract UNIX socket"),
	{name: "a UNIX datagram", do: sendLocal, there: func(s NetworkScene) bool { return s.Datagram != "" }},
	{name: "a connection of a client, led elsewhere", do: leadElsewhere,
		there: func(s NetworkScene) bool { return s.Accepted > 0 }},
	{name: "io_uring", do: only(raw(unix.SYS_IO_URING_SETUP, 0, invalid)), lacking: true},
	{name: "a socket of another process", do: only(raw(unix.SYS_PIDFD_GETFD, nowhere)), lacking: true},
	{name: "another process's memory", do: only(raw(unix.SYS_PROCESS_VM_WRITEV, 1, invalid, 1, invalid, 1)),
		privileged: true, lacking: true},
	{name: "a file system on a network", do: only(raw(unix.SYS_MOUNT, invalid, invalid, invalid)), privileged: true},
	{name: "a name that the kernel looks up", do: only(raw(unix.SYS_REQUEST_KEY, invalid, invalid)), lacking: true},
	{name: "a program for the kernel", do: only(raw(unix.SYS_BPF, nowhere)), privileged: true, lacking: true},
}

// only makes a way of an act that needs no scene.
func only(act func(Scene) error) func(NetworkScene) error {
	return func(NetworkScene) error { return act(Scene{}) }
}

// tcp4 returns the address of the scene's TCP socket.
func tcp4(s NetworkScene) *unix.SockaddrInet4 { return inet4(s.TCP) }

func inet4(address string) *unix.SockaddrInet4 {
	at, _ := netip.ParseAddrPort(address)
	if !at.Addr().Is4() {
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 9)
	}
	return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
}

// with opens a socket, and has do use it.
func with(family, kind, protocol int, do func(fd int) error) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return do(fd)
}

func fastOpen(s NetworkScene) error {
	return with(unix.AF_INET, unix.SOCK_STREAM, 0, func(fd int) error {
		return os.NewSyscallError("sendto", unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN, tcp4(s)))
	})
}

func multipath(s NetworkScene) error {
	return with(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, func(fd int) error {
		return os.NewSyscallError("connect", unix.Connect(fd, tcp4(s)))
	})
}

func sendUDP(s NetworkScene) error {
	return with(unix.AF_INET, unix.SOCK_DGRAM, 0, func(fd int) error {
		return os.NewSyscallError("sendto", unix.Sendto(fd, []byte("x"), 0, inet4(s.UDP)))
	})
}

func sendLocal(s NetworkScene) error {
	return with(unix.AF_UNIX, unix.SOCK_DGRAM, 0, func(fd int) error {
		return os.NewSyscallError("sendto", unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrUnix{Name: s.Datagram}))
	})
}

// lookTime is how long a name server on this machine may take.
const lookTime = 2 * time.Second

// lookUp asks the scene's name server for a name. That it knows none is an answer.
func lookUp(s NetworkScene) error {
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	var failed atomic.Pointer[error] // IPv4 and IPv6 are asked for at the same time
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "udp", inetText(s.UDP))
		if err != nil {
			failed.Store(&err)
		}
		return c, err
	}}
	_, err := r.LookupHost(ctx, "example.invalid.")
	var unknown *net.DNSError
	switch {
	case failed.Load() != nil:
		return *failed.Load()
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return nil
	}
	return err
}

// inetText returns an address, or one at which nobody is.
func inetText(address string) string {
	if address == "" {
		return "127.0.0.1:9"
	}
	return address
}

// leadElsewhere ends a client's connection, and connects its socket to somebody else. The filter does not look at
// addresses: if the first step were allowed, so would be the second.
func leadElsewhere(s NetworkScene) error {
	nobody := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if err := connectRaw(s.Accepted, &nobody); err != nil {
		return os.NewSyscallError("connect", err)
	}
	return os.NewSyscallError("connect", unix.Connect(s.Accepted, tcp4(s)))
}

// connectRaw connects to an address of no family, which package unix cannot write down.
func connectRaw(fd int, address *unix.RawSockaddr) error {
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(address)),
		unsafe.Sizeof(*address))
	if errno != 0 {
		return errno
	}
	return nil
}

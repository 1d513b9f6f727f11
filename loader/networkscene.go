package loader

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"serve/sandbox"
)

// networkScene has the sockets of a NetworkScene, on this machine, and counts what arrives at them.
type networkScene struct {
	sandbox.NetworkScene
	folder  string
	closers []func() error
	count   atomic.Int64
}

// newNetworkScene opens the sockets. Those of IPv6 are left out where there is none.
func newNetworkScene() (*networkScene, error) {
	folder, err := os.MkdirTemp("", "serve-egress-*")
	if err != nil {
		return nil, err
	}
	s := &networkScene{folder: folder}
	var noTCP, noUDP, noUnix, noAbstract, noDatagram error
	s.TCP, noTCP = s.streams("tcp", "127.0.0.1:0")
	s.UDP, noUDP = s.packets("udp", "127.0.0.1:0")
	s.TCP6, _ = s.streams("tcp", "[::1]:0")
	s.UDP6, _ = s.packets("udp", "[::1]:0")
	s.Unix, noUnix = s.streams("unix", filepath.Join(folder, "socket"))
	s.Abstract, noAbstract = s.streams("unix", networkSceneName(folder))
	s.Datagram, noDatagram = s.packets("unixgram", networkSceneName(folder)+"-packets")

	if err := errors.Join(noTCP, noUDP, noUnix, noAbstract, noDatagram); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *networkScene) close() {
	for _, c := range s.closers {
		_ = c()
	}
	_ = os.RemoveAll(s.folder)
}

// arrived returns how many connections and packets have arrived.
func (s *networkScene) arrived() int { return int(s.count.Load()) }

// settleTime is how long what was sent on this machine may take to be counted.
const settleTime = 100 * time.Millisecond

// settle waits until what was sent has arrived.
func (s *networkScene) settle() { time.Sleep(settleTime) }

// streams accepts connections at an address, and counts them.
func (s *networkScene) streams(network, address string) (at string, err error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return "", err
	}
	s.closers = append(s.closers, l.Close)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.count.Add(1)
			c.Close()
		}
	}()
	return l.Addr().String(), nil
}

// dnsHeader is the size of the header of a question for a name; noSuchName is the answer to all.
const (
	dnsHeader  = 12
	dnsAnswer  = 0x80
	noSuchName = 3
)

// packets takes packets at an address, counts them, and answers questions for names.
func (s *networkScene) packets(network, address string) (at string, err error) {
	c, err := net.ListenPacket(network, address)
	if err != nil {
		return "", err
	}
	s.closers = append(s.closers, c.Close)
	go func() {
		var packet [512]byte
		for {
			n, from, err := c.ReadFrom(packet[:])
			if err != nil {
				return
			}
			s.count.Add(1)
			if n > dnsHeader {
				packet[2] |= dnsAnswer
				packet[3] = noSuchName
				_, _ = c.WriteTo(packet[:n], from)
			}
		}
	}()
	return c.LocalAddr().String(), nil
}

// client connects to a listener, which another process is to have, and asks.
func (s *networkScene) client() (c net.Conn, listener *os.File, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if listener, err = l.(*net.TCPListener).File(); err != nil {
		return nil, nil, err
	}
	c, err = net.Dial("tcp", l.Addr().String()) //nolint:forbidigo // to this process, to find out whether another can
	if err == nil {
		_, err = c.Write([]byte(egressQuestion))
	}
	if err != nil {
		listener.Close()
		return nil, nil, err
	}
	return c, listener, nil
}

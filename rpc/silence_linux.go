package rpc

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// mostSilence is how long what was sent may stay unacknowledged before a connection is over.
const mostSilence = 30 * time.Second

// limitSilence has the kernel end a connection whose other end acknowledges nothing.
func limitSilence(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(mostSilence.Milliseconds()))
	})
	return errors.Join(err, failed)
}

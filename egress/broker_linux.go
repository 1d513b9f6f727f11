package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"

	"golang.org/x/sys/unix"
)

// Broker opens connections to this machine for a process that cannot: it is another process, which has the means and
// does nothing else. It is asked by a socket, and returns descriptors by that. What it is sent are addresses, and it
// connects to none but the loopback's.
type Broker struct {
	mu   sync.Mutex
	conn *net.UnixConn
}

// StartBroker starts a broker by a command that runs this program, with an environment without secrets. It ends with
// this process. To be of use it must be started before this process gives up its means.
func StartBroker(cmd *exec.Cmd) (*Broker, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start a broker: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "broker")
	defer theirs.Close()
	conn, err := unixConn(os.NewFile(uintptr(fds[0]), "broker"))
	if err != nil {
		return nil, err
	}

	cmd.Env = append(cmd.Env, brokerVariable+"=1")
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("start a broker: %w", err)
	}
	go func() { _ = cmd.Wait() }()
	return &Broker{conn: conn}, nil
}

// unixConn returns the connection of a socket.
func unixConn(file *os.File) (*net.UnixConn, error) {
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("use a broker's socket: %w", err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("use a broker's socket: it is none of UNIX")
	}
	return conn, nil
}

// Dial has the broker connect to an address of this machine.
func (b *Broker) Dial(ctx context.Context, address string) (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(address) > maxAddress {
		return nil, errNotLocal
	}
	if _, err := b.conn.Write([]byte(address)); err != nil {
		return nil, fmt.Errorf("ask the broker for connections: %w", err)
	}

	var said [maxReply]byte
	rights := make([]byte, unix.CmsgSpace(4))
	n, size, _, _, err := b.conn.ReadMsgUnix(said[:], rights)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("ask the broker for connections: it has ended (%w)", errors.Join(err, io.EOF))
	}
	file, err := received(rights[:size])
	if err != nil {
		return nil, err
	}
	if file == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New(string(said[:n]))}
	}
	defer file.Close()
	return net.FileConn(file)
}

// received returns the file that a message has; nil if it has none.
func received(rights []byte) (*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("read a broker's answer: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("read a broker's answer: %w", err)
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "connection"), nil
}

// serveBroker connects to what it is asked for, until nobody asks any more.
func serveBroker(file *os.File) error {
	conn, err := unixConn(file)
	if err != nil {
		return err
	}
	defer conn.Close()

	var address [maxAddress]byte
	for {
		n, err := conn.Read(address[:])
		if n == 0 || err != nil {
			return nil // the process that asked has ended
		}
		c, err := dialLocal(string(address[:n]))
		if err != nil {
			text := reason(err)
			_, err = conn.Write([]byte(text[:min(len(text), maxReply)]))
		} else {
			err = hand(conn, c)
		}
		if err != nil {
			return err
		}
	}
}

// reason returns why a connection failed, without the addresses that package net puts before it.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err.Error()
}

// hand passes on a connection, and closes it here.
func hand(to *net.UnixConn, c net.Conn) error {
	defer c.Close()
	file, err := c.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	defer file.Close()
	_, _, err = to.WriteMsgUnix([]byte("connected"), unix.UnixRights(int(file.Fd())), nil)
	return err
}

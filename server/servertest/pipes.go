package servertest

import (
	"context"
	"net"
)

// Pipes is a listener whose connections are in memory, for tests in virtual time.
type Pipes struct {
	accepted chan net.Conn
	closed   context.Context
	close    context.CancelFunc
}

// NewPipes returns a listener without connections.
func NewPipes() *Pipes {
	closed, end := context.WithCancel(context.Background())
	return &Pipes{
		accepted: make(chan net.Conn),
		closed:   closed,
		close:    end,
	}
}

// Accept implements net.Listener, as do the methods after it.
func (p *Pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed.Done():
		return nil, net.ErrClosed
	}
}

// Close makes Accept return.
func (p *Pipes) Close() error { p.close(); return nil }

// Addr returns no address.
func (p *Pipes) Addr() net.Addr { return &net.TCPAddr{} }

// Dial returns the client's end of a new connection, which has no address.
func (p *Pipes) Dial() net.Conn {
	client, end := net.Pipe()
	p.accepted <- end
	return client
}

// DialFrom returns the client's end of a new connection from an IP address.
func (p *Pipes) DialFrom(address string) net.Conn {
	client, end := net.Pipe()
	p.accepted <- from{end, address}
	return client
}

// from is a connection from an IP address.
type from struct {
	net.Conn
	address string
}

// RemoteAddr implements net.Conn.
func (f from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.address), Port: 4711} }

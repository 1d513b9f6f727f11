package host

import (
	"container/list"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"serve/bind"
)

// ConnectionLimits bound the connections that clients may have open. Zero means no limit.
type ConnectionLimits struct {
	All        int
	PerAddress int            // of one IPv4 address, or of one IPv6 network of 64 bits
	Proxies    []netip.Prefix // addresses that PerAddress does not hold for: they have the connections of many clients
}

// Refused connections get an answer that clients understand, for which they are kept for a moment.
const (
	lingerTime  = time.Second
	maxLinger   = 64 // at the same time; others are closed without an answer
	maxUnread   = 64 << 10
	reportEvery = time.Minute
)

// connections counts the open connections of all listeners, from before their TLS handshakes. One that waits for its
// client's next request makes room for a new one, if there is no other.
type connections struct {
	limits ConnectionLimits
	refuse *tls.Config // of connections that are refused; nil without TLS

	mu        sync.Mutex // guards what follows
	open      int
	byClient  map[netip.Prefix]int
	idle      list.List // of *connection, the one that has been idle the longest in front
	lingering int
	refused   int // since the last report
	reported  time.Time
}

// newConnections returns the count for a server with a TLS configuration, or with nil for one without.
func newConnections(limits ConnectionLimits, config *tls.Config) *connections {
	c := &connections{limits: limits, byClient: map[netip.Prefix]int{}}
	if config != nil {
		c.refuse = withoutHTTP2(config)
	}
	return c
}

// withoutHTTP2 returns a configuration for connections that speak HTTP/1.1 alone.
func withoutHTTP2(config *tls.Config) *tls.Config {
	only := []string{"http/1.1"}
	config = config.Clone()
	config.NextProtos = only
	if choose := config.GetConfigForClient; choose != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen != nil {
				chosen = chosen.Clone()
				chosen.NextProtos = only
			}
			return chosen, err
		}
	}
	return config
}

// limit returns a listener whose connections are counted.
func (c *connections) limit(l net.Listener) net.Listener { return &limitedListener{l, c} }

type limitedListener struct {
	net.Listener
	all *connections
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if counted := l.all.admit(conn); counted != nil {
			return counted, nil
		}
	}
}

// connection is a connection that is counted until it is closed.
type connection struct {
	net.Conn
	all    *connections
	client netip.Prefix

	idle   *list.Element // in all.idle; nil if it is not there
	closed bool          // it is no longer counted
}

// admit counts a connection, or refuses it and returns nil.
func (c *connections) admit(conn net.Conn) *connection {
	counted := &connection{Conn: conn, all: c, client: clientOf(conn)}
	c.mu.Lock()
	perClient := c.limits.PerAddress > 0 && c.byClient[counted.client] >= c.limits.PerAddress &&
		!bind.IsProxy(c.limits.Proxies, counted.client.Addr())
	all := c.limits.All > 0 && c.open >= c.limits.All
	var victim *connection
	if perClient || all {
		victim = c.longestIdle(counted.client, perClient)
	}
	if victim != nil {
		c.drop(victim)
	}

	if perClient || all {
		if victim == nil {
			c.report()
			c.mu.Unlock()
			c.turnAway(conn, perClient)
			return nil
		}
	}
	c.open++
	c.byClient[counted.client]++
	c.mu.Unlock()

	if victim != nil {
		victim.Conn.Close()
	}
	return counted
}

// longestIdle returns the connection that has been idle the longest, of a client or of all. The caller holds
// the mutex.
func (c *connections) longestIdle(client netip.Prefix, own bool) *connection {
	for e := c.idle.Front(); e != nil; e = e.Next() {
		if conn := e.Value.(*connection); !own || conn.client == client {
			return conn
		}
	}
	return nil
}

// drop ends the count of a connection. The caller holds the mutex.
func (c *connections) drop(conn *connection) {
	if conn.closed {
		return
	}
	conn.closed = true
	c.unidle(conn)
	c.open--
	if c.byClient[conn.client]--; c.byClient[conn.client] == 0 {
		delete(c.byClient, conn.client)
	}
}

func (c *connections) unidle(conn *connection) {
	if conn.idle != nil {
		c.idle.Remove(conn.idle)
		conn.idle = nil
	}
}

// changed is http.Server's ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	counted, ok := conn.(*connection)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unidle(counted)
	if state == http.StateIdle && !counted.closed {
		counted.idle = c.idle.PushBack(counted)
	}
}

// report logs that connections are refused, now and then. The caller holds the mutex.
func (c *connections) report() {
	c.refused++
	if now := time.Now(); now.Sub(c.reported) >= reportEvery {
		slog.Warn("connections refused", "refused", c.refused, "open", c.open, "addresses", len(c.byClient))
		c.reported = now
		c.refused = 0
	}
}

// turnAway answers a connection that is not admitted, and closes it.
func (c *connections) turnAway(conn net.Conn, perClient bool) {
	c.mu.Lock()
	full := c.lingering >= maxLinger
	if !full {
		c.lingering++
	}
	c.mu.Unlock()
	if full {
		conn.Close()
		return
	}

	if c.refuse != nil {
		conn = tls.Server(conn, c.refuse) // its first write shakes hands
	}
	go func() {
		farewell(conn, perClient)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lingering--
	}()
}

// farewell writes an error and closes a connection. It reads what the client has sent meanwhile: closed with
// something unread, the connection would be reset, and the answer lost.
func farewell(conn net.Conn, perClient bool) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	if _, err := io.WriteString(conn, refusal(perClient)); err != nil {
		return
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, conn, maxUnread)
}

// refusal returns the answer to a connection that is not admitted. No request has been read, so that it is
// an error of OpenAI's API, which also those of others can read.
func refusal(perClient bool) string {
	status := http.StatusServiceUnavailable
	message := "The server has too many open connections (--max-connections)."
	if perClient {
		status = http.StatusTooManyRequests
		message = "Your address has too many open connections to this server (--max-client-connections)."
	}
	const envelope = `{"error":{"message":%q,"type":"server_error","param":null,"code":"too_many_connections"}}`
	body := fmt.Sprintf(envelope, message)
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"+
		"Retry-After: 1\r\nConnection: close\r\n\r\n%s", status, http.StatusText(status), len(body), body)
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.all.mu.Lock()
	c.all.drop(c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite is what http.Server looks for.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// clientOf returns what a connection counts for.
func clientOf(conn net.Conn) netip.Prefix {
	at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}
	}
	return bind.Network(at.Addr())
}

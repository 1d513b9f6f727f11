// Package egress opens the connections that this program makes to others; no other package does. Each is made in a
// Way, which says why and to which hosts, is logged, and is shown to an Observer. Offline, only servers on this
// machine are connected to, and once this process has given up the means for that (package sandbox), a Broker that was
// started before does it.
package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Errors of connections that are not made.
var (
	ErrOffline = errors.New("offline mode: no connection is opened")
	ErrUnnamed = errors.New("a connection to a host that nothing names")
)

// dialTime is how long a connection may take, and keepAlive how often an idle one is probed.
const (
	dialTime  = 30 * time.Second
	keepAlive = 30 * time.Second
)

// Connection is a connection that was opened, or that failed.
type Connection struct {
	Way     string         // the way's name
	Reason  string         // and its reason
	Host    string         // host and port, as they are named
	NamedBy string         // who names them: a flag, a variable, a redirect
	Address netip.AddrPort // of the other end; not valid if there is none
	Local   bool           // the other end is on this machine
	Began   time.Time
	Took    time.Duration
	Err     error // why it failed
}

// Observer is told of each connection when it has been opened, or has failed. It is called from several goroutines, and
// the connection is used only after it has returned: an error closes it.
type Observer func(context.Context, Connection) error

// Net opens connections. Its zero value is ready, and a nil one is like that. It may be used by several goroutines once
// its fields are set.
type Net struct {
	Offline  bool         // only to this machine
	Log      *slog.Logger // slog.Default()
	Observer Observer     // nil for none
	Broker   *Broker      // opens connections to this machine; nil where this process can

	// Of Disconnect; warn is nil before.
	devices bool
	warn    func(format string, args ...any)
}

// Way is a reason for connections, and the hosts that they may go to.
type Way struct {
	Name   string // one word, for logs and records
	Reason string // what is sent and asked for

	mu    sync.Mutex
	hosts map[string]string // by host and port, who names them
}

// NewWay returns a way to no host.
func NewWay(name, reason string) *Way { return &Way{Name: name, Reason: reason} }

// Allow adds hosts: host, host:port or a URL, of whose path nothing matters; without a scheme it is https. What names
// them is a flag, a variable of the environment, or what another host has answered. A text that names no host is not
// added.
func (w *Way) Allow(namedBy string, hosts ...string) *Way {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hosts == nil {
		w.hosts = map[string]string{}
	}
	for _, host := range hosts {
		key, ok := hostAndPort(host)
		if _, known := w.hosts[key]; ok && !known {
			w.hosts[key] = namedBy
		}
	}
	return w
}

// namedBy returns who names a host and its port; "" if nobody does.
func (w *Way) namedBy(address string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hosts[strings.ToLower(address)]
}

// hostAndPort reads a host as Allow describes it.
func hostAndPort(text string) (address string, ok bool) {
	if !strings.Contains(text, "://") {
		if ip, err := netip.ParseAddr(text); err == nil && ip.Is6() {
			text = "[" + text + "]"
		}
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return "", false
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), portOf(u))), true
}

// portOf returns the port of a URL.
func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	switch u.Scheme {
	case "http":
		return "80"
	case "socks5", "socks5h":
		return "1080"
	}
	return "443"
}

// IsLocal reports whether a host, without a port, is this machine by its name alone: names that have to be looked up
// are not.
func IsLocal(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// NoRedirect is the CheckRedirect of an http.Client that returns redirects instead of following them: what is sent may
// be for this host alone.
func NoRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// controlKey is the key of a context's control.
type controlKey struct{}

// Control refuses a connection to an address, right before it is opened, as the function of that name of a net.Dialer.
type Control func(network, address string, c syscall.RawConn) error

// WithControl returns a context in which every connection is asked for.
func WithControl(ctx context.Context, c Control) context.Context {
	return context.WithValue(ctx, controlKey{}, c)
}

// Dial opens a connection in a way, which must allow the address: a host and a port.
func (n *Net) Dial(ctx context.Context, w *Way, network, address string) (net.Conn, error) {
	if n == nil {
		n = new(Net)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}

	made := Connection{
		Way:     w.Name,
		Reason:  w.Reason,
		Host:    address,
		NamedBy: w.namedBy(address),
		Local:   IsLocal(host),
		Began:   time.Now(),
	}
	c, err := n.open(ctx, made, network)
	made.Took = time.Since(made.Began)
	made.Err = err
	if c != nil {
		made.Address = addressOf(c)
	}
	return n.tell(ctx, made, c)
}

// open opens a connection that is allowed.
func (n *Net) open(ctx context.Context, made Connection, network string) (net.Conn, error) {
	switch {
	case made.NamedBy == "":
		return nil, fmt.Errorf("%w: %s for %s", ErrUnnamed, made.Host, made.Way)
	case n.Offline && !made.Local:
		return nil, ErrOffline
	case n.Broker != nil && made.Local:
		return n.Broker.Dial(ctx, made.Host)
	}

	d := net.Dialer{Timeout: dialTime, KeepAlive: keepAlive}
	if control, ok := ctx.Value(controlKey{}).(Control); ok {
		d.Control = control
	}
	return d.DialContext(ctx, network, made.Host)
}

// tell tells of a connection, and closes it if the Observer does not have it.
func (n *Net) tell(ctx context.Context, made Connection, c net.Conn) (net.Conn, error) {
	log := n.Log
	if log == nil {
		log = slog.Default()
	}
	level := slog.LevelInfo
	if made.Local {
		level = slog.LevelDebug // nothing leaves the machine
	}
	if made.Err == nil {
		log.Log(ctx, level, "connected", "to", made.Host, "address", made.Address, "for", made.Way, "named by", made.NamedBy)
	} else {
		log.Log(ctx, level, "not connected", "to", made.Host, "for", made.Way, "error", made.Err)
	}

	if n.Observer == nil {
		return c, made.Err
	}
	err := n.Observer(ctx, made)
	if err == nil || made.Err != nil {
		return c, made.Err
	}
	c.Close()
	return nil, fmt.Errorf("a connection that cannot be recorded: %w", err)
}

// addressOf returns the address of a connection's other end.
func addressOf(c net.Conn) netip.AddrPort {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Transport returns a new transport whose connections are opened in a way, by the proxies that the environment names.
// Like the transport of net/http it speaks HTTP/2.
func (n *Net) Transport(w *Way) *http.Transport {
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) { return proxyOf(w, r) },
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return n.Dial(ctx, w, network, address)
		},
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          100,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// proxyOf returns the proxy for a request, which is a host to connect to. The request's own host must be named even if
// a proxy connects to it.
func proxyOf(w *Way, r *http.Request) (*url.URL, error) {
	address, ok := hostAndPort(r.URL.Scheme + "://" + r.URL.Host)
	if !ok || w.namedBy(address) == "" {
		return nil, fmt.Errorf("%w: %s for %s", ErrUnnamed, r.URL.Host, w.Name)
	}
	proxy, err := http.ProxyFromEnvironment(r)
	if proxy != nil {
		w.Allow(strings.ToUpper(r.URL.Scheme)+"_PROXY", proxy.Scheme+"://"+proxy.Host)
	}
	return proxy, err
}

// TakeDefaults has net/http's default client and transport refuse every request: a library that uses them would connect
// where nobody knows why.
func TakeDefaults() {
	http.DefaultTransport = &http.Transport{
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			return nil, fmt.Errorf("%w: %s", ErrUnnamed, address)
		},
	}
}

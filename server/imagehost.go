package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"serve/egress"
)

// imageHost is a host that images may be fetched from.
type imageHost struct {
	scheme  string
	host    string
	port    string
	private bool // its address need not be public
}

// parseImageHost reads a host as the operator gives it: host, host:port, or scheme://host:port.
func parseImageHost(given string, private bool) (h imageHost, err error) {
	text := given
	if !strings.Contains(text, "://") {
		if isAddress(text) && strings.Contains(text, ":") {
			text = "[" + text + "]"
		}
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.Scheme != "http" && u.Scheme != "https" {
		return h, fmt.Errorf("--image-host %q is not a host, host:port, or http://host:port", given)
	}

	h = imageHost{
		scheme: u.Scheme,
		host:   strings.ToLower(u.Hostname()),
		port:   portOf(u),
	}
	h.private = private || isAddress(h.host) || h.host == "localhost"
	return h, nil
}

// ImageWay returns the way to hosts, as the operator gives them.
func ImageWay(hosts []string) *egress.Way {
	return egress.NewWay("images", "fetches images that requests name").Allow("--image-host", hosts...)
}

// has reports whether a URL is of this host.
func (h imageHost) has(u *url.URL) bool {
	return u.Scheme == h.scheme && strings.EqualFold(u.Hostname(), h.host) && portOf(u) == h.port
}

// portOf returns the port of a URL.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// imageTransport fetches from allowed hosts, through a proxy where there is one for them. A proxy resolves
// names itself, and is the one to say where they may lead.
type imageTransport struct {
	direct  *http.Transport
	proxied *http.Transport
}

// newImageTransport returns a transport that opens connections as base does, which is one of package egress.
func newImageTransport(base *http.Transport, hosts []imageHost) *imageTransport {
	t := &imageTransport{direct: base.Clone(), proxied: base}
	t.direct.Proxy = nil
	t.direct.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		private := slices.ContainsFunc(hosts, func(h imageHost) bool {
			return h.private && strings.EqualFold(h.host, host) && h.port == port
		})
		if !private {
			ctx = egress.WithControl(ctx, onlyPublic)
		}
		return base.DialContext(ctx, network, address)
	}
	return t
}

// RoundTrip implements http.RoundTripper.
func (t *imageTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.proxied.Proxy != nil {
		proxy, err := t.proxied.Proxy(r)
		if err != nil {
			return nil, err
		}
		if proxy != nil {
			return t.proxied.RoundTrip(r)
		}
	}
	return t.direct.RoundTrip(r)
}

// onlyPublic is a net.Dialer's Control that refuses to connect to an address that is not public. It is asked
// for each address that a name has, right before the connection is opened: it does not help to answer
// differently when the name is resolved again.
func onlyPublic(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !isPublic(at.Addr()) {
		return fmt.Errorf("the host's address is not public; the operator can allow that with --image-host-private")
	}
	return nil
}

// reserved are the networks of addresses that lead to nobody in particular, or to another address in them,
// besides those that netip knows.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // shared by providers and overlay networks
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), // for benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),          // IPv4 addresses in an old form
	netip.MustParsePrefix("64:ff9b::/96"),   // IPv4 addresses behind NAT64
	netip.MustParsePrefix("64:ff9b:1::/48"), // the same, of a private network
	netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2002::/16"), // IPv4 addresses behind 6to4
	netip.MustParsePrefix("fec0::/10"), // what private networks had before
}

// isPublic reports whether an address is one of the internet.
func isPublic(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() &&
		!slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// Package bind decides whether a server may listen on addresses, by what protects it there.
package bind

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Setup is what is known of a server before it starts.
type Setup struct {
	Addresses     []net.Addr // on which it listens
	Authenticates bool       // every client: by keys, or by certificates
	TLS           bool

	AllowAnonymous bool           // --allow-anonymous
	AllowPlainHTTP bool           // --allow-plain-http
	Proxies        []netip.Prefix // --trust-proxy
}

// Error is a server that must not start, and what to do about it.
type Error struct {
	Text string
	Todo string
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Hint says what to do about the error.
func (e *Error) Hint() string { return e.Todo }

// Check returns an error if other machines can reach the server and anyone there could use it, or read what others
// send to it, unless that was allowed.
//
// A proxy that is trusted stands for TLS: it ends its clients' TLS and goes on in plain text, mostly on the same
// machine or in a network of its own. It does not stand for authentication.
func Check(s Setup) error {
	exposed := s.Exposed()
	switch {
	case exposed == nil:
		return nil
	case !s.Authenticates && !s.AllowAnonymous:
		return &Error{
			Text: fmt.Sprintf("other machines can reach %s, and anyone there could use the server", exposed),
			Todo: "make a key for each user with serve key create NAME, or let everyone in with --allow-anonymous; " +
				"without --host, only this machine reaches the server",
		}
	case !s.TLS && !s.AllowPlainHTTP && !s.isBehindProxy():
		return &Error{
			Text: fmt.Sprintf("other machines can reach %s, and networks between could read prompts, answers and keys", exposed),
			Todo: "encrypt with --tls-cert and --tls-key or with --tls-self-signed, or allow it with --allow-plain-http; " +
				"behind a proxy that encrypts, give its address with --trust-proxy",
		}
	}
	return nil
}

// Warnings says what is allowed that is better known to whoever starts the server.
func (s *Setup) Warnings() (list []string) {
	exposed := s.Exposed()
	if exposed == nil {
		return nil
	}
	if !s.Authenticates {
		list = append(list, fmt.Sprintf("anyone who can reach %s can use the server (--allow-anonymous)", exposed))
	}
	switch {
	case s.TLS:
	case s.isBehindProxy() && !s.AllowPlainHTTP:
		// Nobody else is served there.
	default:
		list = append(list,
			fmt.Sprintf("networks on the way to %s can read prompts, answers and keys (--allow-plain-http)", exposed))
	}
	return list
}

// isBehindProxy reports whether there is a proxy on another machine. One on this machine reaches the server on
// loopback, and is no reason to listen on more.
func (s *Setup) isBehindProxy() bool {
	return slices.ContainsFunc(s.Proxies, func(p netip.Prefix) bool { return !p.Addr().IsLoopback() })
}

// Exposed returns the first address that other machines can reach; nil if there is none. Files in the system's tree,
// UNIX sockets, belong to this machine.
func (s *Setup) Exposed() net.Addr {
	for _, a := range s.Addresses {
		if _, ok := a.(*net.UnixAddr); ok {
			continue
		}
		if tcp, ok := a.(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
			return a
		}
	}
	return nil
}

// ParseProxies reads the values of --trust-proxy: addresses, or networks as CIDR.
func ParseProxies(list []string) ([]netip.Prefix, error) {
	var proxies []netip.Prefix
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if ip, bad := netip.ParseAddr(text); bad == nil {
			prefix, err = ip.WithZone("").Prefix(ip.BitLen())
		}

		switch {
		case err != nil:
			return nil, &Error{
				Text: fmt.Sprintf("--trust-proxy %q is neither an address nor a network", text),
				Todo: "give the proxy's address, such as 10.0.0.7, or its network, such as 10.0.0.0/24",
			}
		case prefix.Bits() < leastBits(prefix.Addr()):
			return nil, &Error{
				Text: fmt.Sprintf("--trust-proxy %s is so large that anyone could invent the address of a request", text),
				Todo: "give the proxy's address or its network",
			}
		case prefix.Addr().Is4In6():
			return nil, &Error{
				Text: fmt.Sprintf("--trust-proxy %s is an IPv4 network written as IPv6", text),
				Todo: "write it as IPv4, such as 10.0.0.0/24",
			}
		}

		proxies = append(proxies, prefix.Masked())
	}
	return proxies, nil
}

// leastBits returns the length of the shortest prefix that is one network: 10.0.0.0/8, and fc00::/7.
func leastBits(address netip.Addr) int {
	if address.Is4() {
		return 8
	}
	return 7
}

// Network returns what counts as one client: an address, or with IPv6 the network of 64 bits from which one machine may
// choose its addresses.
func Network(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	network, _ := address.Prefix(bits) // it cannot fail: the address has as many
	return network
}

// IsProxy reports whether an address is that of a proxy.
func IsProxy(proxies []netip.Prefix, address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	for _, p := range proxies {
		if p.Contains(address) {
			return true
		}
	}
	return false
}

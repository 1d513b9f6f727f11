package server

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"serve/bind"
)

const (
	forwardedFor   = "X-Forwarded-For"
	forwardedProto = "X-Forwarded-Proto"
	forwarded      = "Forwarded" // RFC 7239
)

// proxyHeaders are those by which proxies tell for whom they ask.
var proxyHeaders = []string{forwarded, forwardedFor, "X-Real-Ip", "Via"}

// believe makes a request say what its proxies tell of it, if it comes from one that is trusted: RemoteAddr is then the
// address of the client, and X-Forwarded-Proto the scheme that the client used. What others tell is not believed, and
// their X-Forwarded-Proto and fairness ID are removed. The request must be a copy; its header is copied before it is
// changed.
func (s *Server) believe(r *http.Request) {
	if !s.isProxy(r) {
		setHeader(r, forwardedProto, "")
		setHeader(r, fairnessHeader, "")
		return
	}

	lists := [][]hop{forwardedHops(r.Header), listedHops(r.Header)}
	var client hop
	for _, hops := range lists {
		found := clientOf(hops, s.opts.Proxies)
		switch {
		case !found.address.IsValid():
			continue
		case client.address.IsValid() && client.address != found.address:
			// A proxy writes one of the two headers, and passes on the other one as its client has sent it.
			setHeader(r, forwardedProto, "")
			return
		}
		client = hop{found.address, cmp.Or(found.scheme, client.scheme)}
	}
	if client.address.IsValid() {
		r.RemoteAddr = net.JoinHostPort(client.address.String(), "0")
	}
	if client.scheme == "" {
		// Only the last one is certain to be the proxy's: those before it may be what a client has sent.
		schemes := splitList(r.Header.Values(forwardedProto), ',')
		if len(schemes) > 0 {
			client.scheme = schemes[len(schemes)-1]
		}
	}
	setHeader(r, forwardedProto, strings.ToLower(strings.TrimSpace(client.scheme)))
}

// isProxy reports whether a request is from a trusted proxy as far as is known: one that tells of no client.
func (s *Server) isProxy(r *http.Request) bool {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && bind.IsProxy(s.opts.Proxies, at.Addr())
}

// setHeader sets a header of a request, or removes it if the value is empty.
func setHeader(r *http.Request, name, value string) {
	if r.Header.Get(name) == value && len(r.Header.Values(name)) <= 1 {
		return
	}
	r.Header = r.Header.Clone()
	r.Header.Del(name)
	if value != "" {
		r.Header.Set(name, value)
	}
}

// hop is one that has sent a request on its way to this server.
type hop struct {
	address netip.Addr // invalid if it is not known
	scheme  string     // that it used; "" if it is not known
}

// clientOf returns the last hop that is not a proxy. Each proxy vouches for the hop before it, so that nothing is known
// of those before one that is not trusted.
func clientOf(hops []hop, proxies []netip.Prefix) hop {
	var last hop
	for i := len(hops) - 1; i >= 0; i-- {
		if !hops[i].address.IsValid() {
			return last
		}
		last = hops[i]
		if !bind.IsProxy(proxies, last.address) {
			return last
		}
	}
	return last
}

// listedHops returns the hops in X-Forwarded-For, and their schemes if X-Forwarded-Proto has as many.
func listedHops(h http.Header) (hops []hop) {
	for _, text := range splitList(h.Values(forwardedFor), ',') {
		hops = append(hops, hop{address: hopAddress(text)})
	}
	if schemes := splitList(h.Values(forwardedProto), ','); len(schemes) == len(hops) {
		for i := range hops {
			hops[i].scheme = schemes[i]
		}
	}
	return hops
}

// forwardedHops returns the hops in Forwarded.
func forwardedHops(h http.Header) (hops []hop) {
	for _, element := range splitList(h.Values(forwarded), ',') {
		var sender hop
		for _, pair := range splitList([]string{element}, ';') {
			name, value, _ := strings.Cut(pair, "=")
			value = unquote(strings.TrimSpace(value))
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "for":
				sender.address = hopAddress(value)
			case "proto":
				sender.scheme = value
			}
		}
		hops = append(hops, sender)
	}
	return hops
}

// splitList splits the values of a header at separators that are not within quotes.
func splitList(values []string, separator byte) (list []string) {
	text := strings.Join(values, string(separator))
	begin := 0
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == separator && !quoted:
			list = append(list, strings.TrimSpace(text[begin:i]))
			begin = i + 1
		}
	}
	if text == "" {
		return nil
	}
	return append(list, strings.TrimSpace(text[begin:]))
}

// unquote returns what a quoted string of a header means. Addresses and schemes have no character to escape.
func unquote(text string) string {
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		return text[1 : len(text)-1]
	}
	return text
}

// hopAddress returns the address that a proxy writes for a hop, with a port or without; an invalid one for a name that
// hides it, such as unknown.
func hopAddress(text string) netip.Addr {
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}
		}
		ip = at.Addr()
	}
	return ip.Unmap().WithZone("")
}

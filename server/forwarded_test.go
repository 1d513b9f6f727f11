package server

import (
	"net/http"
	"net/netip"
	"testing"
)

// TestBelieve takes the client's address and scheme from proxies that are trusted, and from nobody else.
func TestBelieve(t *testing.T) {
	s := &Server{opts: Options{Proxies: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64"),
	}}}
	const proxy, other = "10.0.0.7:4711", "203.0.113.9:4711"
	type headers = map[string][]string
	for _, tt := range []struct {
		name    string
		from    string
		headers headers
		client  string
		scheme  string
	}{
		{"nothing", proxy, nil, proxy, ""},
		{"a client", proxy, headers{forwardedFor: {"192.0.2.1"}, forwardedProto: {"https"}}, "192.0.2.1:0", "https"},
		{"a client who claims another address", proxy, headers{forwardedFor: {"198.51.100.1, 192.0.2.1"}}, "192.0.2.1:0", ""},
		{"in two headers", proxy, headers{forwardedFor: {"198.51.100.1", "192.0.2.1"}}, "192.0.2.1:0", ""},
		{"two proxies", proxy,
			headers{forwardedFor: {"198.51.100.1, 192.0.2.1, 10.0.0.8"}, forwardedProto: {"http, https, http"}},
			"192.0.2.1:0", "https"},
		{"proxies alone", proxy, headers{forwardedFor: {"10.0.0.9, 10.0.0.8"}}, "10.0.0.9:0", ""},
		{"a proxy that is not trusted", proxy, headers{forwardedFor: {"192.0.2.1, 203.0.113.9"}}, "203.0.113.9:0", ""},
		{"a client that is hidden", proxy, headers{forwardedFor: {"192.0.2.1, unknown, 10.0.0.8"}}, "10.0.0.8:0", ""},
		{"a client that is hidden at once", proxy, headers{forwardedFor: {"192.0.2.1, unknown"}}, proxy, ""},
		{"with ports", proxy, headers{forwardedFor: {"192.0.2.1:99, 10.0.0.8:99"}}, "192.0.2.1:0", ""},
		{"IPv6", "[fd00::7%eth0]:4711", headers{forwardedFor: {"[2001:db8::1]:99"}}, "[2001:db8::1]:0", ""},
		{"IPv4 in IPv6", "[::ffff:10.0.0.7]:4711", headers{forwardedFor: {"::ffff:192.0.2.1"}}, "192.0.2.1:0", ""},
		{"the scheme alone", proxy, headers{forwardedProto: {"HTTPS"}}, proxy, "https"},
		{"schemes alone, one by the client", proxy, headers{forwardedProto: {"https, HTTP"}}, proxy, "http"},
		{"schemes in two headers", proxy,
			headers{forwardedFor: {"192.0.2.1"}, forwardedProto: {"https", "http"}}, "192.0.2.1:0", "http"},

		{"Forwarded", proxy, headers{forwarded: {`for=192.0.2.1;proto=https;by=10.0.0.7`}}, "192.0.2.1:0", "https"},
		{"Forwarded, quoted", proxy,
			headers{forwarded: {`For="[2001:db8::1]:99";Proto=HTTPS, for="10.0.0.8";proto=http;host="a,b;c"`}},
			"[2001:db8::1]:0", "https"},
		{"Forwarded, with a false quote", proxy,
			headers{forwarded: {`for="198.51.100.1, for=192.0.2.1`}}, proxy, ""},
		{"Forwarded, hidden", proxy, headers{forwarded: {`for=_secret;proto=https`}}, proxy, ""},
		{"both, the same", proxy,
			headers{forwarded: {`for=192.0.2.1;proto=https`}, forwardedFor: {"192.0.2.1"}}, "192.0.2.1:0", "https"},
		{"both, one by the client", proxy,
			headers{forwarded: {`for=192.0.2.1;proto=https`}, forwardedFor: {"198.51.100.1"}, forwardedProto: {"https"}},
			proxy, ""},

		{"of no proxy", other, headers{forwardedFor: {"192.0.2.1"}, forwardedProto: {"https"}}, other, ""},
		{"Forwarded, of no proxy", other, headers{forwarded: {"for=10.0.0.7;proto=https"}}, other, ""},
		{"of a loopback that is not named", "127.0.0.1:4711", headers{forwardedFor: {"192.0.2.1"}}, "127.0.0.1:4711", ""},
		{"of the server itself", "", headers{forwardedProto: {"https"}}, "", ""},
	} {
		original := http.Header{}
		for name, values := range tt.headers {
			original[name] = values
		}
		r := &http.Request{RemoteAddr: tt.from, Header: original}
		s.believe(r)
		if r.RemoteAddr != tt.client || r.Header.Get(forwardedProto) != tt.scheme {
			t.Errorf("%s: got %s %q, want %s %q", tt.name, r.RemoteAddr, r.Header.Get(forwardedProto), tt.client, tt.scheme)
		}
		if len(original) != len(tt.headers) {
			t.Errorf("%s: the caller's header was changed", tt.name)
		}
	}
}

// FuzzForwarded has no header make it panic, or take an address for a client's that is not in the header.
func FuzzForwarded(f *testing.F) {
	f.Add(`for="[2001:db8::1]:99";proto=https, for=10.0.0.8`)
	f.Add(`for="\"`)
	s := &Server{opts: Options{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}}
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{forwarded, forwardedFor, forwardedProto} {
			r := &http.Request{RemoteAddr: "10.0.0.7:1", Header: http.Header{name: {text}}}
			s.believe(r)
			if _, err := netip.ParseAddrPort(r.RemoteAddr); err != nil {
				t.Errorf("%s: %q makes the client %q", name, text, r.RemoteAddr)
			}
		}
	})
}

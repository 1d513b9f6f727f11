package bind

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func tcp(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 8080} }

// TestCheck starts a server that others can reach only with authentication and TLS, or what allows to do without.
func TestCheck(t *testing.T) {
	const (
		starts  = ""
		nobody  = "--allow-anonymous"
		noTLS   = "--allow-plain-http"
		anyKind = "TLS, authentication and all flags"
	)
	loopback := []net.Addr{
		tcp("127.0.0.1"), tcp("127.8.9.1"), tcp("::1"), tcp("::ffff:127.0.0.1"), &net.UnixAddr{Name: "/run/s"},
	}
	reachable := []net.Addr{
		tcp("0.0.0.0"), tcp("::"), tcp("192.168.1.7"), tcp("fd00::1"), tcp("203.0.113.7"), tcp("fe80::1"),
		&net.TCPAddr{},
	}
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32")}

	for _, tt := range []struct {
		name   string
		server Setup
		want   string // in the hint, on an address that others can reach
	}{
		{"nothing", Setup{}, nobody},
		{"TLS", Setup{TLS: true}, nobody},
		{"a proxy", Setup{Proxies: proxies}, nobody},
		{"plain HTTP allowed", Setup{AllowPlainHTTP: true}, nobody},
		{"authentication", Setup{Authenticates: true}, noTLS},
		{"anonymous", Setup{AllowAnonymous: true}, noTLS},
		{"authentication and TLS", Setup{Authenticates: true, TLS: true}, starts},
		{"anonymous and TLS", Setup{AllowAnonymous: true, TLS: true}, starts},
		{"authentication, plain", Setup{Authenticates: true, AllowPlainHTTP: true}, starts},
		{"anonymous, plain", Setup{AllowAnonymous: true, AllowPlainHTTP: true}, starts},
		{"authentication, a proxy", Setup{Authenticates: true, Proxies: proxies}, starts},
		{"anonymous, a proxy", Setup{AllowAnonymous: true, Proxies: proxies}, starts},
		{"authentication, a proxy on this machine", Setup{
			Authenticates: true,
			Proxies:       []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")},
		}, noTLS},
		{anyKind, Setup{
			Authenticates:  true,
			TLS:            true,
			AllowAnonymous: true,
			AllowPlainHTTP: true,
			Proxies:        proxies,
		}, starts},
	} {
		for _, a := range loopback {
			tt.server.Addresses = []net.Addr{a}
			if err := Check(tt.server); err != nil {
				t.Errorf("%s on %s: %v", tt.name, a, err)
			}
		}
		for _, a := range reachable {
			tt.server.Addresses = []net.Addr{tcp("127.0.0.1"), a} // --ollama-port's too
			err := Check(tt.server)
			var refused *Error
			switch {
			case tt.want == starts && err != nil:
				t.Errorf("%s on %s: %v", tt.name, a, err)
			case tt.want != starts && (!errors.As(err, &refused) || !strings.Contains(refused.Hint(), tt.want)):
				t.Errorf("%s on %s: got %v, want %s", tt.name, a, err, tt.want)
			case tt.want != starts && !strings.Contains(err.Error(), a.String()):
				t.Errorf("%s on %s: the error does not name it: %v", tt.name, a, err)
			}
		}
	}
}

func TestParseProxies(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.7":           "10.0.0.7/32",
		"10.0.0.7/24":        "10.0.0.0/24",
		"2001:db8::1":        "2001:db8::1/128",
		"fd00::/8":           "fd00::/8",
		"":                   "neither",
		"proxy":              "neither",
		"10.0.0.0/33":        "neither",
		"0.0.0.0/0":          "anyone",
		"::/0":               "anyone",
		"0.0.0.0/1":          "anyone",
		"10.0.0.0/8":         "10.0.0.0/8",
		"::ffff:10.0.0.7":    "as IPv6",
		"::ffff:10.0.0.0/96": "as IPv6",
	} {
		list, err := ParseProxies([]string{text})
		switch {
		case err == nil && (len(list) != 1 || list[0].String() != want):
			t.Errorf("%q: %v", text, list)
		case err != nil && !strings.Contains(err.Error(), want):
			t.Errorf("%q: %v", text, err)
		}
	}

	list, err := ParseProxies([]string{"10.0.0.0/24", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"10.0.0.9": true, "::ffff:10.0.0.9": true, "10.0.1.9": false, "fd00::9%eth0": true, "2001:db8::1": false,
	} {
		if IsProxy(list, netip.MustParseAddr(address)) != want {
			t.Errorf("%s: want %v", address, want)
		}
	}
	if IsProxy(list, netip.Addr{}) || IsProxy(nil, netip.MustParseAddr("10.0.0.9")) {
		t.Error("no address, and any address without proxies, is none of them")
	}
}

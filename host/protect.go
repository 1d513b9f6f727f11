package host

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"

	"serve/bind"
	"serve/certs"
	"serve/egress"
	"serve/oidc"
	"serve/server"
	"serve/terminal"
)

// Protection says what protects a server from others than its users. The zero value suffices on this machine alone.
type Protection struct {
	Certificate    certs.Options // without Folder, Names and Also
	Keys           bool          // clients must have a key
	AllowAnonymous bool
	AllowPlainHTTP bool
	Proxies        []string // addresses and networks that are trusted
	OIDC           oidc.Options
}

// Place is where a server is reached.
type Place struct {
	Listeners []net.Listener
	Home      string   // folder where a self-signed certificate is kept, in one of its own, and what tokens' subjects use
	Host      string   // address or name that the server was told to listen on
	Hosts     []string // its other names; they may begin with a star
	// Transport returns how what a flag names is reached on a network.
	Transport func(flag string, way *egress.Way) (*http.Transport, error)
}

// Protected is the protection of a server that may start.
type Protected struct {
	Certificate *certs.Certificate // nil without TLS
	Proxies     []netip.Prefix
	Tokens      *oidc.Verifier // nil without OIDC
	// plainProxiesOnly says that a proxy's TLS is all that protects the server.
	plainProxiesOnly bool
}

// Configure has a server, which listens on a host, trust what it may.
func (p *Protected) Configure(o *server.Options, host string) {
	o.Hosts = slices.Concat(Names(host), o.Hosts, p.Names())
	o.Proxies = p.Proxies
	o.PlainProxiesOnly = p.plainProxiesOnly
	if p.Tokens != nil {
		o.Tokens = p.Tokens
	}
}

// Names returns the names in the certificate: no other site can have them, if it has them by right.
func (p *Protected) Names() []string {
	if p.Certificate == nil {
		return nil
	}
	return p.Certificate.Names()
}

// Apply opens the certificate, and warns of what is allowed. The error is about what the user has given: a server that
// others can reach without what protects it, or a certificate that cannot be used.
func (p *Protection) Apply(at Place, t *terminal.Terminal) (Protected, error) {
	proxies, err := bind.ParseProxies(p.Proxies)
	if err != nil {
		return Protected{}, err
	}
	if err := p.Certificate.Check(); err != nil {
		return Protected{}, err
	}
	if p.AllowAnonymous && p.OIDC.IsSet() {
		return Protected{}, errors.New("--allow-anonymous and --oidc-issuer contradict each other")
	}
	if err := p.OIDC.Check(); err != nil {
		return Protected{}, err
	}

	s := bind.Setup{
		Authenticates:  p.Keys || p.OIDC.IsSet() || p.Certificate.ClientCA != "",
		TLS:            p.Certificate.Enabled(),
		AllowAnonymous: p.AllowAnonymous,
		AllowPlainHTTP: p.AllowPlainHTTP,
		Proxies:        proxies,
	}
	for _, l := range at.Listeners {
		s.Addresses = append(s.Addresses, l.Addr())
	}
	if err := bind.Check(s); err != nil {
		return Protected{}, err
	}
	for _, warning := range s.Warnings() {
		t.Warn("%s", warning)
	}

	protected := Protected{
		Proxies:          proxies,
		plainProxiesOnly: s.Exposed() != nil && !s.TLS && !p.AllowPlainHTTP,
	}
	if s.TLS {
		if protected.Certificate, err = certs.Open(at.name(p.Certificate)); err != nil {
			return Protected{}, err
		}
	}
	protected.Tokens, err = p.openTokens(&at)
	return protected, err
}

// Close writes what the subjects of tokens have used.
func (p *Protected) Close() error {
	if p.Tokens == nil {
		return nil
	}
	return p.Tokens.Close()
}

// openTokens opens the verifier of tokens, nil if there is no issuer. With a file of keys it opens no connection.
func (p *Protection) openTokens(at *Place) (*oidc.Verifier, error) {
	o := p.OIDC
	if !o.IsSet() {
		return nil, nil
	}
	if o.KeyFile == "" {
		way := egress.NewWay("oidc", "the keys of the OpenID Connect provider").Allow("--oidc-issuer", o.Issuer)
		t, err := at.Transport("--oidc-issuer without --oidc-jwks", way)
		if err != nil {
			return nil, err
		}
		o.Transport = t
	}
	o.UsageFile = filepath.Join(at.Home, "oidc")
	return oidc.Open(context.Background(), o)
}

// name adds the names of a self-signed certificate. Those that the user has given must be in it; it is not made anew
// when this machine gets another address, since clients would not know it.
func (at *Place) name(o certs.Options) certs.Options {
	o.Folder = filepath.Join(at.Home, "tls")
	o.Names = []string{"localhost", "127.0.0.1", "::1"}
	o.Also = Names(at.Host)
	if ip := net.ParseIP(at.Host); ip != nil && ip.IsUnspecified() {
		o.Also = append(o.Also, certs.LocalAddresses()...)
	} else {
		o.Names = append(o.Names, at.Host)
	}
	for _, name := range at.Hosts {
		if name != "*" {
			o.Names = append(o.Names, name)
		}
	}
	return o
}

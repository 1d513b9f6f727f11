package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"serve/certs"
	"serve/egress"
	"serve/hub"
)

// Connector reaches servers. It verifies each: one of the registry by the fingerprint of its certificate, which only
// the user that runs the server can have written, and any other by the authorities.
type Connector struct {
	Network hub.Options // how other machines are reached, and the authorities; Offline allows servers of this machine
	// CertFile is a PEM file with the certificate, and its key, by which servers identify the user; "" for none.
	CertFile string
}

// Error is a server that cannot be used, and what to do about it. Its Kind is the cause.
type Error = hub.Error

// Transport returns a transport to a server, to which requests with the key will be sent. No proxy is used for a server
// on this machine. The error is about what the user has given.
func (c *Connector) Transport(s Server, key Key) (*http.Transport, error) {
	u, err := ParseURL(s.URL)
	if err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	local := s.PID != 0 || IsLocal(u)
	if c.Network.Offline && !local {
		return nil, fmt.Errorf("--url %q is on another machine, which --offline forbids", s.URL)
	}
	if key.Secret != "" && !key.Plain && !local && u.Scheme != "https" {
		return nil, &Error{
			Text: fmt.Sprintf("networks between here and %s could read the API key, which http does not encrypt", u.Host),
			Todo: "use https://, or --plain-api-key; if the server needs no key, unset SERVE_API_KEY or OPENAI_API_KEY",
		}
	}

	network := c.Network
	network.Offline = false // what that forbids was refused above
	way := egress.NewWay("server", "asks a server, for serve chat, ps and bench").Allow("the address of a server", s.URL)
	made, err := hub.Transport(network, way)
	if err != nil {
		return nil, err
	}
	t := made.(*http.Transport)
	if local {
		t.Proxy = nil
	}
	if s.Fingerprint != "" {
		pin(t.TLSClientConfig, s.Fingerprint)
	}
	return t, c.identify(t.TLSClientConfig)
}

// pin has a client accept the certificate with a fingerprint, and no other. Names and dates do not matter: the server
// on this machine that is meant has told its certificate itself.
func pin(config *tls.Config, fingerprint string) {
	config.InsecureSkipVerify = true // VerifyConnection verifies instead
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 || certs.Fingerprint(state.PeerCertificates[0]) != fingerprint {
			return errors.New("the server's certificate is not the one that it has registered")
		}
		return nil
	}
}

// identify adds the user's certificate.
func (c *Connector) identify(config *tls.Config) error {
	if c.CertFile == "" {
		return nil
	}
	text, err := os.ReadFile(c.CertFile)
	if err != nil {
		return fmt.Errorf("--client-cert: cannot read %s: %w", c.CertFile, hub.Cause(err))
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return &Error{
			Text: fmt.Sprintf("--client-cert: %s cannot be used: %s", c.CertFile, strings.TrimPrefix(err.Error(), "tls: ")),
			Todo: "it must be a PEM file with your certificate and its key, without a passphrase",
			Kind: err,
		}
	}
	config.Certificates = []tls.Certificate{pair}
	return nil
}

// Explain describes why a server could not be asked.
func Explain(s Server, err error) error {
	var asked *url.Error
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "dial":
		return &Error{
			Text: fmt.Sprintf("no server answers at %s (%v)", s.URL, hub.Cause(op)),
			Todo: "start one with serve MODEL",
			Kind: err,
		}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Text: fmt.Sprintf("the server at %s did not respond in time", s.URL), Kind: err}
	case errors.As(err, &asked):
		err = asked.Err // without the URL again
	}
	return &Error{Text: fmt.Sprintf("the server at %s cannot be used: %v", s.URL, err), Todo: HintOf(err), Kind: err}
}

// HintOf says what to do about an error of a connection with TLS; "" if it is none.
func HintOf(err error) string {
	var unverified *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.As(err, &unverified):
		return "--ca-file names the certificates to trust; a server with --tls-self-signed prints the file when it starts"
	case errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Error(), "certificate"):
		return "the server wants a certificate of its clients: --client-cert names yours"
	}
	return ""
}

// Package certs keeps the certificate of a server: it reads the files, refuses those that no client would accept or
// that others can read, loads them again when they change, and makes a self-signed certificate for a lab. It also
// names the clients that identify themselves with a certificate.
package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"serve/hub"
)

// Options say which certificate a server has. The zero value is a server without TLS.
type Options struct {
	CertFile   string // PEM file: the server's certificate, then those of the authorities between it and the root
	KeyFile    string // PEM file: the key of the certificate
	SelfSigned bool   // make a certificate, instead of the files
	ClientCA   string // PEM file: the authorities of clients' certificates, which are required; "" asks for none

	Folder string   // where the self-signed certificate is kept
	Names  []string // names and addresses that the self-signed certificate must be valid for
	Also   []string // those that it is valid for as well if it is made anew

	Now func() time.Time // time.Now
	Log *slog.Logger     // slog.Default()
}

// Enabled reports whether the server uses TLS.
func (o *Options) Enabled() bool { return o.SelfSigned || o.CertFile != "" }

// Check returns an error if options contradict each other.
func (o *Options) Check() error {
	switch {
	case o.SelfSigned && (o.CertFile != "" || o.KeyFile != ""):
		return &Error{
			Text: "--tls-self-signed and --tls-cert contradict each other",
			Todo: "leave one of them out",
		}
	case (o.CertFile == "") != (o.KeyFile == ""):
		return &Error{
			Text: "--tls-cert and --tls-key belong together",
			Todo: "give both files, or --tls-self-signed for a lab",
		}
	case o.ClientCA != "" && !o.Enabled():
		return &Error{
			Text: "--tls-client-ca needs TLS",
			Todo: "give --tls-cert and --tls-key, or --tls-self-signed",
		}
	}
	return nil
}

// Error is a certificate that cannot be used, and what to do about it. Its Kind is the cause.
type Error = hub.Error

// Certificate is the certificate of a server. Its methods may be called at the same time, except Watch.
type Certificate struct {
	options Options
	current atomic.Pointer[material]
	watch   watch
}

// material is what a server has loaded.
type material struct {
	leaf   *x509.Certificate
	config *tls.Config
}

// Open loads a server's certificate, and makes it if it is to be self-signed. The options must be enabled.
func Open(o Options) (*Certificate, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := o.Check(); err != nil {
		return nil, err
	}

	if o.SelfSigned {
		if err := ensureSelfSigned(&o); err != nil {
			return nil, err
		}
	}
	s := &Certificate{options: o}
	s.watch.loaded = s.stamps()
	loaded, err := s.load()
	if err != nil {
		return nil, err
	}
	s.current.Store(loaded)
	return s, nil
}

// Config returns the configuration of connections. Each handshake uses the certificate that is loaded then.
func (s *Certificate) Config() *tls.Config {
	c := base()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current.Load().config, nil }
	return c
}

// Fingerprint returns the SHA-256 of the certificate, as openssl x509 -fingerprint writes it.
func (s *Certificate) Fingerprint() string { return Fingerprint(s.current.Load().leaf) }

// Ends returns when the certificate ends.
func (s *Certificate) Ends() time.Time { return s.current.Load().leaf.NotAfter }

// Names returns the names that the certificate is valid for, without patterns: who else has a name that matches a
// pattern could have it lead to this server.
func (s *Certificate) Names() []string {
	pattern := func(name string) bool { return strings.Contains(name, "*") }
	return slices.DeleteFunc(slices.Clone(s.current.Load().leaf.DNSNames), pattern)
}

// CAFile returns the file with which clients verify a self-signed certificate; "" if it is none.
func (s *Certificate) CAFile() string {
	if !s.options.SelfSigned {
		return ""
	}
	return publicFile(s.options.Folder)
}

// Fingerprint returns the SHA-256 of a certificate: pairs of hexadecimal digits with colons between them.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}

// base returns the configuration that is common to all certificates: TLS 1.3, and of TLS 1.2 only the suites
// with forward secrecy and authenticated encryption.
func base() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"h2", "http/1.1"},
	}
}

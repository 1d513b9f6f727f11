package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"serve/hub"
)

// maxFile is how large a file of certificates may be, in bytes: the authorities of a large company take some hundred
// KiB.
const maxFile = 4 << 20

// othersAccess are the permissions of users who are neither the owner nor in the group.
const othersAccess fs.FileMode = 0o007

// load reads the files.
func (s *Certificate) load() (*material, error) {
	o := &s.options
	pair, err := loadPair(o.CertFile, o.KeyFile, o.Now())
	if err != nil {
		return nil, err
	}

	c := base()
	c.Certificates = []tls.Certificate{*pair}
	if o.ClientCA != "" {
		c.ClientCAs, err = loadAuthorities(o.ClientCA, o.Now())
		if err != nil {
			return nil, err
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
		// A resumed session would not be verified against authorities that have been removed since.
		c.SessionTicketsDisabled = true
	}
	return &material{leaf: pair.Leaf, config: c}, nil
}

// loadPair reads a certificate and its key, and checks what would make clients refuse them.
func loadPair(certFile, keyFile string, now time.Time) (*tls.Certificate, error) {
	certificates, err := read("--tls-cert", certFile, false)
	if err != nil {
		return nil, err
	}
	key, err := read("--tls-key", keyFile, true)
	if err != nil {
		return nil, err
	}

	pair, err := tls.X509KeyPair(certificates, key)
	if err != nil {
		return nil, &Error{
			Text: fmt.Sprintf("the certificate in %s and the key in %s cannot be used together: %s",
				certFile, keyFile, strings.TrimPrefix(err.Error(), "tls: ")),
			Todo: "--tls-cert must be a PEM file with the server's own certificate first, and --tls-key the PEM file of its " +
				"key, without a passphrase",
			Kind: err,
		}
	}

	for i, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, &Error{
				Text: fmt.Sprintf("certificate %d in %s cannot be read: %v", i+1, certFile, err),
				Todo: "have it issued again",
				Kind: err,
			}
		}
		if err := checkTime("the certificate of "+nameOf(c)+" in "+certFile, c, now); err != nil {
			return nil, err
		}
	}
	return &pair, nil
}

// checkTime returns an error unless a certificate is valid now.
func checkTime(what string, c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return &Error{
			Text: fmt.Sprintf("%s ended on %s", what, c.NotAfter.UTC().Format(time.RFC1123)),
			Todo: "have it renewed",
		}
	case now.Before(c.NotBefore):
		return &Error{
			Text: fmt.Sprintf("%s begins on %s", what, c.NotBefore.UTC().Format(time.RFC1123)),
			Todo: "check this machine's clock, or have it issued again",
		}
	}
	return nil
}

// nameOf returns a name of a certificate for messages.
func nameOf(c *x509.Certificate) string {
	switch {
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case c.Subject.String() != "":
		return c.Subject.String()
	}
	return "serial number " + c.SerialNumber.String()
}

// loadAuthorities reads the authorities of clients' certificates. Those that have ended stay in the file for as long
// as others are valid: they verify nothing.
func loadAuthorities(file string, now time.Time) (*x509.CertPool, error) {
	text, err := read("--tls-client-ca", file, false)
	if err != nil {
		return nil, err
	}

	pool := x509.NewCertPool()
	var last error
	valid := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, &Error{
				Text: fmt.Sprintf("--tls-client-ca: a certificate in %s cannot be read: %v", file, err),
				Todo: "remove it, or have it issued again",
				Kind: err,
			}
		}
		pool.AddCert(c)
		last = checkTime("--tls-client-ca: the certificate of "+nameOf(c)+" in "+file, c, now)
		if last == nil {
			valid++
		}
	}

	switch {
	case valid > 0:
		return pool, nil
	case last != nil:
		return nil, last
	}
	return nil, &Error{
		Text: fmt.Sprintf("--tls-client-ca: %s contains no PEM certificate", file),
		Todo: "give the certificates of the authorities that sign those of clients, as PEM",
	}
}

// read reads a file of a flag. One that is private must not be accessible to everyone.
func read(flag, path string, private bool) ([]byte, error) {
	fail := func(err error) error {
		return &Error{
			Text: fmt.Sprintf("%s: cannot read %s: %v", flag, path, hub.Cause(err)),
			Todo: "the file must exist and be readable for the user that serve runs as",
			Kind: err,
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fail(err)
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return nil, fail(err)
	}
	if private && info.Mode()&othersAccess != 0 {
		return nil, &Error{
			Text: fmt.Sprintf("%s: every user of this machine may use the key in %s (mode %04o)",
				flag, path, info.Mode().Perm()),
			Todo: "chmod 600 " + path + ", or 640 with a group of its own; in Kubernetes, set the volume's defaultMode to 0400",
		}
	}

	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = errors.New("it is larger than 4 MiB")
	}
	if err != nil {
		return nil, fail(err)
	}
	return text, nil
}

// Package certstest issues certificates for tests.
package certstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

// Subject is what a certificate says. The zero value is a server on this machine, valid for a day.
type Subject struct {
	CommonName string
	Names      []string // localhost, unless any of the four is given
	Addresses  []net.IP // 127.0.0.1, likewise
	URIs       []string
	Emails     []string

	Begin, End time.Time // an hour ago, and in a day
}

// Pair is a certificate and its key, as PEM.
type Pair struct {
	Certificate []byte
	Key         []byte
}

// New returns an authority.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, next: 1}
	a.key = a.newKey()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-24 * time.Hour),
		NotAfter:              time.Now().Add(10 * 365 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	a.cert = a.sign(template, template, a.key)
	return a
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *Authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// PEM returns the authority's own certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// Pool returns a pool of the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Issue returns a certificate for servers and clients.
func (a *Authority) Issue(s Subject) Pair {
	a.t.Helper()
	a.next++
	template := &x509.Certificate{
		SerialNumber:   big.NewInt(a.next),
		Subject:        pkix.Name{CommonName: s.CommonName},
		NotBefore:      s.Begin,
		NotAfter:       s.End,
		DNSNames:       s.Names,
		IPAddresses:    s.Addresses,
		EmailAddresses: s.Emails,
		KeyUsage:       x509.KeyUsageDigitalSignature,
		ExtKeyUsage:    []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if s.Begin.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if s.End.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if s.CommonName == "" && len(s.Names)+len(s.Addresses)+len(s.URIs)+len(s.Emails) == 0 {
		template.DNSNames = []string{"localhost"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	for _, text := range s.URIs {
		u, err := url.Parse(text)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}

	key := a.newKey()
	c := a.sign(template, a.cert, key)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

// TLS returns the pair for a tls.Config.
func (p Pair) TLS(t testing.TB) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(p.Certificate, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Write writes the pair to two files of a folder, which it replaces.
func (p Pair) Write(t testing.TB, folder, name string) (certificate, key string) {
	t.Helper()
	return Write(t, folder, name+".pem", p.Certificate), Write(t, folder, name+"-key.pem", p.Key)
}

// Write replaces a file that only its owner may read, and returns its path.
func Write(t testing.TB, folder, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"serve/hub"
)

const (
	selfSignedLife = 365 * 24 * time.Hour
	renewBefore    = 30 * 24 * time.Hour
	clockSkew      = time.Hour // between this machine and its clients
	maxNames       = 64        // of a self-signed certificate
)

// privateFile returns the file with the self-signed certificate and its key: one file, so that they belong together
// whoever writes it.
func privateFile(folder string) string { return filepath.Join(folder, "self-signed-key.pem") }

// publicFile returns the file with the self-signed certificate alone, for clients.
func publicFile(folder string) string { return filepath.Join(folder, "self-signed.pem") }

// ensureSelfSigned makes a self-signed certificate, unless there is one that is valid for the names and for a while.
// It sets the options' files.
func ensureSelfSigned(o *Options) error {
	path := privateFile(o.Folder)
	o.CertFile = path
	o.KeyFile = path
	old := readSelfSigned(path)
	if old == nil || !isCurrent(old, o.Names, o.Now()) {
		text, err := makeSelfSigned(o, old)
		if err != nil {
			return fmt.Errorf("make a self-signed certificate: %w", err)
		}
		if err := hub.WriteFile(path, text, 0o600); err != nil {
			return cannotKeep(path, err)
		}
	}
	return publish(o.Folder)
}

// publish writes the certificate without its key to the file for clients.
func publish(folder string) error {
	text, err := read("--tls-self-signed", privateFile(folder), true)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text) // the certificate is in front
	if block == nil {
		return cannotKeep(folder, fmt.Errorf("it contains no certificate"))
	}

	public := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})
	path := publicFile(folder)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, public) {
		return nil
	}
	if err := hub.WriteFile(path, public, 0o644); err != nil {
		return cannotKeep(path, err)
	}
	return nil
}

func cannotKeep(path string, err error) error {
	return &Error{
		Text: fmt.Sprintf("the self-signed certificate cannot be kept in %s: %v", path, hub.Cause(err)),
		Todo: "make the folder writable, set SERVE_HOME to another one, or give --tls-cert and --tls-key",
		Kind: err,
	}
}

// readSelfSigned returns the certificate in a file; nil if there is none that can be used.
func readSelfSigned(path string) *x509.Certificate {
	text, err := read("--tls-self-signed", path, true)
	if err != nil {
		return nil
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil
	}
	return pair.Leaf
}

// isCurrent reports whether a certificate is valid for names, and need not be renewed yet.
func isCurrent(c *x509.Certificate, names []string, now time.Time) bool {
	if now.Before(c.NotBefore) || now.After(c.NotAfter.Add(-renewBefore)) {
		return false
	}
	have := namesOf(c)
	return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(have, canonical(name)) })
}

// namesOf returns the names and addresses of a certificate.
func namesOf(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// canonical returns a name as certificates have it.
func canonical(name string) string {
	if ip := net.ParseIP(name); ip != nil {
		return ip.String()
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// selfSignedNames returns the names of a new certificate: those that it must have, those that are useful now, and
// those of the old one, as far as there is room.
func selfSignedNames(o *Options, old *x509.Certificate) (names []string) {
	list := append(slices.Clone(o.Names), o.Also...)
	if old != nil {
		list = append(list, namesOf(old)...)
	}
	for _, name := range list {
		if name = canonical(name); name != "" && !slices.Contains(names, name) && len(names) < maxNames {
			names = append(names, name)
		}
	}
	return names
}

// makeSelfSigned returns a certificate and its key as PEM. It is no authority: whoever trusts it trusts its names, and
// nothing that its key could sign.
func makeSelfSigned(o *Options, old *x509.Certificate) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}

	id := sha256.Sum256(public)
	now := o.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "serve, self-signed"},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(selfSignedLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		// Strict clients, such as Python's, look for both.
		SubjectKeyId:   id[:20],
		AuthorityKeyId: id[:20],
	}
	for _, name := range selfSignedNames(o, old) {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), nil
}

// LocalAddresses returns the addresses by which other machines reach a server that listens on all addresses of this
// one.
func LocalAddresses() (addresses []string) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the certificate is made without them
	}
	for _, a := range list {
		network, ok := a.(*net.IPNet)
		if ok && network.IP.IsGlobalUnicast() {
			addresses = append(addresses, network.IP.String())
		}
	}
	return addresses
}

package oms

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Trust says whose signatures hold: those of the keys, and those of certificates of the authorities.
type Trust struct {
	Keys  []*ecdsa.PublicKey
	Roots *x509.CertPool // nil for no authority
	Now   time.Time      // when certificates must be valid; the zero value is now
}

// Signer is who has signed.
type Signer struct {
	Key   string   // the key's fingerprint
	Names []string // those in the signer's certificate; nil if it was verified by its key
}

// Is returns an error unless a name is in the signer's certificate. "" is everybody.
func (s *Signer) Is(name string) error {
	if name == "" || slices.Contains(s.Names, name) {
		return nil
	}
	return fmt.Errorf("%w: it is one of %s, not of %s", ErrSignature, strings.Join(s.Names, ", "), name)
}

// Verify returns what was signed, and by whom, if the signature holds.
func (s *Signature) Verify(t Trust) (*Manifest, *Signer, error) {
	var key *ecdsa.PublicKey
	var signer *Signer
	var err error
	switch m := s.material; {
	case m.Keyless != nil:
		err = fmt.Errorf("%w: it was made without a key, by Sigstore's public services (keyless); "+
			"serve verifies signatures by a key or a certificate", ErrSignature)
	case m.Chain != nil:
		key, signer, err = t.certified(m.Chain)
	default:
		key, signer, err = t.keyOf(s)
	}
	if err != nil {
		return nil, nil, err
	}
	if !s.isBy(key) {
		return nil, nil, fmt.Errorf("%w: it is not one of the key %s", ErrSignature, signer.Key)
	}

	m, err := readStatement(s.payload)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return m, signer, nil
}

// isBy reports whether a key made the signature.
func (s *Signature) isBy(key *ecdsa.PublicKey) bool {
	return ecdsa.VerifyASN1(key, digest(key, signedText(s.payload)), s.signature)
}

// keyOf returns which of the trusted keys made a signature. The bundle's hint is for the message alone.
func (t *Trust) keyOf(s *Signature) (*ecdsa.PublicKey, *Signer, error) {
	if len(t.Keys) == 0 {
		return nil, nil, fmt.Errorf("%w: it was made with a key, and no key is trusted", ErrSignature)
	}
	for _, key := range t.Keys {
		if checkCurve(key) == nil && s.isBy(key) {
			return key, &Signer{Key: Fingerprint(key)}, nil
		}
	}
	with := ""
	if hint := s.material.PublicKey.Hint; hint != "" {
		with = fmt.Sprintf(" but, as it says, with %.64q", hint)
	}
	return nil, nil, fmt.Errorf("%w: it was not made with a key that is trusted%s", ErrSignature, with)
}

// certified returns the key of a certificate that an authority has issued for signing.
func (t *Trust) certified(c *chain) (*ecdsa.PublicKey, *Signer, error) {
	if t.Roots == nil {
		return nil, nil, fmt.Errorf("%w: it was made with a certificate, and no authority is trusted", ErrSignature)
	}
	if n := len(c.Certificates); n == 0 || n > 16 {
		return nil, nil, fmt.Errorf("%w: it has %d certificates", ErrSignature, n)
	}

	var certs []*x509.Certificate
	between := x509.NewCertPool()
	for _, raw := range c.Certificates {
		cert, err := x509.ParseCertificate(raw.DER)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: a certificate in it: %w", ErrSignature, err)
		}
		certs = append(certs, cert)
		between.AddCert(cert)
	}

	leaf := certs[0]
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || checkCurve(key) != nil {
		return nil, nil, fmt.Errorf("%w: the certificate's key is not of P-256, P-384 or P-521", ErrSignature)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots:         t.Roots,
		Intermediates: between,
		CurrentTime:   t.Now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return nil, nil, fmt.Errorf("%w: the signer's certificate: %w", ErrSignature, err)
	}
	if !signs(leaf) {
		return nil, nil, fmt.Errorf("%w: the signer's certificate is not for signing", ErrSignature)
	}
	return key, &Signer{Key: Fingerprint(key), Names: names(leaf)}, nil
}

// signs reports whether a certificate is for signatures.
func signs(c *x509.Certificate) bool {
	return c.KeyUsage&x509.KeyUsageDigitalSignature != 0 || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning)
}

// names returns the names in a certificate.
func names(c *x509.Certificate) []string {
	list := []string{}
	for _, u := range c.URIs {
		list = append(list, u.String())
	}
	list = append(list, c.DNSNames...)
	list = append(list, c.EmailAddresses...)
	if c.Subject.CommonName != "" {
		list = append(list, c.Subject.CommonName)
	}
	return list
}

// checkCurve refuses keys that OMS does not have.
func checkCurve(key *ecdsa.PublicKey) error {
	if !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, key.Curve) {
		return fmt.Errorf("the key is of %s; models are signed with P-256, P-384 or P-521", key.Params().Name)
	}
	return nil
}

// digest hashes a text as it is signed with a key: by the size of its curve.
func digest(key *ecdsa.PublicKey, text []byte) []byte {
	switch key.Curve {
	case elliptic.P384():
		sum := sha512.Sum384(text)
		return sum[:]
	case elliptic.P521():
		sum := sha512.Sum512(text)
		return sum[:]
	}
	sum := sha256.Sum256(text)
	return sum[:]
}

// Fingerprint identifies a key, as bundles do: the SHA-256 of its PEM file.
func Fingerprint(key *ecdsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "" // of another curve
	}
	sum := sha256.Sum256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return hex.EncodeToString(sum[:])
}

// ReadPrivateKey reads the key to sign with from a PEM file.
func ReadPrivateKey(name string) (*ecdsa.PrivateKey, error) {
	block, err := readPEM(name)
	if err != nil {
		return nil, err
	}
	var parsed any
	switch block.Type {
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, fmt.Errorf("%s is encrypted; openssl pkey -in %s removes its password", name, name)
	default:
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", name, err)
	}

	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not a private key of P-256, P-384 or P-521", name)
	}
	if err := checkCurve(&key.PublicKey); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

// ReadPublicKey reads a key to trust from a PEM file.
func ReadPublicKey(name string) (*ecdsa.PublicKey, error) {
	block, err := readPEM(name)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", name, err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s is not a public key of P-256, P-384 or P-521", name)
	}
	if err := checkCurve(key); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

// readPEM returns the first block of a PEM file that is not about a curve's parameters.
func readPEM(name string) (*pem.Block, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("%s is not a PEM file of a key", name)
		}
		if block.Type != "EC PARAMETERS" { // openssl ecparam writes them first
			return block, nil
		}
		text = rest
	}
}

// ReadCertificates reads all certificates of a PEM file, of which there is at least one.
func ReadCertificates(name string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the certificates: %w", err)
	}

	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, cert)
	}

	if len(list) == 0 {
		return nil, errors.New(name + " has no certificate")
	}
	return list, nil
}

// ReadRoots reads the authorities to trust from a PEM file.
func ReadRoots(name string) (*x509.CertPool, error) {
	certs, err := ReadCertificates(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

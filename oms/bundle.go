// Package oms makes and verifies signatures of models, in the format of OpenSSF Model Signing (OMS) v1.0:
// a Sigstore bundle, with a DSSE envelope, with an in-toto statement that lists the files of a model and their
// hashes. https://github.com/ossf/model-signing-spec
package oms

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// ErrSignature means that a model is not signed as it must be.
var ErrSignature = errors.New("the signature does not hold")

// MaxSize is the size of the largest signature that is read. A model of 10,000 files has one of 2 MB.
const MaxSize = 16 << 20

// The formats that OMS is made of.
const (
	mediaType     = "application/vnd.dev.sigstore.bundle.v0.3+json"
	payloadType   = "application/vnd.in-toto+json"
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://model_signing/signature/v1.0"
	// olderType is of 2024, without a list of what is not signed.
	olderType = "https://model_signing/Digests/v0.1"
)

// bundle is a Sigstore bundle.
type bundle struct {
	MediaType string    `json:"mediaType"`
	Material  material  `json:"verificationMaterial"`
	Envelope  *envelope `json:"dsseEnvelope"`
}

// material says by what a signature is verified: one of the three is there.
type material struct {
	PublicKey *publicKey   `json:"publicKey,omitempty"`
	Chain     *chain       `json:"x509CertificateChain,omitempty"`
	Keyless   *certificate `json:"certificate,omitempty"`
}

type publicKey struct {
	Hint string `json:"hint,omitempty"` // SHA-256 of the key, as PEM; signers before 1.1 gave the key instead
}

type chain struct {
	Certificates []certificate `json:"certificates"` // the signer's first
}

type certificate struct {
	DER []byte `json:"rawBytes"`
}

// envelope is a DSSE envelope.
type envelope struct {
	Payload     []byte `json:"payload"`
	PayloadType string `json:"payloadType"`
	Signatures  []struct {
		Signature []byte `json:"sig"`
	} `json:"signatures"`
}

// signedText returns what is signed of an envelope: DSSE's pre-authentication encoding.
func signedText(payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// statement is an in-toto statement with OMS's predicate.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	Resources     []Resource     `json:"resources"`
	Serialization *Serialization `json:"serialization"`
}

// Resource is a file of a model, or a part of one, and its hash.
type Resource struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	Digest    string `json:"digest"` // hexadecimal
}

// Serialization says how the files of a model became resources.
type Serialization struct {
	Method        string   `json:"method"`
	HashType      string   `json:"hash_type"`
	ShardSize     integer  `json:"shard_size,omitempty"` // in bytes; 0 for whole files
	AllowSymlinks bool     `json:"allow_symlinks"`
	IgnorePaths   []string `json:"ignore_paths,omitempty"`
}

// integer is a number that other programs write with a point.
type integer int64

// UnmarshalJSON implements json.Unmarshaler.
func (i *integer) UnmarshalJSON(text []byte) error {
	var f float64
	if err := json.Unmarshal(text, &f); err != nil {
		return err
	}
	if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return fmt.Errorf("%s is not a whole number", text)
	}
	*i = integer(f)
	return nil
}

// Signature is a signature that was read, and not yet verified.
type Signature struct {
	material  material
	payload   []byte
	signature []byte
}

// ReadFile reads a signature from a file.
func ReadFile(name string) (*Signature, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the signature: %w", err)
	}
	defer f.Close()
	s, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// Read reads a signature.
func Read(r io.Reader) (*Signature, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the signature: %w", err)
	}
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%w: it is larger than %d MiB", ErrSignature, MaxSize>>20)
	}
	var b bundle
	if err := unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("%w: the file is not a Sigstore bundle: %w", ErrSignature, err)
	}
	return b.open()
}

// unmarshal reads a JSON value with nothing after it.
func unmarshal(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON value")
	}
	return nil
}

// open checks the form of a bundle.
func (b *bundle) open() (*Signature, error) {
	switch {
	case b.MediaType != mediaType:
		return nil, fmt.Errorf("%w: the file is a bundle of type %q, not %s", ErrSignature, b.MediaType, mediaType)
	case b.Envelope == nil:
		return nil, fmt.Errorf("%w: the bundle has no DSSE envelope", ErrSignature)
	case b.Envelope.PayloadType != payloadType:
		return nil, fmt.Errorf("%w: its payload is of type %q, not %s", ErrSignature, b.Envelope.PayloadType, payloadType)
	case len(b.Envelope.Signatures) != 1:
		return nil, fmt.Errorf("%w: the bundle has %d signatures instead of one", ErrSignature, len(b.Envelope.Signatures))
	}

	methods := 0
	for _, there := range []bool{b.Material.PublicKey != nil, b.Material.Chain != nil, b.Material.Keyless != nil} {
		if there {
			methods++
		}
	}
	if methods != 1 {
		return nil, fmt.Errorf("%w: the bundle says in %d ways who signed it", ErrSignature, methods)
	}

	s := &Signature{
		material:  b.Material,
		payload:   b.Envelope.Payload,
		signature: b.Envelope.Signatures[0].Signature,
	}
	return s, nil
}

// Identity is what a signature is made with: a key, and its certificate if it has one, followed by those between it
// and the root.
type Identity struct {
	Key   *ecdsa.PrivateKey
	Chain []*x509.Certificate
}

// Sign returns a signature of a manifest, as a file.
func (id Identity) Sign(m *Manifest) ([]byte, error) {
	if err := checkCurve(&id.Key.PublicKey); err != nil {
		return nil, err
	}
	b := bundle{MediaType: mediaType}
	if len(id.Chain) == 0 {
		b.Material.PublicKey = &publicKey{Hint: Fingerprint(&id.Key.PublicKey)}
	} else {
		if !id.Key.PublicKey.Equal(id.Chain[0].PublicKey) {
			return nil, errors.New("the first certificate is not for the key")
		}
		b.Material.Chain = new(chain)
		for _, c := range id.Chain {
			b.Material.Chain.Certificates = append(b.Material.Chain.Certificates, certificate{DER: c.Raw})
		}
	}

	payload, err := json.Marshal(m.statement())
	if err != nil {
		return nil, err
	}
	signature, err := ecdsa.SignASN1(rand.Reader, id.Key, digest(&id.Key.PublicKey, signedText(payload)))
	if err != nil {
		return nil, err
	}
	b.Envelope = &envelope{Payload: payload, PayloadType: payloadType}
	b.Envelope.Signatures = append(b.Envelope.Signatures, struct {
		Signature []byte `json:"sig"`
	}{signature})
	text, err := json.Marshal(&b)
	return append(text, '\n'), err
}

package models

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"serve/hub"
)

// ReadPrivateKey reads the key to sign bundles with from a PEM file; nil if name is empty.
func ReadPrivateKey(name string) (ed25519.PrivateKey, error) {
	key, err := readKey(name, x509.ParsePKCS8PrivateKey)
	if key == nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 private key", name)
	}
	return private, nil
}

// ReadPublicKey reads the key to verify bundles with from a PEM file; nil if name is empty.
func ReadPublicKey(name string) (ed25519.PublicKey, error) {
	key, err := readKey(name, x509.ParsePKIXPublicKey)
	if key == nil {
		return nil, err
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an Ed25519 public key", name)
	}
	return public, nil
}

// readKey parses the only PEM block of a file; nil if name is empty.
func readKey(name string, parse func([]byte) (any, error)) (any, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the key %s: %w", name, hub.Cause(err))
	}

	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not a PEM file", name)
	}
	key, err := parse(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", name, err)
	}
	return key, nil
}

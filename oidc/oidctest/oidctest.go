// Package oidctest is an OpenID Connect provider for tests.
package oidctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Audience is whom the tokens are for.
const Audience = "serve"

// Provider is a provider with one key at a time.
type Provider struct {
	URL string // of the issuer; "" without a network
	t   testing.TB

	mu      sync.Mutex
	number  int
	key     jose.JSONWebKey // private
	public  []jose.JSONWebKey
	fetched int
	down    bool
}

// New returns a provider that listens until the test ends.
func New(t testing.TB) *Provider {
	p := &Provider{t: t}
	p.Rotate()
	hs := httptest.NewServer(p)
	t.Cleanup(hs.Close)
	p.URL = hs.URL
	return p
}

// Offline returns a provider without a network.
func Offline(t testing.TB, issuer string) *Provider {
	p := &Provider{t: t, URL: issuer}
	p.Rotate()
	return p
}

// Rotate gives the provider another key, which it publishes in place of those before.
func (p *Provider) Rotate() {
	p.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	p.key = jose.JSONWebKey{
		Key:       private,
		KeyID:     fmt.Sprint("key-", p.number),
		Algorithm: string(jose.ES256),
		Use:       "sig",
	}
	p.public = []jose.JSONWebKey{p.key.Public()}
}

// Publish has the provider publish other keys, too.
func (p *Provider) Publish(keys ...jose.JSONWebKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.public = append(p.public, keys...)
}

// Fail has the provider answer nothing of use, or end that.
func (p *Provider) Fail(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// Fetched returns how often the keys were fetched.
func (p *Provider) Fetched() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetched
}

// Key returns the provider's private key.
func (p *Provider) Key() jose.JSONWebKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.key
}

// set returns the published keys. The caller holds the mutex.
func (p *Provider) set() []byte {
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: p.public})
	if err != nil {
		p.t.Error(err)
	}
	return text
}

// Write writes the keys to a file, and returns its path.
func (p *Provider) Write(dir string) string {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	path := filepath.Join(dir, "jwks.json")
	if err := os.WriteFile(path, p.set(), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// ServeHTTP implements http.Handler.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/.well-known/openid-configuration":
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.URL, p.URL+"/keys")
	case r.URL.Path == "/keys":
		p.fetched++
		_, _ = w.Write(p.set())
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// Claims are what a token says.
type Claims = map[string]any

// Token returns a token for a subject that is valid for an hour, with other claims added or in the place of these. One
// that is nil is left out.
func (p *Provider) Token(subject string, others Claims) string {
	p.t.Helper()
	c := Claims{
		"iss": p.URL,
		"aud": Audience,
		"sub": subject,
		"iat": time.Now().Unix(),
		"exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(c, others)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	key := p.Key()
	return Sign(p.t, jose.SigningKey{Algorithm: jose.ES256, Key: key}, c, nil)
}

// Sign signs claims, with headers.
func Sign(t testing.TB, key jose.SigningKey, c Claims, headers map[jose.HeaderKey]any) string {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(key, &jose.SignerOptions{ExtraHeaders: headers})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// KeyVariable is the environment variable of the API key for servers.
const KeyVariable = "SERVE_API_KEY"

// maxKey bounds the size of a key, in bytes.
const maxKey = 4096

// Key is an API key for servers. The zero value is none.
type Key struct {
	Secret string
	// Plain says that it may be sent without encryption to another machine.
	Plain bool
}

// ReadKey reads a key from a file, or else from the environment.
func ReadKey(file string, lookup func(string) string) (Key, error) {
	if file == "" {
		return newKey(lookup(KeyVariable), KeyVariable)
	}
	f, err := os.Open(file)
	if err != nil {
		return Key{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return Key{}, err
	}
	return newKey(string(text), file)
}

// newKey checks a key, which is not part of the error.
func newKey(text, source string) (Key, error) {
	secret := strings.TrimSpace(text)
	if len(secret) > maxKey || strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Key{}, fmt.Errorf("what %s has is not an API key", source)
	}
	return Key{Secret: secret}, nil
}

// Or returns the key, or if there is none another secret.
func (k Key) Or(secret string) Key {
	if k.Secret == "" {
		k.Secret = secret
	}
	return k
}

// Check returns an error if the key must not be sent to a server, because others on the way could read it.
func (k Key) Check(u *url.URL) error {
	if k.Secret == "" || k.Plain || u.Scheme == "https" || IsLocal(u) {
		return nil
	}
	return fmt.Errorf("the API key is not sent to %s without encryption: use https, or --plain-api-key", u.Host)
}

// Transport returns a transport that sends the key with every request to one server, and with none to another: not
// along redirects.
func (k Key) Transport(u *url.URL, base http.RoundTripper) http.RoundTripper {
	if k.Secret == "" {
		return base
	}
	return &keyed{key: k, scheme: u.Scheme, host: u.Host, base: base}
}

// keyed is a transport that sends a key to one server.
type keyed struct {
	key          Key
	scheme, host string
	base         http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	own := r.Clone(r.Context())
	own.Header.Del("Authorization")
	if r.URL.Scheme == t.scheme && strings.EqualFold(r.URL.Host, t.host) {
		own.Header.Set("Authorization", "Bearer "+t.key.Secret)
	}
	return t.base.RoundTrip(own)
}

// ErrKey means that a server wants a key, or one that may do more.
var ErrKey = errors.New("the server needs an API key with the scope metrics: set SERVE_API_KEY or --api-key-file")

package registry

import (
	"errors"
	"fmt"
	"io"
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
	// Plain says that it may be sent without encryption to another machine: Client.Transport refuses it otherwise.
	Plain bool
}

// ReadKey reads a key from a file, which must have one, or else from the environment.
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
	k, err := newKey(string(text), file)
	if err == nil && k.Secret == "" {
		err = fmt.Errorf("%s has no API key", file)
	}
	return k, err
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

// ErrKey means that a server wants a key, or one that may do more.
var ErrKey = errors.New("the server needs an API key with the scope metrics: set SERVE_API_KEY or --api-key-file")

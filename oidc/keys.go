package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"serve/egress"
)

// How often keys are looked at.
const (
	refreshEvery = time.Hour        // those of a provider: keys that it has withdrawn are not accepted for longer
	againAfter   = 30 * time.Second // after which a key that is not known has them fetched again
	fileEvery    = time.Second      // those of a file, in any case
	longest      = 24 * time.Hour   // for which keys are used while the provider cannot be reached
	fetchTime    = 10 * time.Second // that a provider has to answer
)

// Bounds of what a provider says.
const (
	maxDocument = 1 << 20 // bytes
	maxKeys     = 64
)

// keySet is the keys of a provider.
type keySet struct {
	opts    *Options
	every   time.Duration
	again   time.Duration
	fetches sync.Mutex // held while they are fetched

	mu    sync.Mutex // guards what follows
	keys  []jose.JSONWebKey
	known time.Time // when they were fetched last
	tried time.Time
	said  string // the error that was logged last
}

func newKeySet(o *Options) *keySet {
	k := &keySet{opts: o, every: refreshEvery, again: againAfter}
	if o.KeyFile != "" {
		k.every = fileEvery
		k.again = fileEvery
	}
	return k
}

// verify returns the payload of a token that one of the keys has signed.
func (k *keySet) verify(ctx context.Context, t *jose.JSONWebSignature, id, algorithm string) ([]byte, error) {
	for _, key := range k.find(ctx, id) {
		if key.Algorithm != "" && key.Algorithm != algorithm {
			continue
		}
		if text, err := t.Verify(key.Key); err == nil {
			return text, nil
		}
	}
	return nil, errors.New("no key of the issuer has signed it")
}

// find returns the keys with an id, or all if it is empty. They are fetched if they are old, or if there is none, but
// not more often than they may be: whoever makes ids up must not make the server ask for each.
func (k *keySet) find(ctx context.Context, id string) []jose.JSONWebKey {
	found, due := k.look(id)
	if !due {
		return found
	}
	// What is known does while another request fetches.
	if len(found) > 0 && !k.fetches.TryLock() {
		return found
	}
	if len(found) == 0 {
		k.fetches.Lock()
	}
	defer k.fetches.Unlock()
	if found, due = k.look(id); !due {
		return found
	}
	// Others need the keys, too, if this client has gone.
	k.complain(k.refresh(context.WithoutCancel(ctx)))
	found, _ = k.look(id)
	return found
}

// look returns the keys with an id that are known, and whether they are to be fetched.
func (k *keySet) look(id string) (found []jose.JSONWebKey, due bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if now.Sub(k.known) < longest || k.opts.KeyFile != "" {
		for _, key := range k.keys {
			if id == "" || key.KeyID == id {
				found = append(found, key)
			}
		}
	}
	isOld := now.Sub(k.known) >= k.every || len(found) == 0
	return found, isOld && now.Sub(k.tried) >= k.again
}

// refresh fetches the keys.
func (k *keySet) refresh(ctx context.Context) error {
	now := time.Now()
	k.mu.Lock()
	k.tried = now
	k.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	keys, err := k.fetch(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
	k.known = now
	return nil
}

// complain logs an error of fetching keys, once.
func (k *keySet) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	k.mu.Lock()
	isNew := text != k.said
	k.said = text
	k.mu.Unlock()
	if err != nil && isNew {
		k.opts.Log.Error("the keys of the OIDC issuer stay what they were", "error", err)
	}
}

// fetch reads the keys from the file or from the provider.
func (k *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	if k.opts.KeyFile != "" {
		f, err := os.Open(k.opts.KeyFile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readKeys(f)
	}

	var found struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	place := strings.TrimSuffix(k.opts.Issuer, "/") + "/.well-known/openid-configuration"
	err := k.get(ctx, place, func(r io.Reader) error { return json.NewDecoder(r).Decode(&found) })
	if err != nil {
		return nil, err
	}
	switch {
	case found.Issuer != k.opts.Issuer:
		return nil, fmt.Errorf("%s is of the issuer %q, not of %q", place, found.Issuer, k.opts.Issuer)
	case !isSafe(found.Keys) || hostOf(found.Keys) != hostOf(k.opts.Issuer):
		return nil, fmt.Errorf("the issuer's keys are at %q, which is not its own host: --oidc-jwks names a file with them",
			found.Keys)
	}
	var keys []jose.JSONWebKey
	err = k.get(ctx, found.Keys, func(r io.Reader) (err error) {
		keys, err = readKeys(r)
		return err
	})
	return keys, err
}

// get fetches a document. It follows no redirect.
func (k *keySet) get(ctx context.Context, place string, read func(io.Reader) error) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return err
	}
	client := &http.Client{
		Transport:     k.opts.Transport,
		CheckRedirect: egress.NoRedirect,
	}
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s responded %s", place, res.Status)
	}
	if err := read(io.LimitReader(res.Body, maxDocument)); err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	return nil
}

// readKeys reads a key set. Keys that cannot be used are for others.
func readKeys(r io.Reader) (keys []jose.JSONWebKey, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(r, maxDocument)).Decode(&set); err != nil {
		return nil, fmt.Errorf("it is no JSON Web Key Set: %w", err)
	}
	for _, text := range set.Keys[:min(len(set.Keys), maxKeys)] {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) == nil && isUsable(&key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no key that can be used")
	}
	return keys, nil
}

// isSafe reports whether a URL is one that nobody on the way can answer for, or of this machine.
func isSafe(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	isLocal := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && isLocal
}

// hostOf returns the host of a URL, with its port.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

package audit

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Names of files in a log's folder.
const (
	signerFile   = "key"
	verifierFile = "key.pub"
	digestFile   = "digest.key"
	lockFile     = "lock"
)

// Keys are the secret keys of a log.
type Keys struct {
	signer   note.Signer
	verifier note.Verifier
	tags     []byte // of the tags beside checkpoints
	digest   []byte // of the digests of texts
}

// Init makes the keys of a log in a folder, which it creates, and returns the verifier key. It replaces nothing.
func Init(dir string) (verifier string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var name [6]byte
	rand.Read(name[:])
	signer, verifier, err := note.GenerateKey(rand.Reader, "serve-audit-"+hex.EncodeToString(name[:]))
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	digest := make([]byte, sha256.Size)
	rand.Read(digest)

	for _, f := range []struct {
		name    string
		content string
		mode    os.FileMode
	}{
		{signerFile, signer, 0o600},
		{digestFile, base64.StdEncoding.EncodeToString(digest), 0o600},
		{verifierFile, verifier, 0o644},
	} {
		if err := create(filepath.Join(dir, f.name), f.content+"\n", f.mode); err != nil {
			return "", err
		}
	}
	return verifier, osDisk(dir).Sync()
}

// create writes a file that must not be there.
func create(path, content string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// maxKeyFile bounds the size of a key's file, in bytes.
const maxKeyFile = 64 << 10

// ReadKeys reads the secret keys in a log's folder, which nobody else may read.
func ReadKeys(dir string) (*Keys, error) {
	private, err := readSecret(filepath.Join(dir, signerFile))
	if err != nil {
		return nil, err
	}
	text, err := readSecret(filepath.Join(dir, digestFile))
	if err != nil {
		return nil, err
	}
	digest, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(digest) != sha256.Size {
		return nil, fmt.Errorf("%w: %s is not %d bytes in Base64", ErrKey, filepath.Join(dir, digestFile), sha256.Size)
	}
	keys, err := newKeys(private, digest)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKey, filepath.Join(dir, signerFile), err)
	}
	return keys, nil
}

// newKeys returns the keys that a signer key and the key of digests are.
func newKeys(private string, digest []byte) (*Keys, error) {
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, err
	}

	// A byte for the algorithm, and the seed of an Ed25519 key, as NewSigner has checked.
	seed, err := base64.StdEncoding.DecodeString(strings.SplitN(private, "+", 5)[4])
	if err != nil {
		return nil, err
	}
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	text, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, err
	}
	own, err := note.NewVerifier(text)
	if err != nil {
		return nil, err
	}
	return &Keys{
		signer:   signer,
		verifier: own,
		tags:     sum([]byte(private), []byte("tags of records")),
		digest:   digest,
	}, nil
}

// readSecret reads a file that nobody else may read or change.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrKey, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%w: other users may read or change %s (its mode is %04o); chmod 600 makes it private",
			ErrKey, path, info.Mode().Perm())
	}
	return readKey(path)
}

func readKey(path string) (string, error) {
	b, err := os.ReadFile(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrKey, err)
	case len(b) > maxKeyFile:
		return "", fmt.Errorf("%w: %s is too large", ErrKey, path)
	}
	return strings.TrimSpace(string(b)), nil
}

// ParseVerifier reads a verifier key: the key itself, or the name of a file that has it.
func ParseVerifier(given string) (note.Verifier, error) {
	text := given
	if strings.Count(given, "+") < 2 || strings.ContainsAny(given, "/\\") && !strings.HasPrefix(given, "serve-audit-") {
		var err error
		if text, err = readKey(given); err != nil {
			return nil, err
		}
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return v, nil
}

// verifier returns the verifier of a log's folder. It is the one that lies there, unless one is given.
func verifier(dir, given string) (note.Verifier, error) {
	if given == "" {
		given = filepath.Join(dir, verifierFile)
	}
	return ParseVerifier(given)
}

// sum returns an HMAC-SHA-256.
func sum(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}

// tagSize is the size of a tag, in bytes: as much as a forger would have to guess.
const tagSize = 16

// tag returns what says of a leaf that this log has it, for who has the key: it names the record that was rewritten.
func (k *Keys) tag(seq int64, leaf tlog.Hash) []byte {
	return sum(k.tags, fmt.Appendf(leaf[:], "%d", seq))[:tagSize]
}

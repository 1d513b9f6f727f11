package prefixdir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"serve/durable"
)

// keySize is the size in bytes of the key from which those of the files are derived.
const keySize = 32

// readKey reads the key in a file that nobody else may read, and makes one if there is none.
func readKey(name string) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read the key %s: its mode must be 0600", name)
	}
	if info.Size() != keySize {
		return nil, fmt.Errorf("the key %s has %d bytes instead of %d; remove it, and a new one is made",
			name, info.Size(), keySize)
	}
	key := make([]byte, keySize)
	_, err = f.ReadAt(key, 0)
	return key, err
}

// makeKey writes a new key. If another process does so at the same time, the key is the one that was first.
func makeKey(name string) ([]byte, error) {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".prefix-key-*") // with mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())

	key := make([]byte, keySize)
	_, _ = rand.Read(key)
	_, err = f.Write(key)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return nil, err
	}

	err = os.Link(f.Name(), name)
	if errors.Is(err, fs.ErrExist) {
		return readKey(name)
	}
	if err != nil {
		return nil, err
	}
	return key, durable.SyncFolder(dir)
}

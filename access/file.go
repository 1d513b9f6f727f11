package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"serve/durable"
)

// fileVersion is the version of both files' format.
const fileVersion = 1

// maxFile bounds the size of both files, in bytes.
const maxFile = 128 << 20

// lockTime is how long another process may hold the lock: it only reads and writes a file.
const lockTime = 10 * time.Second

// keyFile is the content of the file of keys.
type keyFile struct {
	Version int   `json:"version"`
	Keys    []Key `json:"keys"`
}

// check returns an error unless the keys can be used together.
func (f *keyFile) check() error {
	if f.Version != fileVersion {
		return fmt.Errorf("its version is %d, and this program knows version %d", f.Version, fileVersion)
	}
	if len(f.Keys) > maxKeys {
		return fmt.Errorf("it has more than %d keys", maxKeys)
	}

	ids := map[string]bool{}
	names := map[string]bool{}
	secrets := map[hash]bool{}
	certificates := map[string]bool{}
	for i := range f.Keys {
		k := &f.Keys[i]
		if err := k.check(); err != nil {
			return err
		}
		if ids[k.ID] || names[k.Name] {
			return fmt.Errorf("two keys have the id %s or the name %s", k.ID, k.Name)
		}
		ids[k.ID] = true
		names[k.Name] = true

		if k.Certificate != "" && k.Revoked.IsZero() {
			if certificates[k.Certificate] {
				return fmt.Errorf("two keys are for the certificate %q", k.Certificate)
			}
			certificates[k.Certificate] = true
		}
		for _, s := range k.Secrets {
			if secrets[s.SHA256] {
				return fmt.Errorf("the secret of key %s is there twice", k.Name)
			}
			secrets[s.SHA256] = true
		}
	}
	return nil
}

// stamp is by what a file is recognized as changed. Nobody can set the time of its last change, and a file that
// replaces another has a number of its own.
type stamp struct {
	device, inode uint64
	size          int64
	modified      unix.Timespec
	changed       unix.Timespec
	mode          uint32
}

// stampOf returns the stamp of a file. The error is an fs.ErrNotExist if there is none.
func stampOf(path string) (stamp, error) {
	var s unix.Stat_t
	err := unix.Stat(path, &s)
	switch {
	case errors.Is(err, unix.ENOTDIR):
		err = unix.ENOENT // there can be none where its folder is none
	case errors.Is(err, unix.ENOENT):
		if link := danglingLink(path); link != "" {
			return stamp{}, fmt.Errorf("read the keys in %s: the symbolic link %s leads to nothing", path, link)
		}
	}
	if err != nil {
		return stamp{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return stamp{
		device:   uint64(s.Dev), //nolint:unconvert // the types differ by system
		inode:    s.Ino,
		size:     s.Size,
		modified: s.Mtim,
		changed:  s.Ctim,
		mode:     uint32(s.Mode), //nolint:unconvert // as above
	}, nil
}

// danglingLink returns the symbolic link on the way to a file that leads to nothing; "" if there is none. Who has made
// one means a file that is somewhere: it is not one that was never made.
func danglingLink(path string) string {
	for {
		if info, err := os.Lstat(path); err == nil {
			if info.Mode().Type() == fs.ModeSymlink {
				return path
			}
			return ""
		}
		parent := filepath.Dir(path)
		if parent == path {
			return ""
		}
		path = parent
	}
}

// readKeys reads and checks the file of keys. The error is an fs.ErrNotExist if there is none.
func readKeys(path string) (*keyFile, error) {
	f := new(keyFile)
	if err := readPrivate(path, f); err != nil {
		return nil, fmt.Errorf("read the keys in %s: %w", path, err)
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("read the keys in %s: %w", path, err)
	}
	return f, nil
}

// readPrivate decodes a file that nobody else may read or write.
func readPrivate(path string, into any) error {
	f, info, err := openRegular(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("other users may read or change it (its mode is %04o); chmod 600 makes it private", mode)
	}

	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(text) > maxFile {
		return fmt.Errorf("it is larger than %d bytes", maxFile)
	}

	// A name that is not known could be a limit that is misspelled.
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("it is not valid: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("it is not valid: there is something behind the object")
	}
	return nil
}

// openRegular opens a file that must be a regular one: to open something else may wait forever, or do something. Errors
// do not name the path.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	odd := errors.New("it is not a regular file")
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, errors.Unwrap(err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, odd
	}

	// It may have been replaced meanwhile.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, errors.Unwrap(err)
	}
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = odd
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// writePrivate replaces a file in one step. Its readers see the old content or the new, also after a loss of power.
// With an ErrNotSafe it has the new one, which a loss of power may undo.
func writePrivate(path string, content any) error {
	text, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		return err
	}

	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, keepOwner(f.Name(), path), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	if err := syncFolder(dir); err != nil {
		return fmt.Errorf("%w: %w", ErrNotSafe, err)
	}
	return nil
}

// keepOwner gives a new file to the owner of another one, or of its folder if there is none: root changes files for a
// server that runs as another user and could not read what is root's.
func keepOwner(name, path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var old unix.Stat_t
	err := unix.Lstat(path, &old)
	if errors.Is(err, fs.ErrNotExist) {
		err = unix.Stat(filepath.Dir(path), &old)
	}
	if err != nil {
		return err
	}
	return os.Lchown(name, int(old.Uid), int(old.Gid))
}

// syncFolder makes the names in a folder durable. Tests have it fail.
var syncFolder = durable.SyncFolder

// lock takes the lock that whoever changes the files takes: the server and the commands.
func lock(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockTime)
	defer cancel()
	l := flock.New(path+".lock", flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := keepOwner(l.Path(), path); err != nil {
		_ = l.Unlock()
		return nil, err
	}
	return func() { _ = l.Unlock() }, nil
}

// edit changes the file of keys, or creates it. Nothing is written if change fails.
func edit(path string, change func(*keyFile) error) error {
	unlock, err := lock(path)
	if err != nil {
		return err
	}
	defer unlock()

	f, err := readKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		f = &keyFile{Version: fileVersion}
		err = nil
	}
	if err != nil {
		return err
	}
	if err := change(f); err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	if err := writePrivate(path, f); err != nil {
		return fmt.Errorf("write the keys: %w", err)
	}
	return nil
}

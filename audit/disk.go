package audit

import (
	"io"
	"os"
	"path/filepath"

	"serve/durable"
)

// disk is the folder of a log. Tests have one that fails.
type disk interface {
	Names() ([]string, error)
	Open(name string) (io.ReadCloser, error)
	Create(name string) (file, error) // empty, whatever was there
	Append(name string) (file, error) // as it is
	Rename(from, to string) error
	Remove(name string) error
	Sync() error // makes the names durable
}

// file is one that is written.
type file interface {
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// osDisk is a folder of the operating system.
type osDisk string

func (d osDisk) path(name string) string { return filepath.Join(string(d), name) }

// Names implements disk, as do the methods after it.
func (d osDisk) Names() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func (d osDisk) Open(name string) (io.ReadCloser, error) { return os.Open(d.path(name)) }

func (d osDisk) Create(name string) (file, error) {
	return os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (d osDisk) Append(name string) (file, error) { return os.OpenFile(d.path(name), os.O_RDWR, 0) }

func (d osDisk) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }

func (d osDisk) Remove(name string) error { return os.Remove(d.path(name)) }

func (d osDisk) Sync() error { return durable.SyncFolder(string(d)) }

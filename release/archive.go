package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// writeArchive packs a folder, under its own name, into a tar.gz. Names are sorted, and nothing in it depends on who
// packs it or when: the same files always give the same bytes.
func writeArchive(out, folder string, modified time.Time) (err error) {
	f, err := os.CreateTemp(filepath.Dir(out), filepath.Base(out)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()

	if err := errors.Join(pack(f, folder, modified), f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("pack %q: %w", folder, err)
	}
	return os.Rename(f.Name(), out)
}

func pack(w io.Writer, folder string, modified time.Time) error {
	compressed, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(compressed)

	// WalkDir goes by name.
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(filepath.Dir(folder), path)
		if err != nil {
			return err
		}
		return addFile(archive, path, &tar.Header{Name: filepath.ToSlash(name), ModTime: modified, Format: tar.FormatUSTAR})
	})
	return errors.Join(err, archive.Close(), compressed.Close())
}

// addFile adds a file or a folder under the name, and with the time, that its header has.
func addFile(archive *tar.Writer, path string, header *tar.Header) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}

	switch {
	case info.IsDir():
		header.Typeflag = tar.TypeDir
		header.Name += "/"
		header.Mode = 0o755
		return archive.WriteHeader(header)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither a file nor a folder", path)
	}

	header.Size = info.Size()
	header.Mode = 0o644
	if info.Mode()&0o111 != 0 {
		header.Mode = 0o755
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}

	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(archive, f)
	return err
}

// writeSums writes checksums for sha256sum --check.
func writeSums(w io.Writer, files []string) error {
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}

		hash := sha256.New()
		_, err = io.Copy(hash, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("read %q: %w", path, err)
		}
		if _, err := fmt.Fprintf(w, "%x  %s\n", hash.Sum(nil), filepath.Base(path)); err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestArchiveIsTheSame packs the same files as two builders would have them.
func TestArchiveIsTheSame(t *testing.T) {
	epoch := time.Unix(1764115200, 0).UTC()
	files := []string{"serve-1/bin/serve", "serve-1/README.md", "serve-1/share/man/man1/serve.1"}
	pack := func(files []string, modified time.Time, mode os.FileMode) []byte {
		folder := t.TempDir()
		for _, name := range files {
			path := filepath.Join(folder, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(name, "serve-1/bin/") {
				mode |= 0o100
			}
			err := os.WriteFile(path, []byte(name), mode)
			if err := errors.Join(err, os.Chtimes(path, modified, modified)); err != nil {
				t.Fatal(err)
			}
			mode &^= 0o100
		}

		out := filepath.Join(t.TempDir(), "out.tar.gz")
		if err := writeArchive(out, filepath.Join(folder, "serve-1"), epoch); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}

	one := pack(files, time.Now(), 0o644)
	slices.Reverse(files)
	other := pack(files, time.Now().Add(-time.Hour), 0o600)
	if !bytes.Equal(one, other) {
		t.Error("the archives are not the same")
	}

	want := []string{"serve-1/ 755", "serve-1/README.md 644", "serve-1/bin/ 755", "serve-1/bin/serve 755",
		"serve-1/share/ 755", "serve-1/share/man/ 755", "serve-1/share/man/man1/ 755", "serve-1/share/man/man1/serve.1 644"}
	if got := contents(t, one, epoch); !slices.Equal(got, want) {
		t.Errorf("has %q, want %q", got, want)
	}
}

// contents lists names and modes, and makes sure that nothing tells of who packed it.
func contents(t *testing.T, archive []byte, epoch time.Time) (list []string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	if z.Name != "" || !z.ModTime.IsZero() {
		t.Errorf("gzip's header has name %q, time %v", z.Name, z.ModTime)
	}

	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || !h.ModTime.Equal(epoch) {
			t.Errorf("%s: owner %d:%d %q:%q, time %v", h.Name, h.Uid, h.Gid, h.Uname, h.Gname, h.ModTime)
		}
		list = append(list, fmt.Sprintf("%s %o", h.Name, h.Mode))
	}
}

func TestArchiveRefusesLinks(t *testing.T) {
	folder := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.tar.gz")
	if err := writeArchive(out, folder, time.Unix(0, 0)); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("got %v, want an error about the link", err)
	}
	if left, err := filepath.Glob(out + "*"); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestSums(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(path, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := writeSums(&b, []string{path}); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%x  a file\n", sha256.Sum256([]byte("text"))); b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// TestCheckFindsPaths takes this test for a program, with the name of a source as Go writes it without -trimpath.
func TestCheckFindsPaths(t *testing.T) {
	const root = "/home/somebody/serve"
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(self, append(program, root+"/release/archive.go\x00"...), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := checkProgram(self, root); err == nil || !strings.Contains(err.Error(), root+"/release/") {
		t.Errorf("got %v, want an error about %s", err, root)
	}
	if err := checkProgram(self, "/no/such/folder"); err != nil {
		t.Error(err)
	}
	if err := checkProgram(self, "/release"); err != nil {
		t.Errorf("the end of another folder's name: %v", err)
	}
	if err := checkProgram("archive_test.go", root); err == nil {
		t.Error("a text was taken for a program")
	}
}

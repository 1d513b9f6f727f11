package oms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// unsignedFiles are never part of a model: they are git's.
var unsignedFiles = []string{".git", ".gitattributes", ".github", ".gitignore"}

// Tree is a model as it lies on a disk: a folder or a file.
type Tree struct {
	Root          string
	Signature     string   // the signature's file, which is not part of the model; "" for none
	IgnorePaths   []string // files and folders below Root that are not part of the model, with slashes
	AllowSymlinks bool     // take links to files for the files
}

// name returns the model's name: that of its folder.
func (t *Tree) name() string {
	if whole, err := filepath.Abs(t.Root); err == nil {
		return filepath.Base(whole)
	}
	return filepath.Base(t.Root)
}

// Manifest hashes all files of a model. A shardSize of 0 hashes them as wholes.
func (t *Tree) Manifest(ctx context.Context, shardSize int64) (*Manifest, error) {
	files, err := t.Files()
	if err != nil {
		return nil, err
	}
	s := Serialization{ShardSize: integer(shardSize), AllowSymlinks: t.AllowSymlinks}
	s.IgnorePaths = slices.Sorted(slices.Values(t.ignored()))
	return NewManifest(ctx, t.name(), s, files)
}

// CheckTree compares a model on a disk with what is signed of it. Its ignored paths, and whether links are files,
// are the manifest's. With lenient, there may be files that are not signed.
func (m *Manifest) CheckTree(ctx context.Context, t Tree, lenient bool) error {
	t.AllowSymlinks = m.AllowSymlinks
	t.IgnorePaths = nil
	for _, name := range m.IgnorePaths {
		if name == "." || !filepath.IsLocal(filepath.FromSlash(name)) {
			continue // it is outside, as the signature's file may be
		}
		t.IgnorePaths = append(t.IgnorePaths, name)
	}

	files, err := t.Files()
	if lenient && err == nil {
		signed := map[string]bool{}
		for _, name := range m.Files() {
			signed[name] = true
		}
		files = slices.DeleteFunc(files, func(c Content) bool { return !signed[c.Name] && !signed[single] })
	}
	if err != nil {
		return err
	}
	seen, err := m.check(ctx, files)
	if err != nil {
		return err
	}
	for _, r := range m.Resources {
		if !seen[r.Name] {
			return fmt.Errorf("%w: %q is signed and missing", ErrSignature, r.Name)
		}
	}
	return nil
}

// ignored returns all paths that are not part of the model.
func (t *Tree) ignored() []string {
	list := slices.Concat(unsignedFiles, t.IgnorePaths)
	if t.Signature == "" {
		return list
	}
	root, err := filepath.Abs(t.Root)
	if err != nil {
		return list
	}
	file, err := filepath.Abs(t.Signature)
	if err != nil {
		return list
	}
	if name, err := filepath.Rel(root, file); err == nil && name != "." && filepath.IsLocal(name) {
		list = append(list, filepath.ToSlash(name))
	}
	return list
}

// Files returns all files of the model.
func (t *Tree) Files() ([]Content, error) {
	info, err := os.Stat(t.Root)
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() {
		return []Content{fileContent(filepath.Base(t.Root), t.Root)}, nil
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is neither a file nor a folder", t.Root)
	}

	root, err := filepath.EvalSymlinks(t.Root) // WalkDir does not follow it
	if err != nil {
		return nil, err
	}
	ignored := t.ignored()
	var list []Content
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(root, file)
		if err != nil || inside == "." {
			return err
		}
		name := filepath.ToSlash(inside)
		if slices.Contains(ignored, name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		if err := t.checkFile(name, file, d); err != nil {
			return err
		}
		list = append(list, fileContent(name, file))
		return nil
	})
	return list, err
}

// checkFile refuses what is no file.
func (t *Tree) checkFile(name, file string, d fs.DirEntry) error {
	if err := checkName(name); err != nil {
		return err
	}
	if d.Type()&fs.ModeSymlink != 0 && !t.AllowSymlinks {
		return fmt.Errorf("%w: %q is a symbolic link, which is not taken for the file", ErrSignature, name)
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %q is a symbolic link to nothing", ErrSignature, name)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %q is not a file", ErrSignature, name)
	}
	return nil
}

// fileContent returns a file's content.
func fileContent(name, file string) Content {
	return Content{Name: name, Open: func() (io.ReadCloser, error) { return os.Open(file) }}
}

// CheckIgnored refuses paths that cannot be ignored.
func CheckIgnored(names []string) error {
	for _, name := range names {
		if name == single || checkName(name) != nil || strings.ContainsAny(name, `*?[\`) {
			return fmt.Errorf("%q is not a path within the model, such as logs or docs/draft.md", name)
		}
	}
	return nil
}

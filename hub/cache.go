package hub

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Cache is Hugging Face's cache of repositories, in its own layout:
//
//	models--org--name/blobs/<etag>               the contents, by hash
//	                  snapshots/<commit>/<path>  links to them
//	                  refs/<revision>            the commit a branch or tag was seen at
//
// Reading it does not require write permission.
type Cache struct{ Dir string }

// noCache is a folder that cannot exist.
const noCache = os.DevNull

// CachedFile is a file of a snapshot.
type CachedFile struct {
	File
	Name string // its path on this machine; split models must be opened by it
}

func (c Cache) repo(repo string) string {
	return filepath.Join(c.Dir, "models--"+strings.ReplaceAll(repo, "/", "--"))
}

// Blob returns the path of the content with an etag, whether it exists or not.
func (c Cache) Blob(repo, etag string) string { return filepath.Join(c.repo(repo), "blobs", etag) }

func (c Cache) snapshot(repo, commit string) string {
	return filepath.Join(c.repo(repo), "snapshots", commit)
}

// Commit returns the commit of a revision if its snapshot is in the cache, or "".
func (c Cache) Commit(repo, revision string) string {
	if CheckRepo(repo) != nil || checkRevision(revision) != nil {
		return ""
	}
	commit := revision
	if !hex40.MatchString(revision) {
		b, err := os.ReadFile(filepath.Join(c.repo(repo), "refs", filepath.FromSlash(revision)))
		if err != nil || len(b) > 64 {
			return ""
		}
		commit = strings.TrimSpace(string(b))
	}
	if !hex40.MatchString(commit) {
		return ""
	}
	if _, err := os.Stat(c.snapshot(repo, commit)); err != nil {
		return ""
	}
	return commit
}

// Repos returns the repositories that have a folder, sorted.
func (c Cache) Repos() ([]string, error) {
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, fs.ErrNotExist) || c.Dir == noCache {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the cache: %w", err)
	}
	var list []string
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), "models--")
		repo := strings.Replace(name, "--", "/", 1)
		if ok && CheckRepo(repo) == nil {
			list = append(list, repo)
		}
	}
	return list, nil
}

// Commits returns the snapshots of a repository, the newest first.
func (c Cache) Commits(repo string) []string {
	entries, err := os.ReadDir(filepath.Join(c.repo(repo), "snapshots"))
	if err != nil {
		return nil
	}
	var list []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() && hex40.MatchString(e.Name()) {
			list = append(list, info)
		}
	}
	slices.SortStableFunc(list, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	commits := make([]string, len(list))
	for i, info := range list {
		commits[i] = info.Name()
	}
	return commits
}

// Files returns the files of a snapshot, sorted by path, without broken links.
// The hash is taken from the name of the content and is not computed; it is ""
// where the cache has copies instead of links.
func (c Cache) Files(repo, commit string) ([]CachedFile, error) {
	root := c.snapshot(repo, commit)
	var list []CachedFile
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			return nil
		}
		path, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f := CachedFile{File: File{Path: filepath.ToSlash(path), Size: info.Size()}, Name: name}
		if target, err := os.Readlink(name); err == nil {
			switch etag := filepath.Base(target); {
			case hex64.MatchString(etag):
				f.SHA256 = etag
			case hex40.MatchString(etag):
				f.GitOID = etag
			}
		}
		list = append(list, f)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}

	return list, err
}

// has reports whether a file's content is in the cache, by name and size.
func (c Cache) has(repo string, f File) bool {
	info, err := os.Stat(c.Blob(repo, f.ETag()))
	return err == nil && info.Mode().IsRegular() && info.Size() == f.Size
}

// Link makes files of a listing, whose contents must be in the cache, visible in
// their snapshot, and records the commit of the revision.
func (c Cache) Link(l *Listing, files []File) error {
	for _, f := range files {
		if err := f.Check(); err != nil {
			return err
		}
		if !c.has(l.Repo, f) {
			return fmt.Errorf("link %s: its content is not in the cache", f.Path)
		}
		if err := c.link(l, f); err != nil {
			return DiskError(f.Path, err)
		}
	}
	revision := l.Revision
	if hex40.MatchString(revision) {
		// Tools that look for a branch should find a pinned commit too. A branch that
		// already points to a commit is left alone.
		revision = "main"
		if _, err := os.Stat(filepath.Join(c.repo(l.Repo), "refs", revision)); err == nil {
			return nil
		}
	}
	return WriteFile(filepath.Join(c.repo(l.Repo), "refs", filepath.FromSlash(revision)), []byte(l.Commit), 0o644)
}

func (c Cache) link(l *Listing, f File) error {
	name := filepath.Join(c.snapshot(l.Repo, l.Commit), filepath.FromSlash(f.Path))
	blob := c.Blob(l.Repo, f.ETag())
	if a, err := os.Stat(name); err == nil {
		if b, err := os.Stat(blob); err == nil && os.SameFile(a, b) {
			return nil
		}
	}

	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}

	target, err := filepath.Rel(filepath.Dir(name), blob)
	if err != nil {
		return err
	}

	temp := name + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	if os.Symlink(target, temp) != nil && os.Link(blob, temp) != nil {
		if err := copyFile(temp, blob); err != nil {
			return err
		}
	}

	return os.Rename(temp, name)
}

// copyFile is for file systems that support neither kind of link.
func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err = io.Copy(dst, src); err == nil {
		err = dst.Sync()
	}
	return errors.Join(err, dst.Close())
}

// Remove removes files from a snapshot, and their contents unless another snapshot
// has them too. It returns the bytes that were freed.
func (c Cache) Remove(repo, commit string, paths []string) (freed int64, err error) {
	before, err := c.Files(repo, commit)
	if err != nil {
		return 0, err
	}

	contents := map[string]int64{}
	for _, path := range paths {
		if err := CheckPath(path); err != nil {
			return 0, err
		}
		for _, f := range before {
			if f.Path == path {
				contents[f.ETag()] = f.Size
			}
		}

		name := filepath.Join(c.snapshot(repo, commit), filepath.FromSlash(path))
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}

	if err := c.keepReferenced(repo, contents); err != nil {
		return 0, err
	}
	for etag, size := range contents {
		if etag != "" {
			if err := c.Drop(repo, etag); err != nil {
				return freed, err
			}
		}
		freed += size
	}

	c.Tidy(repo)
	return freed, nil
}

// keepReferenced deletes from contents, sizes by etag, those that a snapshot still has. Empty snapshots are
// removed.
func (c Cache) keepReferenced(repo string, contents map[string]int64) error {
	for _, commit := range c.Commits(repo) {
		files, err := c.Files(repo, commit)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			if err := c.forget(repo, commit); err != nil {
				return err
			}
		}
		for _, f := range files {
			delete(contents, f.ETag())
		}
	}
	return nil
}

// Drop removes a blob that no snapshot refers to.
func (c Cache) Drop(repo, etag string) error {
	if !hex40.MatchString(etag) && !hex64.MatchString(etag) {
		return fmt.Errorf("%q is not a valid blob name", oneLine(etag, 80))
	}
	if err := os.Remove(c.Blob(repo, etag)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Tidy removes the folders of a repository without snapshots, from the inside out
// as long as they are empty: another tool's unfinished download keeps them.
func (c Cache) Tidy(repo string) {
	root := c.repo(repo)
	if CheckRepo(repo) != nil || len(c.Commits(repo)) > 0 {
		return
	}
	var dirs []string
	_ = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, name)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		_ = os.Remove(dir)
	}
}

// forget removes an empty snapshot and the refs that point to it.
func (c Cache) forget(repo, commit string) error {
	if err := os.RemoveAll(c.snapshot(repo, commit)); err != nil {
		return err
	}
	return filepath.WalkDir(filepath.Join(c.repo(repo), "refs"), func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == commit {
			return os.Remove(name)
		}
		return nil
	})
}

// WriteFile writes a small file atomically, and creates its folders. The folder of a file that only its owner
// may read is only the owner's, too.
func WriteFile(name string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(name)
	private := mode&0o077 == 0
	folderMode := fs.FileMode(0o755)
	if private {
		folderMode = 0o700
	}

	if err := os.MkdirAll(dir, folderMode); err != nil {
		return err
	}
	if private {
		_ = os.Chmod(dir, folderMode) // it may be from an older version, or not ours to change
	}

	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}

	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return DiskError(name, err)
	}
	return syncDir(dir)
}

// syncDir makes a rename in a folder durable, on systems that support it.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	_ = d.Sync()
	return nil
}

// tag marks the cache for backup programs: https://bford.info/cachedir/.
const tag = "Signature: 8a477f597d28d172789f06886806bc55\n# This is the Hugging Face cache.\n"

// prepare creates the folder for a repository's contents.
func (c Cache) prepare(repo string) error {
	if c.Dir == noCache {
		return errors.New("no folder for the cache: set HF_HUB_CACHE, HF_HOME or HOME")
	}
	// A cache that is there stays as it is; a new one is only its owner's.
	err := os.MkdirAll(c.Dir, 0o700)
	if err = errors.Join(err, os.MkdirAll(filepath.Join(c.repo(repo), "blobs"), 0o755)); err != nil {
		return fmt.Errorf("create the cache: %w", err)
	}
	mark := filepath.Join(c.Dir, "CACHEDIR.TAG")
	if _, err := os.Stat(mark); errors.Is(err, fs.ErrNotExist) {
		return WriteFile(mark, []byte(tag), 0o644)
	}
	return nil
}

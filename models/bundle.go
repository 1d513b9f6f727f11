package models

import (
	"archive/tar"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"serve/hub"
)

// A bundle is a tar file with models for machines without a network: first the manifest,
// then its signature if it has one, then every content once, named by its hash.
const (
	bundleManifest  = "serve-bundle.json"
	bundleSignature = "serve-bundle.sig"
	bundleContents  = "contents/"
	bundleVersion   = 1
	maxManifest     = 64 << 20
)

// signed is the prefix of the signed text, so that a signature is valid only for bundles.
const signed = "serve bundle, version 1\n"

// Manifest describes the contents of a bundle.
type Manifest struct {
	Format  string        `json:"format"` // "serve-bundle"
	Version int           `json:"version"`
	Created time.Time     `json:"created"`
	Models  []BundleModel `json:"models"`
}

// BundleModel is a model in a bundle: the Hub's listing of its repository, and
// which of the files are in the bundle.
type BundleModel struct {
	Name    string      `json:"name"`
	Listing hub.Listing `json:"listing"`
	Paths   []string    `json:"paths"`
}

// files returns the listing's files that are in the bundle.
func (m *BundleModel) files() ([]hub.File, error) {
	var files []hub.File
	for _, p := range m.Paths {
		i := slices.IndexFunc(m.Listing.Files, func(f hub.File) bool { return f.Path == p })
		if i < 0 {
			return nil, badBundle("the manifest does not describe %q", p)
		}
		if m.Listing.Files[i].ETag() == "" {
			return nil, badBundle("the manifest has no hash for %q", p)
		}
		files = append(files, m.Listing.Files[i])
	}
	return files, nil
}

func badBundle(format string, args ...any) error {
	return &Error{
		Kind: hub.ErrIntegrity,
		Text: "the bundle is damaged: " + fmt.Sprintf(format, args...),
		Todo: "nothing was imported; copy or export it again",
	}
}

// ExportBundle writes models to a file, atomically. Every content is hashed while it
// is written. key signs the manifest, and so every hash in it; nil for no signature.
func (s *Store) ExportBundle(ctx context.Context, name string, locals []*Local, key ed25519.PrivateKey) (err error) {
	m := Manifest{Format: "serve-bundle", Version: bundleVersion, Created: time.Now().UTC().Truncate(time.Second)}
	var contents []hub.CachedFile
	for _, l := range locals {
		if l.Repo == "" {
			return &Error{
				Kind: ErrReference,
				Text: l.Path() + " does not come from the Hub, so there is no hash to verify it with",
				Todo: "copy the file itself",
			}
		}
		model, err := s.bundleModel(l)
		if err != nil {
			return err
		}
		m.Models = append(m.Models, model)
		for _, f := range l.Files() {
			if !slices.ContainsFunc(contents, func(c hub.CachedFile) bool { return c.ETag() == f.ETag() }) {
				contents = append(contents, f)
			}
		}
	}

	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}

	defer os.Remove(file.Name())
	w := tar.NewWriter(file)
	err = s.writeBundle(ctx, w, m, contents, key)
	if err = errors.Join(err, closeIf(err == nil, w), file.Chmod(0o644), file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return os.Rename(file.Name(), name)
}

// closeIf closes a writer unless there was an error: an incomplete archive would report another one.
func closeIf(complete bool, c io.Closer) error {
	if !complete {
		return nil
	}
	return c.Close()
}

func (s *Store) bundleModel(l *Local) (BundleModel, error) {
	m := BundleModel{Name: l.Name}
	if known := s.listing(l.Repo, l.Commit); known != nil {
		m.Listing = *known
	} else {
		m.Listing = hub.Listing{Repo: l.Repo, Commit: l.Commit, Revision: l.Commit, License: l.License}
		for _, f := range l.Files() {
			m.Listing.Files = append(m.Listing.Files, f.File)
		}
	}
	for _, f := range l.Files() {
		if f.ETag() == "" {
			return m, &Error{
				Kind: hub.ErrIntegrity,
				Text: l.Name + ": the hash of " + f.Path + " is not known",
				Todo: "pull it with serve, which keeps the Hub's hashes",
			}
		}
		m.Paths = append(m.Paths, f.Path)
	}
	return m, nil
}

func (s *Store) writeBundle(
	ctx context.Context, w *tar.Writer, m Manifest, contents []hub.CachedFile, key ed25519.PrivateKey,
) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := writeEntry(w, bundleManifest, text); err != nil {
		return err
	}

	if key != nil {
		if err := writeEntry(w, bundleSignature, ed25519.Sign(key, append([]byte(signed), text...))); err != nil {
			return err
		}
	}

	for _, f := range contents {
		err := w.WriteHeader(&tar.Header{Name: bundleContents + f.ETag(), Mode: 0o644, Size: f.Size, Format: tar.FormatPAX})
		if err != nil {
			return err
		}
		if err := s.copyHashed(ctx, w, f); err != nil {
			return err
		}
	}

	return nil
}

func writeEntry(w *tar.Writer, name string, b []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

// copyHashed copies a content from the cache and fails if its hash is wrong.
func (s *Store) copyHashed(ctx context.Context, w io.Writer, f hub.CachedFile) error {
	src, err := os.Open(f.Name)
	if err != nil {
		return err
	}
	defer src.Close()
	return s.copyContent(ctx, w, src, f.File, "exporting "+f.Path)
}

// copyContent copies a content from src to w and compares its hash.
func (s *Store) copyContent(ctx context.Context, w io.Writer, src io.Reader, f hub.File, what string) error {
	progress := s.Hub.Progress()
	progress.Start(what, f.Size, 0)
	defer progress.Done()

	h := f.NewHash()
	buf := make([]byte, 1<<20)
	for left := f.Size; left > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(src, buf[:min(int64(len(buf)), left)])
		if err != nil {
			return badBundle("%s is truncated", f.Path)
		}
		h.Write(buf[:n])
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
		progress.Add(int64(n))
	}

	if sum := hex.EncodeToString(h.Sum(nil)); sum != f.ETag() {
		return &Error{
			Kind: hub.ErrIntegrity,
			Text: fmt.Sprintf("%s is damaged: its hash is %s, not %s", f.Path, sum, f.ETag()),
			Todo: "copy or pull it again",
		}
	}
	return nil
}

// ImportBundle reads a bundle into the cache. Everything is verified before
// anything becomes visible. If key is not nil, the bundle must be signed with it;
// signed reports whether there is a signature at all.
func (s *Store) ImportBundle(
	ctx context.Context, name string, key ed25519.PublicKey,
) (models []BundleModel, isSigned bool, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, false, fmt.Errorf("cannot open the bundle %s: %w", name, hub.Cause(err))
	}
	defer file.Close()
	in := &bundleImport{s: s, name: name, r: tar.NewReader(file), contents: map[string]content{}}
	defer in.cleanUp()
	if err := in.readManifest(key); err != nil {
		return nil, false, err
	}
	if err := in.readContents(ctx); err != nil {
		return nil, false, err
	}
	if err := in.guard(); err != nil {
		return nil, false, err
	}
	if err := in.admit(ctx); err != nil {
		return nil, false, err
	}
	return in.manifest.Models, in.signed, in.publish()
}

// bundleImport is the state of an import.
type bundleImport struct {
	s        *Store
	name     string // of the bundle's file
	r        *tar.Reader
	manifest Manifest
	signed   bool
	next     *tar.Header        // the entry after the manifest and its signature
	contents map[string]content // by etag: those listed in the manifest
	temps    []string           // files that are not yet visible
}

// content is a content that a bundle must have, and its path until all are there.
type content struct {
	file hub.File
	repo string
	path string // "" until it was read
}

func (in *bundleImport) readManifest(key ed25519.PublicKey) error {
	text, err := in.entry(bundleManifest, maxManifest)
	if err != nil {
		return &Error{
			Kind: hub.ErrIntegrity,
			Text: fmt.Sprintf("%s is not a serve bundle: %v", in.name, err),
			Todo: "serve bundle export creates one",
		}
	}
	if in.next, err = in.r.Next(); err == nil && in.next.Name == bundleSignature {
		signature, err := io.ReadAll(io.LimitReader(in.r, ed25519.SignatureSize+1))
		if err != nil {
			return badBundle("%v", err)
		}
		in.signed = true
		if key != nil && !ed25519.Verify(key, append([]byte(signed), text...), signature) {
			return &Error{
				Kind: hub.ErrIntegrity,
				Text: "the bundle was not signed with this key",
				Todo: "nothing was imported; ask the bundle's author for the right key, or do not use the bundle",
			}
		}
		in.next, _ = in.r.Next()
	}
	if key != nil && !in.signed {
		return &Error{
			Kind: hub.ErrIntegrity,
			Text: "the bundle is not signed",
			Todo: "nothing was imported; sign it with serve bundle export --sign-key",
		}
	}

	if err := json.Unmarshal(text, &in.manifest); err != nil || in.manifest.Format != "serve-bundle" {
		return badBundle("its manifest cannot be read")
	}
	if in.manifest.Version != bundleVersion {
		return &Error{
			Kind: hub.ErrIntegrity,
			Text: fmt.Sprintf("the bundle has version %d, but serve reads version %d", in.manifest.Version, bundleVersion),
			Todo: "use a newer serve",
		}
	}
	return in.plan()
}

// entry reads a small entry that must come next.
func (in *bundleImport) entry(name string, limit int64) ([]byte, error) {
	h, err := in.r.Next()
	if err != nil {
		return nil, err
	}
	if h.Name != name || h.Size > limit {
		return nil, fmt.Errorf("it begins with %.80q", h.Name)
	}
	return io.ReadAll(in.r)
}

// plan checks every name in the manifest, and the disk space for its contents.
func (in *bundleImport) plan() error {
	for i := range in.manifest.Models {
		m := &in.manifest.Models[i]
		if err := m.Listing.Check(); err != nil {
			return err
		}

		files, err := m.files()
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := f.Check(); err != nil {
				return err
			}
			if other, ok := in.contents[f.ETag()]; ok && other.file.Size != f.Size {
				return badBundle("one content is listed with two sizes")
			}
			in.contents[f.ETag()] = content{file: f, repo: m.Listing.Repo}
		}
		if err := in.s.Hub.CheckRoom(&m.Listing, files); err != nil {
			return err
		}
	}
	return nil
}

// readContents writes every content beside its final place.
func (in *bundleImport) readContents(ctx context.Context) error {
	for h := in.next; h != nil; {
		etag, ok := strings.CutPrefix(h.Name, bundleContents)
		c, wanted := in.contents[etag]
		if !ok || !wanted || c.path != "" || h.Typeflag != tar.TypeReg || h.Size != c.file.Size || path.Base(h.Name) != etag {
			return badBundle("%.100q is not in its manifest", h.Name)
		}
		temp, err := os.CreateTemp(filepath.Dir(in.s.Hub.Blob(c.repo, etag)), "."+etag+".import-*")
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		in.temps = append(in.temps, temp.Name())
		err = in.s.copyContent(ctx, temp, in.r, c.file, "importing "+c.file.Path)
		if err = errors.Join(err, temp.Chmod(0o644), temp.Sync(), temp.Close()); err != nil {
			return hub.DiskError(c.file.Path, err)
		}
		c.path = temp.Name()
		in.contents[etag] = c
		if h, err = in.r.Next(); err != nil && !errors.Is(err, io.EOF) {
			return badBundle("%v", err)
		}
	}

	for _, c := range in.contents {
		if c.path == "" {
			return badBundle("%s is missing", c.file.Path)
		}
	}
	return nil
}

// guard checks the headers of files that would become visible.
func (in *bundleImport) guard() error {
	for i := range in.manifest.Models {
		files, err := in.manifest.Models[i].files()
		if err != nil {
			return err
		}
		for _, c := range candidates(files) {
			var parts []string
			for _, f := range c.parts {
				parts = append(parts, in.contents[f.ETag()].path)
			}
			if len(parts) != c.want {
				return badBundle("parts of %s are missing", c.name)
			}
			if _, err := ReadModel(parts); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

// admit asks whether every model may be used.
func (in *bundleImport) admit(ctx context.Context) error {
	for i := range in.manifest.Models {
		m := &in.manifest.Models[i]
		files, err := m.files()
		if err != nil {
			return err
		}
		c := &Candidate{
			Name:     m.Name,
			Repo:     m.Listing.Repo,
			Commit:   m.Listing.Commit,
			License:  m.Listing.License,
			Link:     m.Listing.Link,
			Gated:    m.Listing.Gated,
			Arriving: true,
		}
		for _, f := range files {
			file := CandidateFile{File: f, Place: in.contents[f.ETag()].path}
			if IsLicense(f.Path) || IsSignature(f.Path) {
				c.Texts = append(c.Texts, file)
			} else {
				c.Files = append(c.Files, file)
			}
		}
		if err := in.s.admit(ctx, c); err != nil {
			return err
		}
	}

	return nil
}

// publish gives every content its final name.
func (in *bundleImport) publish() error {
	for i := range in.manifest.Models {
		m := &in.manifest.Models[i]
		files, err := m.files()
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := in.place(m.Listing.Repo, f); err != nil {
				return err
			}
		}
		if err := in.s.saveListing(&m.Listing); err != nil {
			return err
		}
		if err := in.s.Hub.Link(&m.Listing, files); err != nil {
			return err
		}
	}
	return nil
}

// place gives a verified content its final name, replacing a file that has it, and
// records that it is verified.
func (in *bundleImport) place(repo string, f hub.File) error {
	blob := in.s.Hub.Blob(repo, f.ETag())
	from := in.contents[f.ETag()].path
	// A link, since two repositories may share a content.
	if fresh := from + ".new"; os.Link(from, fresh) == nil {
		from = fresh
	}
	if err := os.Rename(from, blob); err != nil {
		return fmt.Errorf("import %s: %w", f.Path, err)
	}
	if id, err := identify(blob); err == nil {
		in.s.remember(hub.CachedFile{File: f, Name: blob}, id)
	}
	return nil
}

// cleanUp removes files that did not become visible.
func (in *bundleImport) cleanUp() {
	for _, temp := range in.temps {
		os.Remove(temp)
	}
	for _, m := range in.manifest.Models {
		in.s.Hub.Tidy(m.Listing.Repo)
	}
}

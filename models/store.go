package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"serve/hub"
)

// ErrNotHere means that a model is not on this machine.
var ErrNotHere = errors.New("not on this machine")

// Store finds models on this machine and downloads them. The Hub's listings of
// repositories, and the hashes that were verified, are stored in Home, apart from
// the cache that other tools share.
type Store struct {
	Hub   *hub.Client
	Home  string    // folder
	Admit Admission // of models that are downloaded, imported or loaded; nil admits all

	Remote bool // what is pulled is for a client of a server
}

// Home returns the folder for serve's own data: what the environment says, or else one beside the cache.
func Home(lookup func(string) string, cache string) string {
	switch {
	case lookup("SERVE_HOME") != "":
		return lookup("SERVE_HOME")
	case lookup("XDG_DATA_HOME") != "":
		return filepath.Join(lookup("XDG_DATA_HOME"), "serve")
	case lookup("HOME") != "":
		return filepath.Join(lookup("HOME"), ".local", "share", "serve")
	}
	return filepath.Join(cache, ".serve")
}

// Local is a model on this machine.
type Local struct {
	Name      string // in requests
	Demo      bool   // it is built into the program
	Repo      string // "" for a plain file and the demo, as Commit
	Commit    string
	Quant     string
	License   string
	Link      string // to the license's text, if the repository has one
	Weights   []hub.CachedFile
	Projector *hub.CachedFile
	Texts     []hub.CachedFile // license files, and signatures
}

// Path returns the path to load: the file, or the first part of the set.
func (l *Local) Path() string { return l.Weights[0].Name }

// Parts returns the paths of all weights.
func (l *Local) Parts() []string {
	var paths []string
	for _, f := range l.Weights {
		paths = append(paths, f.Name)
	}
	return paths
}

// Files returns all files of the model.
func (l *Local) Files() []hub.CachedFile {
	files := slices.Clone(l.Weights)
	if l.Projector != nil {
		files = append(files, *l.Projector)
	}
	return append(files, l.Texts...)
}

// Bytes is the size of all files.
func (l *Local) Bytes() (n int64) {
	for _, f := range l.Files() {
		n += f.Size
	}
	return n
}

// Find returns a model on this machine, without using the network. The error is
// ErrNotHere if it is not on this machine.
func (s *Store) Find(r *Reference) (*Local, error) {
	if r.Path != "" {
		return findFile(r)
	}
	if r.Demo {
		return s.findDemo(r)
	}
	for _, commit := range s.commits(r) {
		l, err := s.findIn(r, commit)
		if err == nil || !errors.Is(err, ErrNotHere) {
			return l, err
		}
	}
	return nil, &Error{
		Kind: ErrNotHere,
		Text: r.Text + " is not on this machine",
		Todo: "serve list shows the models on this machine; serve pull " + r.Text + " downloads this one",
	}
}

func findFile(r *Reference) (*Local, error) {
	parts, err := Parts(r.Path)
	if err != nil {
		return nil, err
	}
	l := &Local{Name: Name(r.Path), Quant: ParseQuant(r.Path)}
	for _, part := range parts {
		info, err := os.Stat(part)
		if errors.Is(err, os.ErrNotExist) {
			return nil, &Error{
				Kind: os.ErrNotExist,
				Text: "there is no file " + part,
				Todo: "for a model from the Hub, give its name without ./ and .gguf; serve catalog lists some",
			}
		}
		if err != nil {
			return nil, err
		}
		l.Weights = append(
			l.Weights, hub.CachedFile{File: hub.File{Path: filepath.Base(part), Size: info.Size()}, Name: part},
		)
	}
	return l, nil
}

// commits returns the snapshots that may have the files of a reference.
func (s *Store) commits(r *Reference) []string {
	var list []string
	if commit := s.Hub.Commit(r.Repo, r.revision()); commit != "" {
		list = append(list, commit)
	}
	if r.Entry != nil && r.Entry.hashes() != nil && r.Quant == "" {
		// Its hash identifies it in any snapshot.
		list = append(list, s.Hub.Commits(r.Repo)...)
	}
	return list
}

// findIn looks for the files of a reference in one snapshot. If the Hub's listing of
// it is known, the choice is the same as with the network: a missing default is not
// replaced by another quantization that is there.
func (s *Store) findIn(r *Reference, commit string) (*Local, error) {
	cached, err := s.Hub.Files(r.Repo, commit)
	if err != nil {
		return nil, err
	}

	l := &Local{Name: r.Text, Repo: r.Repo, Commit: commit}
	all := make([]hub.File, len(cached))
	for i := range cached {
		all[i] = cached[i].File
	}

	if listing := s.listing(r.Repo, commit); listing != nil {
		all = listing.Files
		l.License = listing.License
		l.Link = listing.Link
	} else if r.Entry != nil {
		l.License = r.Entry.License
	}

	choice, err := Choose(all, r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotHere, err)
	}

	here := func(f hub.File) (hub.CachedFile, bool) {
		i := slices.IndexFunc(cached, func(c hub.CachedFile) bool { return c.Path == f.Path && c.Size == f.Size })
		if i < 0 {
			return hub.CachedFile{}, false
		}
		return hub.CachedFile{File: f, Name: cached[i].Name}, true
	}

	l.Quant = choice.Quant
	for _, f := range choice.Weights {
		c, ok := here(f)
		if !ok {
			return nil, ErrNotHere
		}
		l.Weights = append(l.Weights, c)
	}

	// A projector that another tool did not download is not required: text works without it.
	if choice.Projector != nil {
		if c, ok := here(*choice.Projector); ok {
			l.Projector = &c
		}
	}

	for _, f := range texts(all) {
		if c, ok := here(f); ok {
			l.Texts = append(l.Texts, c)
		}
	}

	return l, nil
}

// maxText and maxSignature are the largest texts that are downloaded with a model.
const (
	maxText      = 1 << 20
	maxSignature = 16 << 20
)

// texts returns the license files, and signatures.
func texts(files []hub.File) []hub.File {
	var list []hub.File
	for _, f := range files {
		if IsLicense(f.Path) && f.Size < maxText || IsSignature(f.Path) && f.Size < maxSignature {
			list = append(list, f)
		}
	}
	return list
}

// IsLicense reports whether a file is a license, or a part of one, by its name. A model never is: who admits models
// must see it.
func IsLicense(name string) bool {
	if isGGUF(name) {
		return false
	}
	name = strings.ToUpper(name)
	return slices.ContainsFunc([]string{"LICENSE", "LICENCE", "USE_POLICY"}, func(prefix string) bool {
		return strings.HasPrefix(name, prefix)
	})
}

// Pull returns a model, downloading missing files; fetched reports whether the Hub was
// contacted. A model on this machine needs no network, unless update requests the
// newest revision.
func (s *Store) Pull(ctx context.Context, r *Reference, update bool) (l *Local, fetched bool, err error) {
	l, err = s.Find(r)
	if err == nil && !update || r.Path != "" || r.Demo || err != nil && !errors.Is(err, ErrNotHere) {
		if err == nil {
			s.keepMeaning(r)
		}
		return l, false, err
	}
	listing, err := s.Hub.List(ctx, r.Repo, r.revision())
	if errors.Is(err, hub.ErrOffline) {
		return nil, false, &Error{
			Kind: ErrNotHere,
			Text: r.Text + " is not on this machine, and offline mode downloads nothing",
			Todo: "pull it once without --offline, or import it with serve bundle; serve list shows the models on this machine",
		}
	}
	if err != nil {
		return nil, false, err
	}
	choice, err := Choose(listing.Files, r)
	if err != nil {
		return nil, false, err
	}
	if err := checkProjector(choice, r); err != nil {
		return nil, false, err
	}
	if err := s.fetch(ctx, listing, r, choice); err != nil {
		return nil, false, err
	}

	l, err = s.findIn(r, listing.Commit)
	if err == nil {
		s.keepMeaning(r)
	}
	return l, true, err
}

// checkProjector refuses a projector other than the one that a row pins.
func checkProjector(c *Choice, r *Reference) error {
	if r.Entry == nil || r.Quant != "" || r.Entry.Projector == nil || r.Entry.Projector.SHA256 == "" {
		return nil
	}
	pin := r.Entry.Projector
	if c.Projector != nil && c.Projector.SHA256 == pin.SHA256 {
		return nil
	}
	return &Error{
		Kind: hub.ErrNotFound,
		Text: fmt.Sprintf("%s: %s no longer has the projector %s", r.Entry.Name, r.Repo, pin.File),
		Todo: fmt.Sprintf("if you trust the current file, use %s/%s", r.Repo, r.Entry.File),
	}
}

// fetch downloads all files of a choice, checks them, and only then makes them
// visible: a set of parts is visible as a whole or not at all. Texts come first, so
// that what is not admitted is not downloaded.
func (s *Store) fetch(ctx context.Context, l *hub.Listing, r *Reference, c *Choice) error {
	about := texts(l.Files)
	files := append(c.Files(), about...)
	if err := s.Hub.CheckRoom(l, files); err != nil {
		return err
	}
	for _, f := range about {
		if err := s.fetchFile(ctx, l, f); err != nil {
			return err
		}
	}
	if err := s.admit(ctx, s.arriving(l, r, c, about, false)); err != nil {
		return err
	}

	for _, f := range c.Files() {
		if err := s.fetchFile(ctx, l, f); err != nil {
			return err
		}
	}
	if err := s.guard(l, c); err != nil {
		return err
	}
	if err := s.admit(ctx, s.arriving(l, r, c, about, true)); err != nil {
		return err
	}

	if err := s.saveListing(l); err != nil {
		return err
	}
	return s.Hub.Link(l, files)
}

// fetchFile downloads one content. If it is already on this machine, but damaged, it is
// downloaded again.
func (s *Store) fetchFile(ctx context.Context, l *hub.Listing, f hub.File) error {
	c := hub.CachedFile{File: f, Name: s.Hub.Blob(l.Repo, f.ETag())}
	verified, err := s.Hub.Download(ctx, l, f)
	if err == nil && !verified {
		if err = s.verify(ctx, c, false); errors.Is(err, hub.ErrIntegrity) {
			s.Hub.Progress().Note(err.Error() + "; fetching it again")
			if err := s.Hub.Drop(l.Repo, f.ETag()); err != nil {
				return err
			}
			verified, err = s.Hub.Download(ctx, l, f)
		}
	}
	if err != nil {
		return err
	}
	if id, err := identify(c.Name); err == nil && verified {
		s.remember(c, id)
	}
	return nil
}

// guard checks the headers. Refused files are removed.
func (s *Store) guard(l *hub.Listing, c *Choice) error {
	var parts []string
	for _, f := range c.Weights {
		parts = append(parts, s.Hub.Blob(l.Repo, f.ETag()))
	}
	_, err := ReadModel(parts)
	if err == nil && c.Projector != nil {
		_, err = ReadHeader(s.Hub.Blob(l.Repo, c.Projector.ETag())) // loading checks whether it can be used
	}
	if err == nil {
		return nil
	}
	for _, f := range c.Files() {
		err = errors.Join(err, s.Hub.Drop(l.Repo, f.ETag()))
	}
	return fmt.Errorf("%s/%s: %w", l.Repo, c.Weights[0].Path, err)
}

// listing returns the stored listing of a commit, if there is one.
func (s *Store) listing(repo, commit string) *hub.Listing {
	b, err := os.ReadFile(s.listingFile(repo, commit))
	if err != nil {
		return nil
	}
	var l hub.Listing
	if json.Unmarshal(b, &l) != nil || l.Repo != repo || l.Commit != commit {
		return nil
	}
	return &l
}

// saveListing stores a listing. Files of the same commit that were stored before are
// kept: a bundle may list fewer.
func (s *Store) saveListing(l *hub.Listing) error {
	merged := *l
	merged.Files = slices.Clone(l.Files)
	if known := s.listing(l.Repo, l.Commit); known != nil {
		for _, f := range known.Files {
			if !slices.ContainsFunc(l.Files, func(g hub.File) bool { return g.Path == f.Path }) {
				merged.Files = append(merged.Files, f)
			}
		}
	}
	b, err := json.Marshal(merged)
	if err != nil {
		return err
	}
	return hub.WriteFile(s.listingFile(l.Repo, l.Commit), b, 0o600)
}

func (s *Store) listingFile(repo, commit string) string {
	return filepath.Join(s.Home, "listings", strings.ReplaceAll(repo, "/", "--"), commit+".json")
}

// List returns every model on this machine that a reference can name, in order of
// repository and path.
func (s *Store) List() ([]*Local, error) {
	repos, err := s.Hub.Repos()
	if err != nil {
		return nil, err
	}

	var list []*Local
	for _, repo := range repos {
		for _, commit := range s.Hub.Commits(repo) {
			files, err := s.Hub.Files(repo, commit)
			if err != nil {
				return nil, err
			}
			all := make([]hub.File, len(files))
			for i := range files {
				all[i] = files[i].File
			}
			for _, c := range candidates(all) {
				if l := s.named(repo, commit, &c); l != nil {
					list = append(list, l)
				}
			}
		}
	}

	return list, nil
}

// named finds the shortest reference that means a candidate; nil if some of its parts
// are missing.
func (s *Store) named(repo, commit string, c *candidate) *Local {
	var names []string
	for _, e := range Catalog() {
		if e.Repo == repo {
			names = append(names, e.Name)
			if c.quant != "" {
				names = append(names, e.Name+":"+c.quant)
			}
		}
	}

	if c.quant != "" {
		names = append(names, repo+":"+c.quant, repo+"@"+commit+":"+c.quant)
	}

	first := c.parts[0].Path
	names = append(names, repo+"/"+first, repo+"/"+first+"@"+commit)
	for _, name := range names {
		r, err := ParseReference(name, func(string) bool { return false })
		if err != nil {
			continue
		}
		if l, err := s.Find(r); err == nil && l.Commit == commit && l.Weights[0].Path == first {
			return l
		}
	}

	return nil
}

// Remove removes a model from this machine and returns the bytes that were freed.
// Files that another model in the same snapshot needs are kept.
func (s *Store) Remove(l *Local) (int64, error) {
	if l.Demo {
		return 0, &Error{Kind: ErrReference, Text: "demo is built into serve and cannot be removed"}
	}
	if l.Repo == "" {
		return 0, &Error{
			Kind: ErrReference,
			Text: l.Path() + " is your own file; serve did not download it",
			Todo: "delete it yourself",
		}
	}

	all, err := s.List()
	if err != nil {
		return 0, err
	}

	needed := map[string]bool{}
	others := false
	for _, o := range all {
		if o.Repo == l.Repo && o.Commit == l.Commit && o.Path() != l.Path() {
			others = true
			for _, f := range o.Files() {
				needed[f.Path] = true
			}
		}
	}

	var paths []string
	for _, f := range l.Files() {
		if !needed[f.Path] {
			paths = append(paths, f.Path)
		}
	}

	freed, err := s.Hub.Remove(l.Repo, l.Commit, paths)
	if err == nil && !others {
		err = os.RemoveAll(s.listingFile(l.Repo, l.Commit))
	}

	return freed, err
}

package models

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"serve/hub"
)

// ErrRefused means that a model may not be used here: the policy does not admit it.
var ErrRefused = errors.New("refused by policy")

// ErrTerms means that a model has a license that must be accepted first.
var ErrTerms = errors.New("license not accepted")

// Candidate is a model that is about to be downloaded, imported or loaded, as it is described to who decides about
// that.
type Candidate struct {
	Name    string // as it was asked for
	Repo    string // "" for a plain file and the demo, as Commit
	Commit  string
	License string // "" if it is unknown
	Link    string // to the license's text, if the repository has one
	Gated   string // "auto" or "manual" if the repository wants its terms to be accepted
	Files   []CandidateFile
	Texts   []CandidateFile // license files and signatures, all of which are on this machine
	// Arriving is set if the model is not on this machine yet, or not yet visible.
	Arriving bool
	Remote   bool // a client of a server wants it: nobody sits before this process
}

// CandidateFile is a file that an engine opens, or a text about it.
type CandidateFile struct {
	hub.File        // with the SHA-256 that its content was compared with, if there is one
	Place    string // its path on this machine; "" if it was not downloaded yet
	// State is another text if the file is another one now, or has been changed; "" if it is not on this machine.
	State string
}

// State returns the State of a CandidateFile.
func State(info fs.FileInfo) string {
	b, _ := json.Marshal(identityOf(info)) // numbers alone
	return string(b)
}

// Admission decides about a model: nil admits it, and an ErrRefused does not.
type Admission func(context.Context, *Candidate) error

// Candidate describes the model, whose files must have been verified.
func (l *Local) Candidate() (*Candidate, error) {
	c := &Candidate{Name: l.Name, Repo: l.Repo, Commit: l.Commit, License: l.License, Link: l.Link}
	files := l.Weights
	if l.Projector != nil {
		files = append(files[:len(files):len(files)], *l.Projector)
	}
	for _, f := range files {
		info, err := os.Stat(f.Name)
		if err != nil {
			return nil, err
		}
		c.Files = append(c.Files, CandidateFile{File: f.File, Place: f.Name, State: State(info)})
	}
	for _, f := range l.Texts {
		c.Texts = append(c.Texts, CandidateFile{File: f.File, Place: f.Name})
	}
	if l.Repo == "" && !l.Demo {
		c.Texts = append(c.Texts, besides(l.Path())...)
		if h, err := ReadHeader(l.Path()); err == nil {
			c.License = h.String("general.license")
		}
	}
	return c, nil
}

// signatureFile is the name of the signature of a whole folder.
const signatureFile = "model.sig"

// IsSignature reports whether a file may be the signature of a model, by its name.
func IsSignature(name string) bool {
	return path.Base(name) == signatureFile || strings.HasSuffix(strings.ToLower(name), ".gguf.sig")
}

// besides returns where the signature of somebody's own file may lie.
func besides(file string) []CandidateFile {
	var list []CandidateFile
	for _, place := range []string{file + ".sig", filepath.Join(filepath.Dir(file), signatureFile)} {
		list = append(list, CandidateFile{File: hub.File{Path: filepath.Base(place)}, Place: place})
	}
	return list
}

// Admitted asks whether a model on this machine may be used. Its files must have been verified.
func (s *Store) Admitted(ctx context.Context, l *Local) error {
	if s.Admit == nil {
		return nil
	}
	c, err := l.Candidate()
	if err != nil {
		return err
	}
	return s.Admit(ctx, c)
}

// arriving describes a model of a listing whose texts were downloaded, and its files if they are.
func (s *Store) arriving(l *hub.Listing, r *Reference, c *Choice, texts []hub.File, downloaded bool) *Candidate {
	found := &Candidate{
		Repo: l.Repo, Commit: l.Commit, License: l.License, Link: l.Link, Gated: l.Gated, Name: r.Text, Arriving: true,
		Remote: s.Remote,
	}
	if found.License == "" && r.Entry != nil {
		found.License = r.Entry.License
	}
	for _, f := range c.Files() {
		file := CandidateFile{File: f}
		if downloaded {
			file.Place = s.Hub.Blob(l.Repo, f.ETag())
		}
		found.Files = append(found.Files, file)
	}
	for _, f := range texts {
		found.Texts = append(found.Texts, CandidateFile{File: f, Place: s.Hub.Blob(l.Repo, f.ETag())})
	}
	return found
}

// admit asks whether a model that arrives may be used.
func (s *Store) admit(ctx context.Context, c *Candidate) error {
	if s.Admit == nil {
		return nil
	}
	return s.Admit(ctx, c)
}

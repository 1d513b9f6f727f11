// Package terms remembers who has accepted the licenses of models that restrict what they may be used for, and lets no
// such model arrive before.
package terms

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"serve/models"
)

// free has the licenses that let everybody use a model for everything, by their names on the Hub.
var free = []string{
	"afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear",
	"bsl-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "ecl-2.0",
	"epl-2.0", "eupl-1.1", "eupl-1.2", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "mit",
	"mpl-2.0", "ms-pl", "ncsa", "odc-by", "openmdw", "openmdw-1.0", "openmdw-1.1", "pddl", "postgresql", "unlicense",
	"wtfpl", "zlib",
}

// Restricts reports whether a license has to be accepted: it is none of those that allow every use, or its repository
// wants its terms to be accepted. Where no license is known there is nothing to accept.
func Restricts(license, gated string) bool {
	if gated != "" {
		return true
	}
	for id := range strings.SplitSeq(license, ",") { // a model may have several
		id = strings.ToLower(strings.TrimSpace(id))
		if id != "" && id != "unknown" && !slices.Contains(free, id) {
			return true
		}
	}
	return false
}

// Acceptance records that somebody has accepted a license.
type Acceptance struct {
	Time    time.Time `json:"time"`
	By      string    `json:"by"` // the user of this machine
	License string    `json:"license"`
	Link    string    `json:"license_link,omitempty"`
	Texts   []Text    `json:"texts,omitempty"` // of the license, as they were in the repository
	Model   string    `json:"model"`           // with which it came
	Repo    string    `json:"repo"`
	Commit  string    `json:"commit"`
	How     string    `json:"how"` // "terminal" or "flag"
}

// Text is a file with a license's text.
type Text struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// The ways to accept a license.
const (
	byTerminal = "terminal"
	byFlag     = "flag"
)

// Book is a file of acceptances, one a line, to which lines are added.
type Book string

// In returns the book in serve's own folder.
func In(home string) Book { return Book(filepath.Join(home, "licenses.jsonl")) }

// List returns all acceptances, in the order in which they were made.
func (b Book) List() ([]Acceptance, error) {
	f, err := os.Open(string(b))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()

	var list []Acceptance
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var a Acceptance
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			continue // the machine stopped while it was written
		}
		list = append(list, a)
	}
	return list, lines.Err()
}

// add adds an acceptance. It is on the disk when add returns.
func (b Book) add(a Acceptance) error {
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(string(b)), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(string(b), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// A line of its own even if the one before was cut off: an empty one is no acceptance.
	_, err = f.Write([]byte("\n" + string(line) + "\n"))
	return errors.Join(err, f.Sync(), f.Close())
}

// Gate lets models arrive whose licenses need no acceptance, or have it.
type Gate struct {
	Book     Book
	Accepted []string // licenses that a flag accepts
	// Ask asks the user; nil if there is none. What clients of a server want is not the user's question.
	Ask func(ctx context.Context, question string) (yes bool, err error)
}

// Admit decides about a model. It is a models.Admission.
func (g *Gate) Admit(ctx context.Context, c *models.Candidate) error {
	if !c.Arriving || !Restricts(c.License, c.Gated) {
		return nil
	}
	a, err := describe(c)
	if err != nil {
		return err
	}
	known, err := g.Book.List()
	if err != nil {
		return fmt.Errorf("read the accepted licenses: %w", err)
	}
	if a.isAmong(known) {
		return nil
	}

	by := func(id string) bool { return strings.EqualFold(strings.TrimSpace(id), a.License) }
	switch {
	case slices.ContainsFunc(g.Accepted, by):
		a.How = byFlag
	case g.Ask != nil && !c.Remote:
		yes, err := g.Ask(ctx, a.question(c))
		if err != nil {
			return err
		}
		if !yes {
			return refusal(a, c)
		}
		a.How = byTerminal
	default:
		return refusal(a, c)
	}

	a.Time = time.Now().UTC().Truncate(time.Second)
	if err := g.Book.add(*a); err != nil {
		return fmt.Errorf("record that the license was accepted: %w", err)
	}
	return nil
}

// describe returns the acceptance that a model needs.
func describe(c *models.Candidate) (*Acceptance, error) {
	a := &Acceptance{License: c.License, Link: c.Link, Model: c.Name, Repo: c.Repo, Commit: c.Commit, By: userName()}
	if a.License == "" {
		a.License = c.Repo // its terms are its own
	}
	for _, f := range c.Texts {
		if !models.IsLicense(f.Path) {
			continue
		}
		text, err := os.ReadFile(f.Place)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		a.Texts = append(a.Texts, Text{Path: f.Path, SHA256: hex.EncodeToString(sum[:])})
	}
	return a, nil
}

// userName returns the name of who runs this program.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// isAmong reports whether the license was accepted, and each of its texts.
func (a *Acceptance) isAmong(known []Acceptance) bool {
	accepted := false
	texts := map[string]bool{}
	for _, k := range known {
		if strings.EqualFold(k.License, a.License) {
			accepted = true
			for _, t := range k.Texts {
				texts[t.SHA256] = true
			}
		}
	}
	return accepted && !slices.ContainsFunc(a.Texts, func(t Text) bool { return !texts[t.SHA256] })
}

// where says where a license can be read.
func (a *Acceptance) where(c *models.Candidate) string {
	var places []string
	if a.Link != "" {
		places = append(places, a.Link)
	}
	for _, f := range c.Texts {
		if models.IsLicense(f.Path) {
			places = append(places, f.Place)
		}
	}
	if len(places) == 0 {
		return "the model's page, " + a.Repo
	}
	return strings.Join(places, ", ")
}

func (a *Acceptance) question(c *models.Candidate) string {
	return fmt.Sprintf("%s has the license %s, which restricts its use (%s); do you accept it?",
		c.Name, a.License, a.where(c))
}

func refusal(a *Acceptance, c *models.Candidate) error {
	if c.Gated != "" && c.License == "" {
		return &models.Error{
			Kind: models.ErrTerms,
			Text: fmt.Sprintf("%s is gated: its authors want their terms to be accepted", c.Name),
			Todo: fmt.Sprintf("accept its terms at the model's page, %s, and here once with serve pull %s --accept-license %s",
				a.Repo, c.Name, a.License),
		}
	}
	return &models.Error{
		Kind: models.ErrTerms,
		Text: fmt.Sprintf("%s has the license %s, which restricts its use and was not accepted", c.Name, a.License),
		Todo: fmt.Sprintf("read it (%s), and accept it once with serve pull %s --accept-license %s",
			a.where(c), c.Name, a.License),
	}
}

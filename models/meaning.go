package models

import (
	"os"
	"path/filepath"
	"strings"

	"serve/hub"
)

// Settle decides what an incomplete name means. A later catalog may choose another
// model, and a machine may be offline: as long as the model that the name meant when
// it was last used is on this machine, the name keeps that meaning. Any other
// reference is returned unchanged.
func (s *Store) Settle(r *Reference) *Reference {
	if !r.Chosen {
		return r
	}
	before := s.meant(r)
	if before == nil || before.Name == r.Entry.Name {
		return r
	}

	_, quant := cutQuant(strings.ToLower(r.Text)) // the default may differ
	earlier := (&Reference{Text: r.Text, Chosen: true}).at(before, quant)
	if _, err := s.Find(earlier); err != nil {
		return r
	}
	return earlier
}

// meant returns the row that a name meant when it was last used on this machine, or nil.
func (s *Store) meant(r *Reference) *Entry {
	b, err := os.ReadFile(s.meaningFile(r))
	if err != nil {
		return nil
	}
	e := lookUp(strings.TrimSpace(string(b)))
	if e == nil || e.WhyUnserved() != "" {
		return nil
	}
	return e
}

// keepMeaning records what a name means on this machine. If Home cannot be written, the
// only consequence is that a later catalog decides again.
func (s *Store) keepMeaning(r *Reference) {
	if !r.Chosen {
		return
	}
	if before := s.meant(r); before == nil || before.Name != r.Entry.Name {
		_ = hub.WriteFile(s.meaningFile(r), []byte(r.Entry.Name+"\n"), 0o600)
	}
}

// meaningFile is named after the words of the name, all of which are in the catalog.
func (s *Store) meaningFile(r *Reference) string {
	name, _ := cutQuant(strings.ToLower(r.Text))
	return filepath.Join(s.Home, "names", strings.Join(nameWords(strings.TrimSuffix(name, ":latest")), "-"))
}

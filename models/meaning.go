package models

import (
	"os"
	"path/filepath"
	"strings"

	"serve/hub"
)

// Settle decides what a name means that leaves a choice to the catalog. A later
// catalog may choose otherwise, and a machine may be offline: as long as the model
// is here that the name meant when it was last used, it goes on meaning that.
// Any other reference is returned as it is.
func (s *Store) Settle(r *Reference) *Reference {
	if !r.Chosen {
		return r
	}
	before := s.meant(r)
	if before == nil || before.Name == r.Entry.Name {
		return r
	}

	_, quant := cutQuant(strings.ToLower(r.Text)) // the default is another one, perhaps
	earlier := (&Reference{Text: r.Text, Chosen: true}).at(before, quant)
	if _, err := s.Find(earlier); err != nil {
		return r
	}
	return earlier
}

// meant is the row that a name meant when it was last used here, or nil.
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

// keepMeaning notes what a name means on this machine. A home that cannot be written
// costs that a later catalog decides anew, and nothing else.
func (s *Store) keepMeaning(r *Reference) {
	if !r.Chosen {
		return
	}
	if before := s.meant(r); before == nil || before.Name != r.Entry.Name {
		_ = hub.WriteFile(s.meaningFile(r), []byte(r.Entry.Name+"\n"), 0o644)
	}
}

// meaningFile is called after the words of the name, all of which the catalog has.
func (s *Store) meaningFile(r *Reference) string {
	name, _ := cutQuant(strings.ToLower(r.Text))
	return filepath.Join(s.Home, "names", strings.Join(nameWords(strings.TrimSuffix(name, ":latest")), "-"))
}

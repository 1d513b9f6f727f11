package models

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/agnivade/levenshtein"
)

// Entry is a row of the catalogue: a model that is known by a plain name.
type Entry struct {
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitempty"`
	Repo    string   `json:"repo"`             // of the Hub
	Commit  string   `json:"commit,omitempty"` // pinned; "" for the newest of main
	File    string   `json:"file"`             // in its default quantisation
	Bytes   int64    `json:"bytes"`
	// BytesEstimated says that Bytes is rounded.
	BytesEstimated bool `json:"bytes_estimated,omitempty"`
	// SHA256 is the file's; without one the Hub's listing is trusted.
	SHA256    string        `json:"sha256,omitempty"`
	Projector *EntrySidecar `json:"projector,omitempty"`
	License   string        `json:"license"`
	Context   int           `json:"context"`            // tokens it was trained for
	Use       string        `json:"use"`                // what it is for, in a few words
	KVBytes   int64         `json:"kv_bytes,omitempty"` // that a token's keys and values take, as f16
	Embeds    bool          `json:"embeds,omitempty"`   // makes embeddings, not text
	Vision    bool          `json:"vision,omitempty"`   // sees images, with a projector
}

// EntrySidecar is a second file of a model.
type EntrySidecar struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256,omitempty"`
}

// Quant is the default quantisation.
func (e *Entry) Quant() string { return ParseQuant(e.File) }

// Memory estimates the bytes that the model needs to answer one request of
// context tokens at a time, or of as many as it was trained for if that is less.
func (e *Entry) Memory(context int) int64 {
	const compute = 300 << 20 // buffers and the program; more for large vocabularies
	n := e.Bytes + e.KVBytes*int64(min(context, e.Context)) + compute
	if e.Projector != nil {
		n += e.Projector.Bytes
	}
	return n
}

//go:embed catalog.json
var catalogJSON []byte

// Catalog returns every row, in the order of the file: by family.
var Catalog = sync.OnceValue(func() []Entry {
	var rows []Entry
	if err := json.Unmarshal(catalogJSON, &rows); err != nil {
		panic("models: the embedded catalogue: " + err.Error())
	}
	return rows
})

// lookUp finds a row by its name or an alias, or returns nil.
func lookUp(name string) *Entry {
	name = strings.ToLower(name)
	rows := Catalog()
	for i := range rows {
		if rows[i].Name == name || slices.Contains(rows[i].Aliases, name) {
			return &rows[i]
		}
	}
	return nil
}

// Search returns the rows in whose names or uses every word occurs.
func Search(words []string) []Entry {
	var found []Entry
	for _, e := range Catalog() {
		text := strings.ToLower(strings.Join(append([]string{e.Name, e.Repo, e.License, e.Use}, e.Aliases...), " "))
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, strings.ToLower(w)) }) {
			found = append(found, e)
		}
	}
	return found
}

// suggestions is how many near names are offered.
const suggestions = 3

// nearest returns the names of the catalogue that are most like a mistyped one.
func nearest(name string) []string {
	type near struct {
		name     string
		distance int
	}
	name = strings.ToLower(name[:min(len(name), 64)])
	var list []near
	for _, e := range Catalog() {
		best := near{e.Name, 1 << 30}
		for _, n := range append([]string{e.Name}, e.Aliases...) {
			d := levenshtein.ComputeDistance(name, n)
			if strings.HasPrefix(n, name) || strings.HasPrefix(name, n) {
				d = min(d, 1) // the beginning of a name is meant
			}
			best.distance = min(best.distance, d)
		}
		if best.distance <= max(2, len(name)/3) {
			list = append(list, best)
		}
	}
	slices.SortStableFunc(list, func(a, b near) int { return cmp.Compare(a.distance, b.distance) })
	var names []string
	for _, n := range list[:min(len(list), suggestions)] {
		names = append(names, n.name)
	}
	return names
}

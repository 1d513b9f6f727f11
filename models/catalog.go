package models

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Entry is a row of the catalog: a model with a short name.
type Entry struct {
	Name    string   `json:"name"`
	Aliases []string `json:"aliases,omitempty"` // beyond those that the rules of resolve accept
	// DefaultFor has names of families that currently mean this model.
	DefaultFor []string `json:"default_for,omitempty"`
	Kinds      []string `json:"kinds"`
	Use        string   `json:"use"` // what it is for, in a few words

	// Unserved says why serve cannot load the model, although it supports its kind.
	Unserved string `json:"unserved,omitempty"`
	// Engine is the program that the file was made for; "" for llama.cpp.
	Engine       string `json:"engine,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	DraftOf      string `json:"draft_of,omitempty"`
	DraftMethod  string `json:"draft_method,omitempty"`

	Repo   string `json:"repo,omitempty"`   // of the Hub
	Commit string `json:"commit,omitempty"` // pinned; "" for the newest commit of main
	URL    string `json:"url,omitempty"`    // of a file that is not on the Hub
	File   string `json:"file"`             // in its default quantization; the first part of a split model
	Bytes  int64  `json:"bytes,omitempty"`  // of all parts; 0 if unknown
	// BytesEstimated says that Bytes is rounded.
	BytesEstimated bool `json:"bytes_estimated,omitempty"`
	// SHA256 is the file's; without one the Hub's listing is trusted.
	SHA256     string           `json:"sha256,omitempty"`
	Parts      []EntryFile      `json:"parts,omitempty"` // of a split model, in place of SHA256
	Projector  *EntryFile       `json:"projector,omitempty"`
	Components []EntryComponent `json:"components,omitempty"`

	License string `json:"license"`
	// LicenseAssumed is set if the license was not checked in the repository.
	LicenseAssumed bool `json:"license_assumed,omitempty"`
	Context        int  `json:"context,omitempty"` // tokens it was trained for; 0 if unknown
	// KVBytes is the size of a token's keys and values in f16; 0 if unknown, or none.
	KVBytes int64 `json:"kv_bytes,omitempty"`
	// Certainty says how well public sources agree on the row: high, medium or low.
	Certainty string `json:"certainty,omitempty"`
}

// EntryFile is one file of a model beside the main one, or a part of it.
type EntryFile struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes,omitempty"` // 0 if unknown
	SHA256 string `json:"sha256,omitempty"`
}

// EntryComponent is a model that another one needs, such as the text encoder of
// an image generator.
type EntryComponent struct {
	Part   string `json:"part,omitempty"`
	Repo   string `json:"repo"`
	Commit string `json:"commit,omitempty"`
	EntryFile
}

// Kind is a kind of model.
type Kind struct {
	Name   string
	Does   string // of a model of this kind: "it …"
	Served bool
}

// Kinds has all kinds of models; those that serve supports come first.
var Kinds = []Kind{
	{"chat", "chats", true},
	{"vision", "sees images", true},
	{"reasoning", "reasons before it answers", true},
	{"code", "writes code", true},
	{"embedding", "computes embeddings", true},
	{"reranking", "ranks passages", true},
	{"moderation", "checks text for unsafe content", true},
	{"audio", "understands audio", false},
	{"transcription", "transcribes speech", false},
	{"voice-activity", "detects speech", false},
	{"speech", "speaks", false},
	{"image", "generates images", false},
	{"draft", "drafts tokens for another model", false},
}

// kindOf returns the kind with a name, or nil.
func kindOf(name string) *Kind {
	i := slices.IndexFunc(Kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return nil
	}
	return &Kinds[i]
}

// Is reports whether a model is of a kind.
func (e *Entry) Is(kind string) bool { return slices.Contains(e.Kinds, kind) }

// ServedKinds returns the names of the kinds of models that serve supports.
func ServedKinds() []string {
	var names []string
	for _, k := range Kinds {
		if k.Served {
			names = append(names, k.Name)
		}
	}
	return names
}

// ServedKinds returns the kinds of the model that serve supports.
func (e *Entry) ServedKinds() []string {
	unserved := func(kind string) bool { return !slices.Contains(ServedKinds(), kind) }
	return slices.DeleteFunc(slices.Clone(e.Kinds), unserved)
}

// WhyUnserved returns why serve cannot load the model, or "".
func (e *Entry) WhyUnserved() string {
	if e.Unserved != "" {
		return e.Unserved
	}
	if e.Engine != "" {
		return fmt.Sprintf("it %s, and requires %s", kindOf(e.Kinds[0]).Does, e.Engine)
	}
	if slices.ContainsFunc(e.Kinds, func(name string) bool { return kindOf(name).Served }) {
		return ""
	}
	return fmt.Sprintf("it %s, which serve does not support yet", kindOf(e.Kinds[0]).Does)
}

// Quant returns the default quantization, or "" if the file's name does not contain it.
func (e *Entry) Quant() string { return ParseQuant(e.File) }

// hashes returns the SHA-256 of the file, or of all parts in order; nil unless all
// are known.
func (e *Entry) hashes() []string {
	if len(e.Parts) == 0 && e.SHA256 != "" {
		return []string{e.SHA256}
	}
	var list []string
	for _, part := range e.Parts {
		if part.SHA256 == "" {
			return nil
		}
		list = append(list, part.SHA256)
	}
	return list
}

// Hash returns the SHA-256 of the file, or of the first part of a split model; "" if
// the Hub's listing must be trusted.
func (e *Entry) Hash() string {
	if list := e.hashes(); len(list) > 0 {
		return list[0]
	}
	return ""
}

// Memory estimates the bytes that the model needs to answer one request at a time of
// context tokens, or of as many as it was trained for if that is less. If whole is
// false, this is a lower bound, because not all of its dimensions are known.
func (e *Entry) Memory(context int) (n int64, whole bool) {
	const compute = 300 << 20 // buffers and the program; more for large vocabularies

	tokens := context
	if e.Context > 0 {
		tokens = min(context, e.Context)
	}
	n = e.Bytes + e.KVBytes*int64(tokens) + compute
	whole = e.Bytes > 0 && (e.KVBytes > 0 || e.Is("embedding") || e.Is("reranking"))

	if e.Projector != nil {
		n += e.Projector.Bytes
		whole = whole && e.Projector.Bytes > 0
	}
	return n, whole
}

//go:embed catalog/*.json
var catalogFiles embed.FS

// everyEntry returns all rows, in the order of the files and their rows. Some are of
// kinds that serve does not support yet.
var everyEntry = sync.OnceValue(func() []Entry {
	const folder = "catalog"
	files, err := catalogFiles.ReadDir(folder)
	if err != nil {
		panic("models: the embedded catalog: " + err.Error())
	}

	var all []Entry
	for _, f := range files {
		rows, err := readCatalog(folder + "/" + f.Name())
		if err != nil {
			panic(err.Error())
		}
		all = append(all, rows...)
	}
	return all
})

// readCatalog reads one file of the catalog: the models of a family or a kind.
func readCatalog(name string) ([]Entry, error) {
	b, err := catalogFiles.ReadFile(name)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()

	var rows []Entry
	if err := decoder.Decode(&rows); err != nil {
		return nil, fmt.Errorf("models: the embedded %s: %w", name, err)
	}
	for _, e := range rows {
		if i := slices.IndexFunc(e.Kinds, func(k string) bool { return kindOf(k) == nil }); i >= 0 || len(e.Kinds) == 0 {
			return nil, fmt.Errorf("models: the embedded %s: %s is of an unknown kind: %v", name, e.Name, e.Kinds)
		}
	}
	return rows, nil
}

// Catalog returns all rows that serve can load, in the order of the files.
var Catalog = sync.OnceValue(func() []Entry {
	var rows []Entry
	for _, e := range everyEntry() {
		if e.WhyUnserved() == "" {
			rows = append(rows, e)
		}
	}
	return rows
})

// lookUp returns the row with a name or alias, or nil.
func lookUp(name string) *Entry {
	name = strings.ToLower(name)
	rows := everyEntry()
	for i := range rows {
		if rows[i].Name == name || slices.Contains(rows[i].Aliases, name) {
			return &rows[i]
		}
	}
	return nil
}

// Search returns the rows that are of all kinds and contain every word in their names,
// licenses or uses.
func Search(words, kinds []string) []Entry {
	var found []Entry
	for _, e := range Catalog() {
		names := slices.Concat([]string{e.Name, e.Repo, e.License, e.Use}, e.Aliases, e.DefaultFor, e.Kinds)
		text := strings.ToLower(strings.Join(names, " "))
		lacks := func(word string) bool { return !strings.Contains(text, strings.ToLower(word)) }
		isNot := func(kind string) bool { return !e.Is(kind) }

		if !slices.ContainsFunc(words, lacks) && !slices.ContainsFunc(kinds, isNot) {
			found = append(found, e)
		}
	}
	return found
}

package models

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"serve/hub"
	"serve/models/demo"
)

// ErrReference means that a reference is invalid, or names nothing.
var ErrReference = errors.New("no such model")

// Reference identifies a model: a file on this machine, a row of the catalog, or a
// part of a repository on the Hub.
type Reference struct {
	Text     string // as it was written
	Path     string // a file on this machine; nothing else is set then
	Demo     bool   // the built-in model; nothing else is set then
	Entry    *Entry // the row of the catalog that Text names, or nil
	Chosen   bool   // Text is incomplete, and Entry is the catalog's choice
	Repo     string // org/name
	Revision string // a branch, tag or commit; "" for the catalog's or main
	File     string // one file of the repository
	Quant    string // one quantization of it, upper case; "" for the default
}

// maxReference is more than any reference needs.
const maxReference = 1024

// hosts are the prefixes of references that are copied from a browser.
var hosts = []string{"hf.co/", "huggingface.co/", "www.huggingface.co/", "hf://", "hf:"}

// ParseReference parses a model's name as users write it:
//
//	demo                    the model that the program carries
//	mistral-7b              a row of the catalog
//	mistral-7b:Q8_0         the same repository in another quantization
//	qwen3.5:9b-q8_0         the same, as Ollama writes it
//	qwen                    a family: what the catalog chooses of it
//	org/repo                a repository of the Hub, in its default quantization
//	org/repo:Q4_K_M         one quantization of it
//	org/repo/file.gguf      one file of it
//	org/repo@revision       at a branch, a tag or a commit; :QUANT may follow
//	hf.co/org/repo          what a browser shows, /blob/main/file.gguf too
//	./file.gguf             a file
//
// exists reports whether a path is a file on this machine; existing files take precedence.
func ParseReference(text string, exists func(path string) bool) (*Reference, error) {
	r := &Reference{Text: text}
	if text == "" {
		return nil, &Error{Kind: ErrReference, Text: "the name of the model is empty"}
	}
	if len(text) > maxReference ||
		strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return nil, fmt.Errorf("%w: %q", ErrReference, text)
	}

	if isPath(text, exists) {
		r.Path = text
		return r, nil
	}

	if text == demo.Name {
		r.Demo = true
		return r, nil
	}

	rest, fromHub := trimHost(text)
	if strings.Contains(rest, "://") {
		return nil, &Error{
			Kind: ErrReference,
			Text: fmt.Sprintf("%q is not a URL on the Hugging Face Hub", text),
			Todo: "download the file yourself and serve it as ./file.gguf; for a mirror of the Hub, set HF_ENDPOINT",
		}
	}

	if !fromHub && !strings.Contains(rest, "/") {
		return r.byName(rest)
	}

	return r.inRepo(rest)
}

// isGGUF reports whether a file's name has the extension of a model, in upper or lower case.
func isGGUF(name string) bool { return strings.EqualFold(filepath.Ext(name), ".gguf") }

// isPath recognizes paths: text that begins with ./ or /, or has the extension of a
// model and fewer slashes than org/repo/file. An existing file is a path too.
func isPath(text string, exists func(string) bool) bool {
	for _, prefix := range []string{"./", "../", "/", "~/", `.\`, `..\`} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return filepath.IsAbs(text) ||
		isGGUF(text) && !strings.Contains(text, "://") && (strings.Count(text, "/") < 2 || exists(text))
}

// trimHost removes the Hub's URL from a reference that has it.
func trimHost(text string) (rest string, ok bool) {
	plain := strings.TrimPrefix(strings.TrimPrefix(text, "https://"), "http://")
	for _, host := range hosts {
		tail, found := strings.CutPrefix(plain, host)
		if !found {
			continue
		}
		tail, _, _ = strings.Cut(tail, "?")
		if unescaped, err := url.PathUnescape(tail); err == nil {
			tail = unescaped
		}
		return strings.Trim(tail, "/"), true
	}
	return text, false
}

// at sets the fields of a reference from a row of the catalog.
func (r *Reference) at(e *Entry, quant string) *Reference {
	r.Entry = e
	r.Repo = e.Repo
	r.Revision = e.Commit
	r.Quant = strings.ToUpper(quant)
	if r.Quant == e.Quant() {
		r.Quant = ""
	}
	return r
}

// ErrUnserved means that serve cannot load a model in the catalog.
var ErrUnserved = errors.New("this model cannot be served")

// byName parses a name in the catalog.
func (r *Reference) byName(text string) (*Reference, error) {
	found := resolve(text)
	if found.entry == nil {
		return nil, r.noSuchName(text)
	}
	if why := found.entry.WhyUnserved(); why != "" {
		return nil, &Error{
			Kind: ErrUnserved,
			Text: fmt.Sprintf("%s cannot be served: %s", found.entry.Name, why),
			Todo: "serve catalog lists the models that can",
		}
	}
	r.Chosen = found.chosen
	return r.at(found.entry, found.quant), nil
}

// noSuchName returns the error for an unknown name, with similar names.
func (r *Reference) noSuchName(text string) error {
	if i := strings.LastIndex(text, ":"); i > 0 && resolve(text[:i]).entry != nil {
		return &Error{
			Kind: ErrReference,
			Text: fmt.Sprintf("%q: %q is not a quantization, size or variant of %s", r.Text, text[i+1:], text[:i]),
			Todo: similar(text) + "quantizations have names such as Q4_K_M, Q8_0 and F16",
		}
	}
	return &Error{
		Kind: ErrReference,
		Text: fmt.Sprintf("no model is named %q", text),
		Todo: similar(text) + "serve catalog lists the short names; org/repo names any repository on the Hub, " +
			"./file.gguf a local file",
	}
}

// similar suggests similar names.
func similar(text string) string {
	near := nearest(text)
	last := len(near) - 1
	switch len(near) {
	case 0:
		return ""
	case 1:
		return "did you mean " + near[0] + "? "
	}
	return "did you mean " + strings.Join(near[:last], ", ") + " or " + near[last] + "? "
}

// inRepo parses org/repo[@revision][:quant] and org/repo/file.gguf[@revision].
func (r *Reference) inRepo(text string) (*Reference, error) {
	bad := func(why string) error {
		return &Error{
			Kind: ErrReference,
			Text: fmt.Sprintf("%q: %s", r.Text, why),
			Todo: "write org/repo, org/repo:Q4_K_M, org/repo@revision or org/repo/file.gguf",
		}
	}

	text, after, hasRevision := strings.Cut(text, "@")
	path, quant, hasQuant := strings.Cut(text, ":")
	if hasRevision {
		revision, q, ok := strings.Cut(after, ":")
		if ok && hasQuant {
			return nil, bad("it names two quantizations")
		}
		if ok {
			quant = q
			hasQuant = true
		}
		if r.Revision = revision; revision == "" {
			return nil, bad("no revision follows the @")
		}
	}
	if hasQuant {
		r.Quant = ParseQuant(quant)
		if r.Quant == "" || !strings.EqualFold(r.Quant, quant) && !strings.EqualFold("FP16", quant) {
			return nil, bad(fmt.Sprintf("%q is not a quantization", quant))
		}
	}

	parts := strings.Split(path, "/")
	if len(parts) < 2 {
		return nil, bad("the name of a repository must have the form org/name")
	}

	r.Repo = parts[0] + "/" + parts[1]
	if err := hub.CheckRepo(r.Repo); err != nil {
		return nil, bad("the name of a repository must have the form org/name")
	}

	file := parts[2:]
	// The form of a URL in a browser: /blob/main/file.gguf, /tree/main.
	if len(file) > 1 && slices.Contains([]string{"blob", "resolve", "tree", "raw"}, file[0]) && !hasRevision {
		r.Revision = file[1]
		file = file[2:]
	}
	r.File = strings.Join(file, "/")
	if r.File == "" {
		return r, nil
	}
	if err := hub.CheckPath(r.File); err != nil || !isGGUF(r.File) {
		return nil, bad(fmt.Sprintf("%q is not a GGUF file", r.File))
	}
	if hasQuant {
		return nil, bad("a file cannot have another quantization")
	}
	return r, nil
}

// String returns the reference as it was typed.
func (r *Reference) String() string { return r.Text }

// revision returns the revision to request from the Hub.
func (r *Reference) revision() string {
	if r.Revision != "" {
		return r.Revision
	}
	return "main"
}

// FileExists is the exists function that looks at the disk.
func FileExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// Error is a failure of the store, in the form of the Hub's errors: a kind from either
// package, and a hint.
type Error = hub.Error

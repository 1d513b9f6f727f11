package models

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"serve/hub"
)

// Choice is the files of a repository that make up one model.
type Choice struct {
	Quant     string     // upper case, "" if the name does not contain it
	Weights   []hub.File // the parts in order; one if it is not split
	Projector *hub.File  // for images, or nil
}

// Files returns all files of the choice, the weights first.
func (c *Choice) Files() []hub.File {
	files := slices.Clone(c.Weights)
	if c.Projector != nil {
		files = append(files, *c.Projector)
	}
	return files
}

// Bytes is the size of all files.
func (c *Choice) Bytes() (n int64) {
	for _, f := range c.Files() {
		n += f.Size
	}
	return n
}

var quantName = regexp.MustCompile(
	`(?:^|[^0-9A-Z])((?:UD-)?(?:I?Q[1-8](?:_[0-9A-Z]+)*|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32))(?:$|[^0-9A-Z_])`,
)

// ParseQuant returns the quantization in a file's name or folder, in upper case, or
// "". The last one counts: quantizations come at the end.
func ParseQuant(name string) string {
	name = strings.TrimSuffix(strings.ToUpper(name), ".GGUF")
	name = splitName.ReplaceAllString(name, "")
	quant := ""
	for at := 0; at < len(name); {
		m := quantName.FindStringSubmatchIndex(name[at:])
		if m == nil {
			break
		}
		quant = name[at+m[2] : at+m[3]]
		at += m[3] // what follows may begin with the character after
	}
	if bits, ok := strings.CutPrefix(quant, "FP"); ok {
		return "F" + bits
	}
	return quant
}

// Quantizations in order of preference if none is requested: first the ones that are
// almost as good as the original in the memory that people have.
var (
	defaultQuants = []string{
		"Q4_K_M", "UD-Q4_K_XL", "Q4_K_S", "Q4_0", "MXFP4", "MXFP4_MOE", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F16",
		"F32",
	}
	embeddingQuants = []string{"Q8_0", "F16", "BF16", "F32"}
)

var (
	sidecarName   = regexp.MustCompile(`(?i)(^|[-._])(mmproj|imatrix|mtp|eagle3|dflash|dspark)([-._]|$)`)
	projectorName = regexp.MustCompile(`(?i)(^|[-._])mmproj([-._]|$)`)
	embedName     = regexp.MustCompile(`(?i)(^|[-._/])(embed|bge|gte|e5|minilm|rerank)`)
)

// candidate is a model of a repository: one file or all parts of a set.
type candidate struct {
	name  string // the path without the number of a part
	quant string
	parts []hub.File
	want  int // expected number of parts
}

// Choose picks the files of a repository that a reference means. It never replaces
// one quantization by another: if it does not exist, the error lists those that do.
func Choose(files []hub.File, r *Reference) (*Choice, error) {
	if r.Entry != nil && r.Quant == "" {
		return chooseEntry(files, r)
	}

	all := candidates(files)
	if r.File != "" {
		return chooseFile(files, all, r)
	}

	want := []string{r.Quant}
	if r.Quant == "" {
		want = defaultQuants
		if embedName.MatchString(r.Repo) {
			want = append(slices.Clone(embeddingQuants), defaultQuants...)
		}
	}

	for _, quant := range want {
		var found []candidate
		for _, c := range all {
			if c.quant == quant {
				found = append(found, c)
			}
		}
		if len(found) > 1 {
			return nil, several(r, quant, found)
		}
		if len(found) == 1 {
			return found[0].choice(files, r)
		}
	}

	if r.Quant == "" && len(all) == 1 {
		return all[0].choice(files, r)
	}

	return nil, missing(r, all)
}

// chooseEntry finds the files of a row of the catalog: by hash if it has one,
// whatever the file is named now.
func chooseEntry(files []hub.File, r *Reference) (*Choice, error) {
	e := r.Entry
	all := candidates(files)
	pins := e.hashes()
	for _, c := range all {
		if pins != nil && slices.EqualFunc(c.parts, pins, func(f hub.File, hash string) bool { return f.SHA256 == hash }) {
			return pinned(&c, files, r)
		}
	}

	changed := slices.ContainsFunc(files, func(f hub.File) bool { return f.Path == e.File })
	if pins != nil && changed {
		return nil, replaced(e, e.File, pins[0])
	}
	for _, c := range all {
		if c.parts[0].Path == e.File {
			return pinned(&c, files, r)
		}
	}
	return nil, &Error{
		Kind: hub.ErrNotFound,
		Text: fmt.Sprintf("%s: %s no longer has %s", e.Name, e.Repo, e.File),
		Todo: has(all) + "; ask for one as " + e.Repo + ":QUANT",
	}
}

// pinned is the choice of a candidate with the projector of its row, found like its
// weights.
func pinned(c *candidate, files []hub.File, r *Reference) (*Choice, error) {
	choice, err := c.choice(files, r)
	if err != nil || r.Entry.Projector == nil {
		return choice, err
	}

	pin := r.Entry.Projector
	i := slices.IndexFunc(files, func(f hub.File) bool { return pin.SHA256 != "" && f.SHA256 == pin.SHA256 })
	if i < 0 {
		i = slices.IndexFunc(files, func(f hub.File) bool { return f.Path == pin.File })
	}
	if i < 0 {
		return choice, nil // another tool downloaded another projector, or none; Pull accepts only this one
	}
	if pin.SHA256 != "" && files[i].SHA256 != "" && files[i].SHA256 != pin.SHA256 {
		return nil, replaced(r.Entry, pin.File, pin.SHA256)
	}
	choice.Projector = &files[i]
	return choice, nil
}

// replaced returns the error for a file on the Hub that differs from the one that a row pins.
func replaced(e *Entry, file, hash string) error {
	const text = "%s: %s/%s is no longer the file that the catalog knows (%.12s…)"
	return &Error{
		Kind: hub.ErrIntegrity,
		Text: fmt.Sprintf(text, e.Name, e.Repo, file, hash),
		Todo: fmt.Sprintf("if you trust the current file, use %s/%s", e.Repo, e.File),
	}
}

func chooseFile(files []hub.File, all []candidate, r *Reference) (*Choice, error) {
	for _, c := range all {
		if slices.ContainsFunc(c.parts, func(f hub.File) bool { return f.Path == r.File }) {
			return c.choice(files, r)
		}
	}
	// A projector or other auxiliary file is chosen only by name.
	for _, f := range files {
		if f.Path == r.File {
			return &Choice{Quant: ParseQuant(f.Path), Weights: []hub.File{f}}, nil
		}
	}
	return nil, &Error{Kind: hub.ErrNotFound, Text: fmt.Sprintf("%s has no file %s", r.Repo, r.File), Todo: has(all)}
}

// choice checks a candidate and adds its projector.
func (c *candidate) choice(files []hub.File, r *Reference) (*Choice, error) {
	if len(c.parts) != c.want {
		return nil, &Error{
			Kind: hub.ErrNotFound,
			Text: fmt.Sprintf("%s: %s has %d of its %d parts", r.Repo, c.name, len(c.parts), c.want),
			Todo: "choose another quantization",
		}
	}
	return &Choice{Quant: c.quant, Weights: c.parts, Projector: projector(files, c.parts[0].Path)}, nil
}

// candidates groups the model files of a repository, sorted by path.
func candidates(files []hub.File) []candidate {
	var list []candidate
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b hub.File) int { return cmp.Compare(a.Path, b.Path) })
	for _, f := range files {
		if !isGGUF(f.Path) || sidecarName.MatchString(path.Base(f.Path)) {
			continue
		}
		name := f.Path
		want := 1
		if m := partName.FindStringSubmatch(f.Path); m != nil {
			name = m[1] + m[4]
			want, _ = strconv.Atoi(m[3])
		}
		i := slices.IndexFunc(list, func(c candidate) bool { return c.name == name && c.want == want })
		if i < 0 {
			quant := ParseQuant(path.Base(name))
			if quant == "" {
				quant = ParseQuant(path.Dir(name))
			}
			list = append(list, candidate{name: name, quant: quant, want: want})
			i = len(list) - 1
		}
		list[i].parts = append(list[i].parts, f)
	}

	return list
}

// projectorQuants in order of preference: small loss, small file, runs anywhere.
var projectorQuants = []string{"F16", "Q8_0", "BF16", "F32"}

// projector finds a model's projector for images: the nearest one by folder.
func projector(files []hub.File, weights string) *hub.File {
	var found []hub.File
	for _, f := range files {
		if isGGUF(f.Path) && projectorName.MatchString(path.Base(f.Path)) {
			found = append(found, f)
		}
	}

	if len(found) == 0 {
		return nil
	}

	away := func(f hub.File) int {
		if path.Dir(f.Path) == path.Dir(weights) {
			return 0
		}
		return 1
	}

	rank := func(f hub.File) int {
		if i := slices.Index(projectorQuants, ParseQuant(path.Base(f.Path))); i >= 0 {
			return i
		}
		return len(projectorQuants)
	}

	best := slices.MinFunc(found, func(a, b hub.File) int {
		return cmp.Or(cmp.Compare(away(a), away(b)), cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Path, b.Path))
	})
	return &best
}

func missing(r *Reference, all []candidate) error {
	if len(all) == 0 {
		return &Error{
			Kind: hub.ErrNotFound,
			Text: r.Repo + " has no GGUF files",
			Todo: "look for a repository whose name ends in -GGUF: it has the same model converted",
		}
	}
	if r.Quant == "" {
		return &Error{
			Kind: hub.ErrNotFound,
			Text: r.Repo + " has none of the usual quantizations",
			Todo: has(all) + "; ask for one as " + r.Repo + ":QUANT",
		}
	}
	return &Error{Kind: hub.ErrNotFound, Text: fmt.Sprintf("%s has no %s", r.Repo, r.Quant), Todo: has(all)}
}

func several(r *Reference, quant string, found []candidate) error {
	names := make([]string, len(found))
	for i, c := range found {
		names[i] = r.Repo + "/" + c.parts[0].Path
	}
	return &Error{
		Kind: hub.ErrNotFound,
		Text: fmt.Sprintf("%s has %d models in %s", r.Repo, len(found), quant),
		Todo: "specify the file: " + strings.Join(names[:min(4, len(names))], " or "),
	}
}

// has lists the models in a repository, the smallest first.
func has(all []candidate) string {
	if len(all) == 0 {
		return "it has no GGUF files"
	}
	type offer struct {
		name  string
		bytes int64
	}
	var offers []offer
	for _, c := range all {
		o := offer{name: cmp.Or(c.quant, c.name)}
		for _, f := range c.parts {
			o.bytes += f.Size
		}
		offers = append(offers, o)
	}
	slices.SortStableFunc(offers, func(a, b offer) int { return cmp.Compare(a.bytes, b.bytes) })
	var words []string
	for _, o := range offers[:min(len(offers), 40)] {
		words = append(words, fmt.Sprintf("%s (%.1f GB)", o.name, float64(o.bytes)/1e9))
	}
	return "it has " + strings.Join(words, ", ")
}

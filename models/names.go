package models

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/agnivade/levenshtein"
)

// People write the name of a model in many ways: qwen-3.5-9b, qwen3.5-9b, qwen3.5:9b,
// qwen3.5:9b-q4_K_M. All of them have the same words: a series, a size, words that
// distinguish models of one size, and a quantization. See docs/models.md.

// resolution is the meaning of a name.
type resolution struct {
	entry *Entry
	quant string // upper case; "" for the default
	// chosen is set if the name was incomplete, and the catalog chose the rest.
	chosen bool
}

// resolve finds the row that a name means; the row is nil if there is none:
//
//  1. the exact name or alias of a row
//  2. the same followed by a quantization, after a colon or a hyphen
//  3. the name of a family, whose meaning is in the catalog
//  4. the words of a row in any spelling
//  5. a series and a size, with words that distinguish models: of the rows that have
//     all of the words, the one that has the fewest others
//  6. a series alone: its model of the size that fits most machines
func resolve(text string) resolution {
	text = strings.ToLower(text)
	if e := lookUp(text); e != nil {
		return resolution{entry: e} // 1
	}
	name, quant := cutQuant(text)
	name = strings.TrimSuffix(name, ":latest")
	if e := lookUp(name); e != nil {
		return resolution{entry: e, quant: quant} // 2
	}
	if e := defaultFor(name); e != nil {
		return resolution{entry: e, quant: quant, chosen: true} // 3
	}

	asked := spell(name)
	if e := spelledAs(asked); e != nil {
		return resolution{entry: e, quant: quant} // 4
	}
	if e, open := closest(asked); e != nil {
		return resolution{entry: e, quant: quant, chosen: open > 0} // 5
	}
	if e := ofSeries(asked); e != nil {
		return resolution{entry: e, quant: quant, chosen: true} // 6
	}
	return resolution{}
}

// cutQuant takes the quantization off the end of a name.
func cutQuant(text string) (name, quant string) {
	i := strings.LastIndexAny(text, ":-")
	if i <= 0 {
		return text, ""
	}
	quant = wholeQuant(text[i+1:])
	if quant == "" {
		return text, ""
	}
	name = text[:i]
	for _, dynamic := range []string{":ud", "-ud"} { // Unsloth's: UD-Q4_K_XL
		if rest, ok := strings.CutSuffix(name, dynamic); ok {
			return rest, "UD-" + quant
		}
	}
	return name, quant
}

// wholeQuant returns a quantization in upper case if the text is one and nothing
// else, or "".
func wholeQuant(text string) string {
	quant := ParseQuant(text)
	upper := strings.ToUpper(text)
	if quant == upper || quant == strings.Replace(upper, "FP", "F", 1) { // FP16 is F16
		return quant
	}
	return ""
}

// spelling is a name split into words: qwen3:30b-a3b is the series qwen 3, the size 30b
// and the word a3b. A name without a size is a series.
type spelling struct {
	series []string
	size   string
	others []string
}

var (
	numbered = regexp.MustCompile(`^([a-z]{2,})([0-9].*)$`)
	sizeWord = regexp.MustCompile(`^(e?[0-9]+(\.[0-9]+)?[bm]|[0-9]+x[0-9]+(\.[0-9]+)?b)$`)
	active   = regexp.MustCompile(`^a[0-9]+(\.[0-9]+)?b$`) // the parameters that a token takes: a3b
)

// instructed are words for models that follow instructions.
var instructed = []string{"it", "chat"}

// nameWords splits a name into words. A number that follows letters is a separate word:
// qwen3.5 is qwen 3.5; 4.0 is 4. All words for models that follow instructions become
// the same word.
func nameWords(name string) []string {
	var words []string
	parts := func(c rune) bool { return strings.ContainsRune("-:_", c) }
	for _, piece := range strings.FieldsFunc(strings.ToLower(name), parts) {
		if m := numbered.FindStringSubmatch(piece); m != nil {
			words = append(words, m[1])
			piece = m[2]
		}
		if slices.Contains(instructed, piece) {
			piece = "instruct"
		}
		words = append(words, strings.TrimSuffix(piece, ".0"))
	}
	return words
}

// spell parses a name.
func spell(name string) spelling {
	words := nameWords(name)
	i := slices.IndexFunc(words, sizeWord.MatchString)
	if i < 0 {
		return spelling{series: words}
	}
	return spelling{series: words[:i], size: words[i], others: words[i+1:]}
}

// words returns the words of a spelling, in order.
func (s spelling) words() []string {
	words := slices.Clone(s.series)
	if s.size != "" {
		words = append(words, s.size)
	}
	return append(words, s.others...)
}

// known is a row of the catalog with the words that it is known by.
type known struct {
	*Entry
	spellings []spelling // of its name and its aliases
	// inFile has the words of the file's name without its quantization, which may have
	// more information than the model's name, such as instruct or v0.3.
	inFile []string
}

// everyKnown is everyEntry with the words of each row.
var everyKnown = sync.OnceValue(func() []known {
	rows := everyEntry()
	list := make([]known, len(rows))
	for i := range rows {
		k := known{Entry: &rows[i], inFile: fileWords(rows[i].File)}
		for _, name := range append([]string{k.Name}, k.Aliases...) {
			k.spellings = append(k.spellings, spell(name))
		}
		list[i] = k
	}
	return list
})

// fileWords are the words of a file's name without its quantization.
func fileWords(file string) []string {
	name := strings.ToLower(strings.TrimSuffix(path.Base(file), ".gguf"))
	if quant := strings.ToLower(ParseQuant(file)); quant != "" {
		name = strings.Replace(name, quant, "", 1)
	}
	return nameWords(strings.Trim(name, "."))
}

// defaultFor finds the row that the name of a family means.
func defaultFor(name string) *Entry {
	rows := Catalog()
	for i := range rows {
		if slices.Contains(rows[i].DefaultFor, name) {
			return &rows[i]
		}
	}
	return nil
}

// spelledAs finds the row whose name or alias has the same words.
func spelledAs(asked spelling) *Entry {
	words := asked.words()
	for _, k := range everyKnown() {
		if slices.ContainsFunc(k.spellings, func(s spelling) bool { return slices.Equal(s.words(), words) }) {
			return k.Entry
		}
	}
	return nil
}

// closest finds the row of a series and a size that has all words of a name, in its
// own name or in its file's, and the fewest others; open is how many.
func closest(asked spelling) (best *Entry, open int) {
	if asked.size == "" {
		return nil, 0
	}
	for _, k := range everyKnown() {
		for _, s := range k.spellings {
			same := s.size == asked.size && slices.Equal(s.series, asked.series)
			if !same || k.WhyUnserved() != "" || without(asked.others, slices.Concat(s.others, k.inFile)) > 0 {
				continue
			}
			if n := without(s.others, asked.others); best == nil || n < open {
				best = k.Entry
				open = n
			}
		}
	}
	return best, open
}

// without counts the words that are not among others.
func without(words, others []string) (n int) {
	for _, word := range words {
		if !slices.Contains(others, word) {
			n++
		}
	}
	return n
}

// ordinary is the size of the largest file that fits in a machine with 8 GiB of memory
// beside everything else.
const ordinary = 6e9

// ofSeries finds the model of a series that a name without a size means: the largest
// that is not larger than ordinary, or the smallest. Variants of a size, such as
// thinking, must be requested by name.
func ofSeries(asked spelling) *Entry {
	if asked.size != "" {
		return nil
	}
	var best *Entry
	for _, k := range everyKnown() {
		same := func(s spelling) bool {
			return s.size != "" && slices.Equal(s.series, asked.series) && !slices.ContainsFunc(s.others, isVariant)
		}
		if k.WhyUnserved() == "" && slices.ContainsFunc(k.spellings, same) && (best == nil || better(k.Entry, best)) {
			best = k.Entry
		}
	}
	return best
}

func isVariant(word string) bool { return !active.MatchString(word) }

// better reports whether a model is preferred to another for its series.
func better(e, than *Entry) bool {
	if e.Bytes <= ordinary && than.Bytes <= ordinary {
		return e.Bytes > than.Bytes
	}
	return e.Bytes < than.Bytes
}

// suggestions is the number of similar names that are suggested.
const suggestions = 3

// nearest returns the names in the catalog that are most similar to a mistyped one.
func nearest(name string) []string {
	type near struct {
		name     string
		distance int
	}
	const most = 64 // bytes of a name that are compared
	name, _ = cutQuant(strings.ToLower(name[:min(len(name), most)]))
	asked := spell(name)
	spelled := strings.Join(asked.words(), "-")
	plain := strings.Join(spelling{series: asked.series, size: asked.size}.words(), "-")

	var list []near
	for _, e := range Catalog() {
		best := near{e.Name, 1 << 30}
		for _, n := range slices.Concat([]string{e.Name}, e.Aliases, e.DefaultFor) {
			words := strings.Join(nameWords(n), "-")
			d := min(levenshtein.ComputeDistance(name, n), levenshtein.ComputeDistance(spelled, words))
			d = min(d, len(asked.others)+levenshtein.ComputeDistance(plain, words))
			if strings.HasPrefix(n, name) {
				d = min(d, 1) // the beginning of a name is meant
			}
			if rest, ok := strings.CutPrefix(name, n); ok {
				d = min(d, 1+len(rest)/2)
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

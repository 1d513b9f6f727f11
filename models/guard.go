package models

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of the values in a header. llama.cpp trusts most of these numbers, and some
// of them index memory.
const (
	maxTemplate = 1 << 20
	maxVocab    = maxArray
)

// integers are the keys, after the architecture, whose values must be whole
// numbers within bounds. A key that is absent, or an array with a value for each
// layer, is left to llama.cpp.
var integers = map[string]uint64{
	"context_length":           1 << 31,
	"embedding_length":         1 << 24,
	"block_count":              1 << 14,
	"feed_forward_length":      1 << 28,
	"attention.head_count":     1 << 16,
	"attention.head_count_kv":  1 << 16,
	"attention.key_length":     1 << 20,
	"attention.value_length":   1 << 20,
	"rope.dimension_count":     1 << 20,
	"expert_count":             1 << 16,
	"expert_used_count":        1 << 16,
	"vocab_size":               maxVocab,
	"attention.sliding_window": 1 << 31,
}

var architectureName = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)

// checkValues checks the types and bounds of the values that loading depends on.
func (h *Header) checkValues() error {
	if v, ok := h.Values["general.architecture"]; ok {
		if s, isString := v.(string); !isString || !architectureName.MatchString(s) {
			return badFormat("the architecture has the invalid name %.80q", fmt.Sprint(v))
		}
	}
	for name, most := range integers {
		key := h.Architecture() + "." + name
		if v, ok := h.Values[key]; ok {
			if n, whole := integer(v); !whole || n > most {
				return badFormat("%s is %.40v, but must be a number up to %d", key, v, most)
			}
		}
	}
	for key, v := range h.Values {
		if strings.HasPrefix(key, "tokenizer.chat_template") {
			if s, isString := v.(string); !isString || len(s) > maxTemplate {
				return badFormat("%s must be a string of at most %d bytes", key, maxTemplate)
			}
		}
	}
	return h.checkVocabulary()
}

// Replace puts a value in place of the file's: an int64, float64, bool or string. It is refused if it is of another
// kind than the file's, or what checkValues refuses.
func (h *Header) Replace(key string, v any) error {
	if key == "general.architecture" || strings.HasPrefix(key, "split.") {
		return fmt.Errorf("%s says what the file is, and cannot be replaced", key)
	}
	if _, list := h.ArrayLengths[key]; list {
		return fmt.Errorf("%s is a list in the file, and cannot be replaced", key)
	}
	before, present := h.Values[key]
	if n, ok := v.(int64); ok && n >= 0 {
		v = uint64(n)
	}
	if present && typeOf(before) != typeOf(v) {
		return fmt.Errorf("%s is of type %s in the file", key, typeOf(before))
	}

	h.Values[key] = v
	if err := h.checkValues(); err != nil {
		delete(h.Values, key)
		if present {
			h.Values[key] = before
		}
		return err
	}
	return nil
}

// typeOf names the type of a value, as --override-kv does.
func typeOf(v any) string {
	switch v.(type) {
	case uint64, int64:
		return "int"
	case float64:
		return "float"
	case bool:
		return "bool"
	}
	return "str"
}

// integer returns a value that is a whole number and not negative.
func integer(v any) (uint64, bool) {
	switch v := v.(type) {
	case uint64:
		return v, true
	case int64:
		return uint64(max(v, 0)), v >= 0
	}
	return 0, false
}

// checkVocabulary checks that all metadata of tokens refers to tokens that exist.
func (h *Header) checkVocabulary() error {
	vocab, ok := h.ArrayLengths["tokenizer.ggml.tokens"]
	if !ok {
		return nil
	}

	// llama.cpp assumes the right type for these arrays without checking it.
	for name, elements := range map[string][]uint32{"tokens": {typeString}, "merges": {typeString},
		"scores": {typeFloat32}, "token_type": {typeInt32, typeUint32},
		"precompiled_charsmap": {typeUint8, typeInt8}} {
		kind, ok := h.arrayTypes["tokenizer.ggml."+name]
		if ok && !slices.Contains(elements, kind) {
			return badFormat("tokenizer.ggml.%s has elements of type %d", name, kind)
		}
		if n := h.ArrayLengths["tokenizer.ggml."+name]; ok && (name == "scores" || name == "token_type") && n != vocab {
			return badFormat("there are %d tokens, but %d values in tokenizer.ggml.%s", vocab, n, name)
		}
	}

	for key, v := range h.Values {
		if !strings.HasPrefix(key, "tokenizer.ggml.") || !strings.HasSuffix(key, "_token_id") {
			continue
		}
		// llama.cpp uses its default in place of a token that does not exist; see Oddities.
		if _, whole := integer(v); !whole && v != int64(-1) {
			return badFormat("%s is %v, which is not a token ID", key, v)
		}
	}

	if !utf8.ValidString(h.String("tokenizer.chat_template")) {
		return badFormat("tokenizer.chat_template is not UTF-8")
	}
	return nil
}

// Oddities says what is wrong with a model, and does not keep it from being served.
func (h *Header) Oddities() (list []string) {
	vocab, known := h.ArrayLengths["tokenizer.ggml.tokens"]
	for _, key := range slices.Sorted(maps.Keys(h.Values)) {
		if !known || !strings.HasPrefix(key, "tokenizer.ggml.") || !strings.HasSuffix(key, "_token_id") {
			continue
		}
		// Files without such a token write the greatest number instead.
		if n, whole := integer(h.Values[key]); whole && n >= vocab && n != 1<<32-1 {
			list = append(list, fmt.Sprintf("%s is %d, and there are %d tokens; the default is used", key, n, vocab))
		}
	}
	return list
}

// checkParts checks that the headers of a set belong together: each is the part
// that its name says, and none of the model's tensors is missing.
func checkParts(paths []string, headers []*Header) error {
	tensors := uint64(0)
	for i, h := range headers {
		tensors += uint64(len(h.Tensors))
		n := h.Values["split.count"]
		// A merged file was of a set once, and says that it is of none.
		if merged := len(headers) == 1 && h.Uint("split.count") == 0; !merged {
			if count, _ := integer(n); count != uint64(len(headers)) {
				return badFormat("%s belongs to a set of %v parts, but there are %d", paths[i], n, len(headers))
			}
			if h.Uint("split.no") != uint64(i) {
				return badFormat("%s says that it is part %d, its name says %d", paths[i], h.Uint("split.no")+1, i+1)
			}
		}

		if a := h.Architecture(); a != "" && a != headers[0].Architecture() {
			return badFormat("%s has the architecture %s, but the first part has %s", paths[i], a, headers[0].Architecture())
		}
	}

	if n, ok := headers[0].Values["split.tensors.count"]; ok {
		if want, _ := integer(n); want != tensors {
			return badFormat("the parts have %d tensors, but %s says %v", tensors, paths[0], n)
		}
	}

	return nil
}

// ReadModel reads and checks the headers of all parts of a model, in order, and
// returns the first part's, which describes the model. Errors wrap ErrFormat
// if the content is at fault.
func ReadModel(parts []string) (*Header, error) {
	headers := make([]*Header, len(parts))
	for i, part := range parts {
		var err error
		if headers[i], err = ReadHeader(part); err != nil {
			return nil, err
		}
	}
	if headers[0].Architecture() == "" {
		return nil, badFormat("%s does not name its architecture", parts[0])
	}
	return headers[0], checkParts(parts, headers)
}

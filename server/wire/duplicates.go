package wire

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"serve/fault"
)

// refuseDuplicates returns an error for the first object, at any depth, that has a key twice. Parsers differ
// in which of the values counts, so that whoever checks a request could read another one than the server.
// The text must be valid JSON.
func refuseDuplicates(text []byte) *fault.Error {
	s := keyScanner{text: text}
	for at := 0; at < len(text); at++ {
		switch text[at] {
		case '"':
			end := skipString(text, at)
			s.string(text[at:end])
			at = end - 1
		case '{', '[':
			s.open = append(s.open, container{array: text[at] == '[', first: len(s.keys)})
			s.atKey = text[at] == '{'
		case ',':
			top := &s.open[len(s.open)-1]
			top.index++
			s.atKey = !top.array
		case '}', ']':
			if name, found := s.close(); found {
				return fault.New(fault.InvalidValue, name, "Duplicate parameter: '%s' is given more than once.", name)
			}
		}
	}
	return nil
}

// keyScanner keeps the keys of the objects that are open at a place of a text.
type keyScanner struct {
	text  []byte
	open  []container
	keys  [][]byte // of all open objects, each without quotes and escapes
	atKey bool     // the next string is a key
}

// container is an open object or array.
type container struct {
	array bool
	first int // index of its first key in keyScanner.keys
	index int // of its current element
}

// string takes the next string, with its quotes.
func (s *keyScanner) string(quoted []byte) {
	if !s.atKey {
		return
	}
	s.atKey = false
	key := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(key, '\\') >= 0 {
		plain, _ := unquote(quoted) // the text is valid
		key = []byte(plain)
	}
	s.keys = append(s.keys, key)
}

// fewKeys is how many keys are compared with each other in less time than it takes to sort them.
const fewKeys = 16

// close ends a container. If it is an object that has a key twice, it returns the key's path.
func (s *keyScanner) close() (name string, found bool) {
	top := s.open[len(s.open)-1]
	s.open = s.open[:len(s.open)-1]
	s.atKey = false
	if top.array {
		return "", false
	}

	keys := s.keys[top.first:]
	s.keys = s.keys[:top.first]
	if twice := duplicate(keys); twice >= 0 {
		return s.path(string(keys[twice])), true
	}
	return "", false
}

// duplicate returns the index of a key that is there twice, or -1. It may change the order.
func duplicate(keys [][]byte) int {
	if len(keys) <= fewKeys {
		for i := range keys {
			for j := range i {
				if bytes.Equal(keys[i], keys[j]) {
					return i
				}
			}
		}
		return -1
	}

	slices.SortFunc(keys, bytes.Compare)
	for i := 1; i < len(keys); i++ {
		if bytes.Equal(keys[i], keys[i-1]) {
			return i
		}
	}
	return -1
}

// maxPath limits a path in an error, in bytes.
const maxPath = 200

// path returns the path of a key of the object that was closed last.
func (s *keyScanner) path(key string) string {
	var b strings.Builder
	for i, c := range s.open {
		if c.array {
			b.WriteString("[" + strconv.Itoa(c.index) + "]")
			continue
		}
		// Its current key is the last one before those of the next container in it.
		end := len(s.keys)
		if i+1 < len(s.open) {
			end = s.open[i+1].first
		}
		b.WriteByte('.')
		b.Write(s.keys[end-1])
	}

	path := strings.TrimPrefix(b.String()+"."+key, ".")
	if len(path) > maxPath {
		path = strings.ToValidUTF8(path[:maxPath], "") + "..."
	}
	return path
}

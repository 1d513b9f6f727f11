package anthropic

import (
	"slices"

	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
)

// reader reads the parts of a request. Within messages, tools and options, fields that are not known
// are left out and named in a header, because clients put theirs and the API's newest there. At the
// top level of a request they are errors.
type reader struct {
	ignored []string
	changes []toolChange // of the tools, in the course of the conversation
}

// toolChange is a tool that is offered, or not any more.
type toolChange struct {
	tool    prompt.Tool // has only a name if it is removed
	removed bool
}

// ignore notes a part of the request that has no effect.
func (rd *reader) ignore(name string) { rd.ignored = append(rd.ignored, name) }

// object splits an object whose fields should be among the known ones.
func (rd *reader) object(v wire.Value, known ...string) (map[string]wire.Value, *fault.Error) {
	object, e := v.Object()
	rd.only(object, known...)
	return object, e
}

// only notes the fields of an object that are not known, in order of name. One is known everywhere.
func (rd *reader) only(object map[string]wire.Value, known ...string) {
	var others []string
	for name, v := range object {
		if name != "cache_control" && !slices.Contains(known, name) {
			others = append(others, v.Name)
		}
	}
	slices.Sort(others)
	rd.ignored = append(rd.ignored, others...)
}

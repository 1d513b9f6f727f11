package schema

import (
	"testing"
)

// TestIdentifiers follows references through addresses and names of parts, wherever generators put them.
func TestIdentifiers(t *testing.T) {
	const word = `{"type":"string","pattern":"^[ab]$"}`
	for name, schema := range map[string]string{
		"definitions under an address of their own": `{"type":"object","properties":{"x":{"$id":"http://a/x.json",
			"definitions":{"w":` + word + `},"allOf":[{"$ref":"#/definitions/w"}]}},"required":["x"]}`,
		"$defs under an address of their own": `{"$id":"http://a/","type":"object","properties":{"x":{"$id":"x.json",
			"$defs":{"w":` + word + `},"$ref":"#/$defs/w"}},"required":["x"]}`,
		"an address in definitions": `{"$id":"http://a/b.json","properties":{"x":{"$ref":"w.json"}},"type":"object",
			"required":["x"],"definitions":{"w":{"$id":"http://a/w.json","type":"string","pattern":"^[ab]$"}}}`,
		"a part of an address": `{"$id":"http://a/b.json","properties":{"x":{"$ref":"http://a/w.json#/definitions/v"}},
			"type":"object","required":["x"],"definitions":{"w":{"$id":"w.json","definitions":{"v":` + word + `}}}}`,
		"an address without the document's": `{"properties":{"x":{"$ref":"item#word"}},"type":"object","required":["x"],
			"$defs":{"i":{"$id":"item","$defs":{"w":{"$anchor":"word","type":"string","pattern":"^[ab]$"}}}}}`,
		"pointers as addresses": `{"$id":"http://a/root.json","type":"object","required":["x"],"properties":{
			"x":{"$id":"#/properties/x","type":"string","pattern":"^[ab]$"},"y":{"$id":"#/properties/y"}}}`,
		"names as addresses": `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","required":["x"],
			"properties":{"x":{"$ref":"#word"}},"definitions":{"w":{"$id":"#word","type":"string","pattern":"^[ab]$"}}}`,
		"draft 4": `{"$schema":"http://json-schema.org/draft-04/schema#","id":"http://a/","type":"object",
			"required":["x"],"properties":{"x":{"$ref":"w.json"}},
			"definitions":{"w":{"id":"w.json","type":"string","pattern":"^[ab]$"}}}`,
		"the document's address": `{"$id":"http://a/b.json","type":"object","required":["x"],
			"properties":{"x":{"$ref":"http://a/b.json#/definitions/w"}},"definitions":{"w":` + word + `}}`,
		"the same address twice": `{"$id":"http://a/b.json","type":"object","required":["x"],"properties":{
			"x":{"$id":"http://a/b.json","$ref":"#/definitions/w"}},"definitions":{"w":` + word + `}}`,
		"a pointer into the document from under an address": `{"type":"object","required":["x"],"properties":{
			"x":{"$id":"http://a/x.json","allOf":[{"$ref":"#/definitions/w"}]}},"definitions":{"w":` + word + `}}`,
		"names with other signs": `{"type":"object","required":["x"],"properties":{"x":{"$ref":"#/definitions/a~1b%25%20c"}},
			"definitions":{"a/b% c":` + word + `}}`,
		"properties that are called so": `{"type":"object","required":["x"],"properties":{"x":` + word + `,
			"$id":{"type":"string"},"$ref":{"type":"string"},"$anchor":{"type":"string"},"enum":{"$id":"e.json"}}}`,
	} {
		g, rules, err := compile([]byte(schema), Options{Prefix: "j", Closed: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(g.Loose) > 0 {
			t.Errorf("%s: not enforced are %v", name, g.Loose)
		}
		for value, valid := range map[string]bool{`{"x":"a"}`: true, `{"x":"c"}`: false} {
			if rules.accepts(g.Root, value) != valid || (g.Validate([]byte(value)) == nil) != valid {
				t.Errorf("%s: %s is accepted: %v, validated: %v", name, value, !valid, g.Validate([]byte(value)))
			}
		}
	}
}

// TestLostReferences refuses references that lead out of the document, or nowhere.
func TestLostReferences(t *testing.T) {
	for _, ref := range []string{"http://a/other.json", "other.json#/x", "#/definitions/none", "#none", "#/%zz"} {
		if _, err := Compile([]byte(`{"$id":"http://a/b.json","$ref":"`+ref+`"}`), Options{Prefix: "j"}); err == nil {
			t.Errorf("%s leads somewhere", ref)
		}
	}
}

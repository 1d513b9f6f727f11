package schema

import "testing"

// TestOneOf accepts values that meet one schema of several, whether they overlap or not, and enforces what no two
// of them can have in common.
func TestOneOf(t *testing.T) {
	for name, tt := range map[string]struct {
		schema   string
		enforced bool
		valid    []string
		invalid  []string
	}{
		"properties beside and within": {
			`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"oneOf":[
				{"properties":{"b":{"type":"string"}},"required":["b"]},
				{"properties":{"c":{"type":"string"}},"required":["c"]}]}`,
			false,
			[]string{`{"a":"x","b":"x"}`, `{"a":"x","c":"x"}`},
			[]string{`{"a":"x"}`, `{"b":"x"}`},
		},
		"one schema is a part of the other": {
			`{"oneOf":[{"type":"object","properties":{"a":{"type":"string"}}},
				{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},"required":["a","b"]}]}`,
			false,
			[]string{`{}`, `{"a":"x"}`},
			[]string{`{"a":5}`, `5`},
		},
		"required members": {
			`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},
				"oneOf":[{"required":["a"]},{"required":["b"]}]}`,
			false,
			[]string{`{"a":"x"}`, `{"b":"x"}`},
			[]string{`{}`},
		},
		"a schema and what extends it": {
			`{"oneOf":[{"$ref":"#/$defs/a"},{"allOf":[{"$ref":"#/$defs/a"},{"properties":{"b":{"type":"string"}},
				"required":["b"]}]}],"$defs":{"a":{"type":"object","properties":{"a":{"type":"string"}}}}}`,
			false,
			[]string{`{}`, `{"a":"x"}`},
			[]string{`{"a":5}`},
		},
		"a member that the other forbids": {
			`{"oneOf":[{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false},
				{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}},"required":["b"]}]}`,
			true,
			[]string{`{}`, `{"a":"x"}`, `{"a":"x","b":"x"}`, `{"b":"x"}`},
			[]string{`{"b":5}`},
		},
		"members of unlike types": {
			`{"oneOf":[{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]},
				{"type":"object","properties":{"a":{"type":"object","properties":{"k":{"const":1}},"required":["k"]}},
				"required":["a"]},{"type":"object","properties":{"a":{"type":"object","properties":{"k":{"const":2}},
				"required":["k"]}},"required":["a"]}]}`,
			true,
			[]string{`{"a":"x"}`, `{"a":{"k":1}}`, `{"a":{"k":2}}`},
			[]string{`{"a":{"k":3}}`, `{"a":5}`},
		},
	} {
		g, rules, err := compile([]byte(tt.schema), Options{Prefix: "j", Closed: true})
		if err != nil || (len(g.Loose) == 0) != tt.enforced {
			t.Errorf("%s: %+v, %v", name, g, err)
			continue
		}
		for _, value := range tt.valid {
			if !rules.accepts(g.Root, value) || g.Validate([]byte(value)) != nil {
				t.Errorf("%s: %s is accepted: %v; %v", name, value, rules.accepts(g.Root, value), g.Validate([]byte(value)))
			}
		}
		for _, value := range tt.invalid {
			if rules.accepts(g.Root, value) || g.Validate([]byte(value)) == nil {
				t.Errorf("%s: %s is accepted: %v", name, value, rules.accepts(g.Root, value))
			}
		}
	}
}

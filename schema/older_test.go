package schema

import (
	"slices"
	"testing"
)

// TestOlderForms reads schemas of older drafts that do not say so.
func TestOlderForms(t *testing.T) {
	for _, tt := range []struct{ schema, valid, invalid string }{
		{`{"type":"integer","minimum":1,"exclusiveMinimum":true,"maximum":3,"exclusiveMaximum":true}`, "2", "1"},
		{`{"type":"integer","minimum":1,"exclusiveMinimum":false,"maximum":3}`, "1", "0"},
		{`{"items":[{"type":"string"}],"type":"array","additionalItems":false}`, `["a"]`, `["a","b"]`},
		{`{"properties":{"a":{"type":"null","required":true},"b":{"required":false}}}`, `{"a":null}`, `{}`},
		{`{"properties":{"required":{"type":"boolean"},"items":{"enum":[[1]]}},"required":["items"]}`, `{"items":[1]}`, `{}`},
		{`{"$schema":"http://json-schema.org/draft-03/schema#","type":"boolean"}`, "true", "1"},
		{`{"$schema":"https://spec.openapis.org/oas/3.1/dialect/base","type":"boolean"}`, "true", "1"},
	} {
		g, err := Compile([]byte(tt.schema), Options{Prefix: "j"})
		if err != nil {
			t.Errorf("%s: %v", tt.schema, err)
			continue
		}
		if g.Validate([]byte(tt.valid)) != nil || g.Validate([]byte(tt.invalid)) == nil {
			t.Errorf("%s: %v, %v", tt.schema, g.Validate([]byte(tt.valid)), g.Validate([]byte(tt.invalid)))
		}
	}

	g, err := Compile([]byte(`{"$schema":"urn:other","type":"boolean"}`), Options{Prefix: "j"})
	if err != nil || !slices.Equal(g.Loose, []string{"/$schema"}) {
		t.Errorf("%+v: %v", g, err)
	}
}

// TestAnnotations takes unknown keywords for what they are to JSON Schema.
func TestAnnotations(t *testing.T) {
	g, err := Compile([]byte(`{"type":"object","discriminator":{},"propertyOrdering":["a"],"min_items":1,"nullable":true,
		"properties":{"a":{"type":"string","format":"password","ui:widget":"x","strict":true,
		"minLength":2}}}`), Options{Prefix: "j"})
	if err != nil || len(g.Loose) > 0 || !slices.Contains(g.Assertions, "/properties/a/minLength") {
		t.Errorf("%+v: %v", g, err)
	}
}

// TestScriptPatterns enforces what JavaScript writes otherwise than Go, or names it.
func TestScriptPatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern, valid, invalid string
		enforced                bool
	}{
		{`^\\u{1F600}$`, "\U0001F600", "a", true},
		{`^\\ud83d\\ude00$`, "\U0001F600", "a", true},
		{`^\\p{Script=Greek}+$`, "\u03b1", "a", true},
		{`^(\\p{Extended_Pictographic}|\\p{Emoji_Component})+$`, "\U0001f600\ufe0f", "a", true},
		{`^[a\\p{Emoji_Presentation}]+$`, "a\U0001f600", "\u2122", true},
		{`^\\P{Emoji}$`, "a", "\u2122", true},
		{`^\\p{Lu}$`, "A", "a", true},
		{`^\\p{Changes_When_Lowercased}$`, "A", "", false},
	} {
		g, err := Compile([]byte(`{"type":"string","pattern":"`+tt.pattern+`"}`), Options{Prefix: "j"})
		if err != nil || tt.enforced != (len(g.Loose) == 0) {
			t.Errorf("%s: %+v, %v", tt.pattern, g, err)
			continue
		}
		if g.Validate([]byte(`"`+tt.valid+`"`)) != nil || tt.enforced && g.Validate([]byte(`"`+tt.invalid+`"`)) == nil {
			t.Errorf("%s: %v, %v", tt.pattern, g.Validate([]byte(`"`+tt.valid+`"`)), g.Validate([]byte(`"`+tt.invalid+`"`)))
		}
	}
}

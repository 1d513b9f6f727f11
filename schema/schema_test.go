package schema

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/google/jsonschema-go/jsonschema" // carries the test suite
)

// compileForTest compiles a schema and keeps the rules themselves.
func compileForTest(document []byte) (g *grammar, root string, loose []string, err error) {
	compiled, rules, err := compile(document, Options{Prefix: "j"})
	if err != nil {
		return nil, "", nil, err
	}
	return rules, compiled.Root, compiled.Loose, nil
}

// counts is what the conformance tests print.
type counts struct{ valid, invalid, refused, wrong int }

// judge counts one instance.
func (n *counts) judge(t *testing.T, g *grammar, root, what string, schema, instance []byte, valid bool) {
	t.Helper()
	accepted := false
	for _, form := range forms(t, instance) {
		accepted = accepted || g.accepts(root, form)
	}
	switch {
	case accepted && valid:
		n.valid++
	case !accepted && !valid:
		n.invalid++
	default:
		n.wrong++
		t.Errorf("%s: accepted is %v, valid is %v\n%s\n%s", what, accepted, valid, schema, instance)
	}
}

// forms writes an instance in the ways in which the same value may be written:
// the members of objects in any order, numbers without exponents.
func forms(t *testing.T, instance []byte) []string {
	v, err := read(instance, nil)
	if err != nil {
		return nil
	}
	return v.forms()
}

func (v *value) forms() []string {
	switch v.kind {
	case number:
		if s, ok := decimal(v.number); ok {
			return []string{s}
		}
		return []string{v.raw}
	case array:
		out := []string{"["}
		for i, item := range v.items {
			out = join(out, item.forms(), map[bool]string{true: ","}[i > 0])
		}
		return join(out, []string{"]"}, "")

	case object:
		var out []string
		for _, order := range permutations(v.keys) {
			these := []string{"{"}
			for i, key := range order {
				var member []string
				for _, f := range v.members[key].forms() {
					member = append(member, quote(key)+":"+f)
				}
				these = join(these, member, map[bool]string{true: ","}[i > 0])
			}
			out = append(out, join(these, []string{"}"}, "")...)
		}

		return out
	}

	return []string{v.marshal()}
}

func join(a, b []string, between string) []string {
	var out []string
	for _, x := range a {
		for _, y := range b {
			if len(out) < 5000 {
				out = append(out, x+between+y)
			}
		}
	}
	return out
}

func permutations(keys []string) [][]string {
	if len(keys) < 2 || len(keys) > 5 {
		return [][]string{keys}
	}
	var out [][]string
	for i := range keys {
		rest := slices.Delete(slices.Clone(keys), i, i+1)
		for _, p := range permutations(rest) {
			out = append(out, append([]string{keys[i]}, p...))
		}
	}
	return out
}

// suite is the folder of the JSON Schema Test Suite: a module of Go carries it.
func suite(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/jsonschema-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "jsonschema", "testdata")
}

// TestSuite runs the official tests of two drafts: what the compiler claims to
// enforce must be right in every case, the rest is refused by name.
func TestSuite(t *testing.T) {
	folder := suite(t)
	for _, draft := range []string{"draft2020-12", "draft7"} {
		t.Run(draft, func(t *testing.T) {
			var n counts
			err := filepath.WalkDir(filepath.Join(folder, draft), func(name string, d fs.DirEntry, err error) error {
				if err != nil || !strings.HasSuffix(name, ".json") {
					return err
				}
				suiteFile(t, &n, name)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %d valid instances accepted, %d invalid ones refused, %d refused by name, %d wrong",
				draft, n.valid, n.invalid, n.refused, n.wrong)
			if n.valid < 300 || n.invalid < 250 {
				t.Errorf("too few: %+v", n)
			}
		})
	}
}

// suiteGroup is a schema of the official tests, with instances of it.
type suiteGroup struct {
	Description string
	Schema      json.RawMessage
	Tests       []struct {
		Description string
		Data        json.RawMessage
		Valid       bool
	}
}

// suiteGroups reads a file of the official tests. Schemas of draft 7, which do not say so, get to.
func suiteGroups(t *testing.T, name string) []suiteGroup {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var groups []suiteGroup
	if err := json.Unmarshal(b, &groups); err != nil {
		t.Fatal(err)
	}

	for i := range groups {
		rest, ok := strings.CutPrefix(string(groups[i].Schema), "{")
		if ok && strings.Contains(name, "draft7") && strings.TrimSpace(rest) != "}" {
			groups[i].Schema = json.RawMessage(`{"$schema":"http://json-schema.org/draft-07/schema#",` + rest)
		}
	}
	return groups
}

func suiteFile(t *testing.T, n *counts, name string) {
	base := filepath.Base(name)
	for _, group := range suiteGroups(t, name) {
		g, root, loose, err := compileForTest(group.Schema)
		if errors.Is(err, ErrNever) {
			for _, test := range group.Tests {
				if test.Valid {
					n.wrong++
					t.Errorf("%s: %s: nothing is said to be valid, but %s is", base, group.Description, test.Data)
				} else {
					n.invalid++
				}
			}
			continue
		}
		if err != nil || len(loose) > 0 {
			n.refused += len(group.Tests)
			continue
		}
		for _, test := range group.Tests {
			n.judge(t, g, root, base+": "+group.Description+": "+test.Description, group.Schema, test.Data, test.Valid)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, bounds := range []string{
		`"minimum":0`, `"minimum":1`, `"minimum":-1`, `"exclusiveMinimum":0`, `"maximum":0`, `"exclusiveMaximum":0`,
		`"maximum":-5`, `"minimum":5,"maximum":5`,
		`"minimum":0,"maximum":1`, `"exclusiveMinimum":0,"exclusiveMaximum":1`, `"minimum":-90,"maximum":90`,
		`"minimum":0.5,"maximum":0.75`, `"minimum":1.25`,
		`"exclusiveMinimum":1.25,"maximum":1.5`, `"minimum":-1.5,"maximum":-1.25`, `"maximum":99.99`,
		`"minimum":17,"maximum":4242`, `"minimum":-17,"exclusiveMaximum":42`,
		`"minimum":0,"maximum":100,"multipleOf":0.5`, `"multipleOf":0.01`, `"multipleOf":0.01,"minimum":0,` +
			`"maximum":2.5`, `"multipleOf":5`, `"multipleOf":5,"minimum":0`,
		`"multipleOf":7,"minimum":1,"maximum":500`, `"minimum":0.1,"maximum":0.101`,
		`"minimum":0.099,"exclusiveMaximum":0.1`, `"multipleOf":3,"maximum":-1`, `"minimum":1e3,"maximum":1e4`,
		`"exclusiveMinimum":0,"maximum":0.001`, `"minimum":-0.5,"maximum":0.5`, `"minimum":9,"maximum":10`,
		`"minimum":0.9,"maximum":1.1`, `"minimum":1.9,"maximum":3.1`,
	} {
		for _, kind := range []string{"number", "integer"} {
			document := []byte(`{"type":"` + kind + `",` + bounds + `}`)
			g, root, loose, err := compileForTest(document)
			if errors.Is(err, ErrNever) {
				g = &grammar{rules: map[string]expr{"r": never}}
				root = "r"
				err = nil
			}

			if err != nil || len(loose) > 0 {
				t.Errorf("%s: %v, not enforced: %v", document, err, loose)
				continue
			}

			compiled, _, err := compile(document, Options{Prefix: "j"})
			for _, x := range sample() {
				want := false
				if err == nil {
					want = compiled.Validate([]byte(x)) == nil
				}
				if r, _ := new(big.Rat).SetString(x); kind == "integer" && r.IsInt() && strings.Contains(x, ".") {
					continue // 1.0 is valid, and is written as 1
				}
				if got := g.accepts(root, x); got != want {
					t.Errorf("%s: %s: accepted is %v, valid is %v", document, x, got, want)
				}
			}
		}
	}
}

// sample is numbers around every bound of TestNumbers.
func sample() (list []string) {
	defer func() {
		// Each in its shortest form: 0.50 is written as 0.5.
		for i, x := range list {
			r, _ := new(big.Rat).SetString(x)
			list[i], _ = decimal(r)
		}
		slices.Sort(list)
		list = slices.Compact(list)
	}()

	around := func(center, width int) {
		for i := center - width; i <= center+width; i++ {
			for _, scale := range []int64{1, 10, 100, 1000} {
				for _, sign := range []int64{1, -1} {
					list = append(list, big.NewRat(sign*int64(i), scale).FloatString(3))
				}
			}
		}
	}

	around(0, 150)
	for _, center := range []int{250, 500, 750, 900, 1000, 1100, 1250, 1500, 1900, 2500, 3100, 4242, 9999} {
		around(center, 12)
	}

	return append(list, "123456", "-123456", "10000", "99.991", "0.0999", "0.10001", "0.09999", "1.2500001", "1.4999")
}

func TestStrings(t *testing.T) {
	tests := []struct {
		schema string
		yes    []string
		no     []string
	}{
		{`{"type":"string","pattern":"^a+$"}`, []string{"a", "aaa"}, []string{"", "b", "ab"}},
		{`{"type":"string","pattern":"a+"}`, []string{"a", "xay", "ä\n\"a"}, []string{"", "b"}},
		{`{"type":"string","pattern":"^(foo|bar)"}`, []string{"foo", "bar!"}, []string{"", "xfoo"}},
		{`{"type":"string","pattern":"x$"}`, []string{"x", "yx"}, []string{"", "xy"}},
		{`{"type":"string","pattern":"^[^\"\\\\]*$"}`, []string{"", "abc"}, []string{`a"`, `\`}},
		{`{"type":"string","pattern":"^\"\\\\\\n$"}`, []string{"\"\\\n"}, []string{"n"}},
		{`{"type":"string","pattern":"^\\d{3}-\\d{4}$","minLength":8}`, []string{"555-1234"}, []string{"5551234"}},
		{
			`{"type":"string","pattern":"^[a-z]+$","minLength":2,"maxLength":4}`,
			[]string{"ab", "abcd"},
			[]string{"a", "abcde", "AB"},
		},
		{`{"type":"string","pattern":"^\\w+\\s\\S+$"}`, []string{"a b", "a\u00a0é"}, []string{"ab", "a  "}},
		{`{"type":"string","pattern":"^\\u00e9.$"}`, []string{"éx"}, []string{"é", "é\n"}},
		{`{"type":"string","pattern":"^$"}`, []string{""}, []string{"a"}},
		{`{"type":"string","minLength":2,"maxLength":3}`, []string{"ab", "äöü", "😀😀"}, []string{"a", "abcd"}},
		{
			`{"type":"string","format":"date"}`,
			[]string{"2024-02-29", "1999-12-31", "2000-02-29"},
			[]string{"2023-02-29", "1900-02-29", "2023-04-31", "2023-1-1"},
		},
		{
			`{"type":"string","format":"date-time"}`,
			[]string{"2024-02-29T12:00:00Z", "2024-01-01T23:59:59.5+02:00"},
			[]string{"2024-01-01", "2024-01-01T25:00:00Z"},
		},
		{
			`{"type":"string","format":"email"}`,
			[]string{"joe.blogs@example.com"},
			[]string{"joe", "@x.com", "a b@c.de", "a..b@c.de"},
		},
		{
			`{"type":"string","format":"ipv4"}`,
			[]string{"127.0.0.1", "255.255.255.0"},
			[]string{"256.0.0.1", "1.2.3", "01.2.3.4"},
		},
		{
			`{"type":"string","format":"ipv6"}`,
			[]string{"::1", "2001:db8::1", "1:2:3:4:5:6:7:8", "::"},
			[]string{"1:2", ":::", "12345::"},
		},
		{
			`{"type":"string","format":"uuid"}`,
			[]string{"2eb8aa08-aa98-11ea-b4aa-73b441d16380"},
			[]string{"2eb8aa08-aa98-11ea-b4aa"},
		},
		{
			`{"type":"string","format":"uri"}`,
			[]string{"https://example.com/a/b?c=d#e", "mailto:x@y.z"},
			[]string{"example.com", "http:// x"},
		},
		{
			`{"type":"string","format":"duration"}`,
			[]string{"P1D", "PT1H30M", "P3W", "P1Y2M3DT4H"},
			[]string{"P", "PT", "1D", "P1W2D"},
		},
		{`{"type":"string","format":"hostname"}`, []string{"example.com", "localhost"}, []string{"-x", "a_b"}},
		{`{"type":"string","format":"time"}`, []string{"08:30:06Z"}, []string{"8:30", "24:00:00Z"}},
		{`{"allOf":[{"type":"string","pattern":"a"},{"pattern":"b"}]}`, []string{"ab", "ba"}, []string{"a", "b"}},
		{`{"enum":["a","b\"",1,null,{"x":[1]}]}`, []string{"a", `b"`}, []string{"c"}},
	}

	for _, tt := range tests {
		g, root, loose, err := compileForTest([]byte(tt.schema))
		if err != nil || len(loose) > 0 {
			t.Errorf("%s: %v, not enforced: %v", tt.schema, err, loose)
			continue
		}

		compiled, _, _ := compile([]byte(tt.schema), Options{Prefix: "j"})
		for _, s := range tt.yes {
			if !g.accepts(root, quote(s)) {
				t.Errorf("%s does not accept %q", tt.schema, s)
			}
			if err := compiled.Validate([]byte(quote(s))); err != nil {
				t.Errorf("%s: the validator refuses %q: %v", tt.schema, s, err)
			}
		}

		for _, s := range tt.no {
			if g.accepts(root, quote(s)) {
				t.Errorf("%s accepts %q", tt.schema, s)
			}
		}
	}
}

// TestRefusedByName names what is not enforced, by where it stands.
func TestRefusedByName(t *testing.T) {
	for document, want := range map[string]string{
		`{"type":"object","properties":{"a":{"type":"array","uniqueItems":true}}}`: "/properties/a/uniqueItems",
		`{"if":{"type":"string"},"then":{"minLength":3}}`:                          "/if /then",
		`{"not":{"minimum":3}}`:                                            "/not",
		`{"type":"string","pattern":"(?=a)b"}`:                             "/pattern",
		`{"type":"string","pattern":"(a)\\1"}`:                             "/pattern",
		`{"type":"string","format":"iri"}`:                                 "/format",
		`{"type":"integer","multipleOf":977}`:                              "/multipleOf",
		`{"oneOf":[{"minimum":1},{"maximum":5}]}`:                          "/oneOf",
		`{"type":"object","minProperties":3}`:                              "",
		`{"type":"object","properties":{"a":{},"b":{}},"minProperties":1}`: "/minProperties",
		`{"type":"array","contains":{"type":"null"}}`:                      "/contains",
		`{"oneOf":[{"type":"string"},{"type":"null"}]}`:                    "",
		`{"oneOf":[{"type":"object","properties":{"k":{"const":1}},"required":["k"]},{"type":"object",` +
			`"properties":{"k":{"const":2}},"required":["k"]}]}`: "",
	} {
		_, _, loose, err := compileForTest([]byte(document))
		if got := strings.Join(loose, " "); err != nil || got != want {
			t.Errorf("%s: not enforced %q, want %q (%v)", document, got, want, err)
		}
	}
}

func TestBadSchemas(t *testing.T) {
	for document, words := range map[string]string{
		``: "EOF", `3`: "", `{"type":"strin"}`: "", `{"$ref":"#/nowhere"}`: "", `{"$ref":"https://example.com/x"}`: "",
		`{"anyOf":[]}`: "", `{"type":"string"} x`: "",
		`{"minimum":1e999999999}`: "", `{"properties":3}`: "", `{"type":"string","minLength":-1}`: "", `{"enum":5}`: "",
		`{"multipleOf":0}`: "",
		strings.Repeat(`{"not":`, 200) + "{}" + strings.Repeat("}", 200): "",
	} {
		_, _, _, err := compileForTest([]byte(document))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), words) {
			t.Errorf("%.80s: got %v", document, err)
		}
	}

	for _, document := range []string{
		`false`, `{"type":"string","minLength":3,"maxLength":2}`, `{"type":"object","properties":{"a":{"$ref":"#"}},` +
			`"required":["a"]}`,
		`{"allOf":[{"type":"string"},{"type":"null"}]}`, `{"type":"integer","minimum":3,"maximum":2}`,
		`{"type":"string","pattern":"^a$","minLength":2}`, `{"const":1,"type":"string"}`,
	} {
		if _, _, _, err := compileForTest([]byte(document)); !errors.Is(err, ErrNever) {
			t.Errorf("%s: got %v", document, err)
		}
	}
}

// TestRecursion compiles what leads back to itself.
func TestRecursion(t *testing.T) {
	for document, tt := range map[string]struct{ yes, no []string }{
		`{"type":"object","properties":{"value":{"type":"integer"},"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},` +
			`"required":["value","next"],"additionalProperties":false}`: {
			[]string{`{"value":1,"next":null}`, `{"value":1,"next":{"value":2,"next":null}}`}, []string{`{"value":1}`,
				`{"value":1,"next":{}}`}},
		`{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"children":{"type":"array",` +
			`"items":{"$ref":"#/$defs/tree"}}},"required":["children"],"additionalProperties":false}}}`: {
			[]string{`{"children":[]}`, `{"children":[{"children":[]},{"children":[]}]}`}, []string{`{}`, `{"children":[{}]}`}},
		`{"anyOf":[{"$ref":"#"},{"type":"string"}]}`:                       {[]string{`"a"`}, []string{"1"}},
		`{"anyOf":[{"type":"string"},{"$ref":"#/anyOf/0"}],"minLength":2}`: {[]string{`"ab"`}, []string{`"a"`}},
	} {
		g, root, loose, err := compileForTest([]byte(document))
		if err != nil || len(loose) > 0 {
			t.Errorf("%s: %v %v", document, err, loose)
			continue
		}

		for _, s := range tt.yes {
			if !g.accepts(root, s) {
				t.Errorf("%s does not accept %s", document, s)
			}
		}

		for _, s := range tt.no {
			if g.accepts(root, s) {
				t.Errorf("%s accepts %s", document, s)
			}
		}
	}
}

// TestOrderAndSpace writes members in the schema's order, and pretty if need be.
func TestOrderAndSpace(t *testing.T) {
	g, root, _, err := compileForTest(
		[]byte(
			`{"type":"object","properties":{"z":{"type":"integer"},"a":{"type":"array","items":{"type":"boolean"}}},` +
				`"required":["a"]}`,
		),
	)
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{
		`{"z":1,"a":[]}`: true, `{"a":[],"z":1}`: false, `{"a":[true, false]}`: true, "{\n  \"z\": 1,\n  \"a\": [\n   " +
			" true\n  ]\n}": true,
		`{"a":[],"other":{"x":[1,"y"]}}`: true, `{"a":[],"a":[]}`: false, `{"a":[],"z":[]}`: false,
	} {
		if got := g.accepts(root, s); got != want {
			t.Errorf("%s: accepted is %v", s, got)
		}
	}
}

func TestClosed(t *testing.T) {
	document := []byte(
		`{"type":"object","properties":{"a":{"type":"object"},"b":{"type":"object","properties":{"c":{}},` +
			`"additionalProperties":true}}}`,
	)
	_, g, err := compile(document, Options{Prefix: "j", Closed: true})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{`{"a":{"x":1}}`: true, `{"x":1}`: false, `{"b":{"c":1,"x":2}}`: true} {
		if got := g.accepts("jroot", s); got != want {
			t.Errorf("%s: accepted is %v", s, got)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{`{"type":"object","properties":{"a":{"$ref":"#"}}}`,
		`{"anyOf":[{"$ref":"#/anyOf/1"},{"$ref":"#/anyOf/0"}]}`, `{"pattern":"^(a|b)*$","maxLength":5}`,
		`{"minimum":0.5,"multipleOf":0.1}`, `{"oneOf":[{"const":1},{"enum":[2,3]}]}`, `{"patternProperties":{"^a":{},` +
			`"b$":true},"additionalProperties":false}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		g, err := Compile(document, Options{Prefix: "j"})
		if err == nil && (g.Rules == "" || g.Root == "") {
			t.Error("neither a grammar nor an error")
		}
	})
}

package schema

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRealisticSchemas takes schemas in the manner of tools, answers and APIs that
// people use. What their grammars write must be valid. Instances made from the schema
// alone, and the same with one thing changed, are judged by the validator, and the
// grammar must judge alike.
func TestRealisticSchemas(t *testing.T) {
	var schemas []string
	for i, line := range shorthands(t) {
		schemas = append(schemas, expand(t, line, i%3 == 2))
	}

	schemas = append(schemas, handwritten...)
	if len(schemas) < 300 {
		t.Errorf("%d schemas", len(schemas))
	}

	r := rand.New(rand.NewPCG(3, 4))
	var written, judged counts
	for _, document := range schemas {
		before := written.refused
		sound(t, r, []byte(document), &written)
		if written.refused > before {
			_, _, loose, err := compileForTest([]byte(document))
			t.Errorf("refused: %v %v\n%s", loose, err, document)
			continue
		}
		judgeInstances(t, r, document, &judged)
	}

	t.Logf("%d schemas: %d texts written, %d wrong; %d valid instances accepted, %d invalid ones refused, %d wrong",
		len(schemas), written.valid, written.wrong, judged.valid, judged.invalid, judged.wrong)
	if judged.valid < 2000 || judged.invalid < 2000 {
		t.Errorf("too few: %+v", judged)
	}
}

// judgeInstances makes instances of a schema, and some that are a little wrong.
func judgeInstances(t *testing.T, r *rand.Rand, document string, n *counts) {
	t.Helper()
	compiled, g, err := compile([]byte(document), Options{Prefix: "j"})
	if err != nil {
		t.Fatal(err)
	}
	root, err := read([]byte(document), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &maker{t: t, r: r, root: root}
	for range 12 {
		instance := m.instance(root, 0)
		n.judgeOne(t, g, compiled, document, instance, true)
		v, err := read([]byte(instance), nil)
		if err != nil {
			t.Fatalf("%s: %v", instance, err)
		}
		nodes := []*value{}
		v.walk(func(each *value) { nodes = append(nodes, each) })
		m.spoil(nodes[r.IntN(len(nodes))])
		n.judgeOne(t, g, compiled, document, v.text2json(), false)
	}
}

// judgeOne compares the grammar with the validator. A made instance must be valid; a
// spoilt one may be so still.
func (n *counts) judgeOne(t *testing.T, g *grammar, compiled *Compiled, document, instance string, made bool) {
	t.Helper()
	err := compiled.Validate([]byte(instance))
	if made && err != nil {
		t.Fatalf("the test made %s of %s: %v", instance, document, err)
	}
	accepted := g.accepts(compiled.Root, instance)
	switch {
	case accepted && err == nil:
		n.valid++
	case !accepted && err != nil:
		n.invalid++
	case !accepted && !made:
		// Valid, but members stand in another order or a number is written as no
		// grammar needs to: the grammar may leave such texts out.
	default:
		n.wrong++
		t.Errorf("accepted is %v, the validator says %v\n%s\n%s", accepted, err, document, instance)
	}
}

// maker makes instances of schemas, by the schema alone.
type maker struct {
	t    *testing.T
	r    *rand.Rand
	root *value
}

var samples = map[string][]string{
	"date":      {"2024-02-29", "1999-12-31"},
	"time":      {"23:59:59Z", "07:30:00+02:00"},
	"date-time": {"2025-01-01T00:00:00Z", "2024-06-30T23:59:58.25-05:00"},
	"duration":  {"PT5M", "P1DT12H", "P3W"},
	"email":     {"a@b.de", "jane.doe+x@mail.example.org"},
	"uri":       {"https://example.org/a?b=c#d", "urn:isbn:123"},
	"uuid":      {"123e4567-e89b-12d3-a456-426614174000"},
	"ipv4":      {"192.168.0.1", "8.8.8.8"},
	"ipv6":      {"2001:db8::1", "::"},
	"hostname":  {"example.org", "a-b.c1"},
}

func (m *maker) instance(s *value, depth int) string {
	if ref := s.members["$ref"]; ref != nil {
		to := m.root
		for _, step := range strings.Split(ref.text, "/")[1:] {
			to = to.members[step]
		}
		return m.instance(to, depth+1)
	}

	for _, name := range []string{"enum", "anyOf", "oneOf"} {
		if list := s.members[name]; list != nil {
			if name == "enum" {
				return list.items[m.r.IntN(len(list.items))].marshal()
			}
			choice := list.items[m.r.IntN(len(list.items))]
			if depth > 5 { // out of recursion by what has no reference
				for _, other := range list.items {
					if !strings.Contains(other.marshal(), "$ref") {
						choice = other
					}
				}
			}
			return m.instance(choice, depth+1)
		}
	}

	if c := s.members["const"]; c != nil {
		return c.marshal()
	}

	if all := s.members["allOf"]; all != nil {
		joined := "{"
		for i, part := range all.items {
			joined += strings.Repeat(",", min(i, 1)) + strings.Trim(m.instance(part, depth), "{}")
		}
		return joined + "}"
	}

	kind := ""
	if k := s.members["type"]; k != nil {
		kind = k.text
		if len(k.items) > 0 {
			kind = k.items[m.r.IntN(len(k.items))].text
		}
	}

	switch kind {
	case "string":
		return quote(m.string(s))
	case "integer", "number":
		return m.number(s, kind == "integer")
	case "boolean":
		return strconv.FormatBool(m.r.IntN(2) == 0)
	case "null":
		return "null"
	case "array":
		return m.array(s, depth)
	}

	return m.object(s, depth)
}

func (m *maker) between(s *value, low, high string, least, most int) int {
	if v := s.members[low]; v != nil {
		least, _ = strconv.Atoi(v.raw)
		most += least
	}
	if v := s.members[high]; v != nil {
		n, _ := strconv.Atoi(v.raw)
		most = min(most, n)
	}
	return least + m.r.IntN(most-least+1)
}

func (m *maker) string(s *value) string {
	if f := s.members["format"]; f != nil {
		list := samples[f.text]
		return list[m.r.IntN(len(list))]
	}
	if p := s.members["pattern"]; p != nil {
		re, err := syntax.Parse(strings.ReplaceAll(p.text, `\/`, "/"), syntax.Perl)
		if err != nil {
			m.t.Fatal(err)
		}
		var b strings.Builder
		m.match(&b, re)
		return b.String()
	}
	var b strings.Builder
	for range m.between(s, "minLength", "maxLength", 0, 12) {
		b.WriteRune([]rune("aZ9 _-.,é日\"\\\n😀")[m.r.IntN(14)])
	}
	return b.String()
}

// match writes a text that an expression matches.
func (m *maker) match(b *strings.Builder, re *syntax.Regexp) {
	least := re.Min
	most := re.Max
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		c := rune(0)
		for range 99 { // what the dialects call a space differs
			k := m.r.IntN(len(re.Rune)/2) * 2
			if c = re.Rune[k] + rune(m.r.IntN(int(min(re.Rune[k+1]-re.Rune[k], 90))+1)); c > ' ' && c < 0x80 {
				break
			}
		}
		b.WriteRune(c)

	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('x')
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			m.match(b, sub)
		}
	case syntax.OpAlternate:
		m.match(b, re.Sub[m.r.IntN(len(re.Sub))])
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		switch re.Op {
		case syntax.OpStar:
			least = 0
			most = 4
		case syntax.OpPlus:
			least = 1
			most = 5
		case syntax.OpQuest:
			least = 0
			most = 1
		}

		if most < 0 {
			most = least + 3
		}

		for range least + m.r.IntN(most-least+1) {
			m.match(b, re.Sub[0])
		}
	}
}

func (m *maker) number(s *value, whole bool) string {
	low := -50.0
	high := 50.0
	step := 0.125
	places := 3
	if whole {
		step = 1
		places = 0
	}

	get := func(name string, to *float64) bool {
		v := s.members[name]
		if v != nil {
			*to, _ = strconv.ParseFloat(v.raw, 64)
		}
		return v != nil
	}
	if get("minimum", &low) || get("exclusiveMinimum", &low) {
		high = low + 100
	}

	get("multipleOf", &step)
	get("maximum", &high)
	get("exclusiveMaximum", &high)
	if v := s.members["multipleOf"]; v != nil {
		_, decimals, _ := strings.Cut(v.raw, ".")
		places = len(decimals)
	}

	for range 200 {
		n := low + m.r.Float64()*(high-low)
		n = float64(int64(n/step)) * step
		text := strconv.FormatFloat(n, 'f', places, 64)
		// With a step there is one way to write a number, without needless zeros.
		if strings.Contains(text, ".") && (s.members["multipleOf"] != nil || m.r.IntN(2) == 0) {
			text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
		}
		n, _ = strconv.ParseFloat(text, 64)
		_, outAtLow := s.members["exclusiveMinimum"]
		if n >= low && n <= high && !(outAtLow && n == low) && text != "-0" {
			return text
		}
	}

	return s.members["minimum"].raw
}

func (m *maker) array(s *value, depth int) string {
	var items []string
	if prefix := s.members["prefixItems"]; prefix != nil {
		for _, p := range prefix.items {
			items = append(items, m.instance(p, depth+1))
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	n := m.between(s, "minItems", "maxItems", 0, max(0, 3-depth/2))
	for range n {
		items = append(items, m.instance(s.members["items"], depth+1))
	}
	return "[" + strings.Join(items, ",") + "]"
}

func (m *maker) object(s *value, depth int) string {
	var members []string
	required := []string{}
	if list := s.members["required"]; list != nil {
		for _, name := range list.items {
			required = append(required, name.text)
		}
	}

	if properties := s.members["properties"]; properties != nil {
		for _, name := range properties.keys {
			if slices.Contains(required, name) || m.r.IntN(2) == 0 && depth < 6 {
				members = append(members, quote(name)+":"+m.instance(properties.members[name], depth+1))
			}
		}
	}

	names := []string{"a", "some_name", "b2"}
	values := s.members["additionalProperties"]
	if patterns := s.members["patternProperties"]; patterns != nil {
		names = []string{"a", "b_c"}
		values = patterns.members[patterns.keys[0]]
	}

	if values != nil && values.kind == object {
		for _, name := range names[:1+m.r.IntN(len(names))] {
			members = append(members, quote(name)+":"+m.instance(values, depth+1))
		}
	}

	return "{" + strings.Join(members, ",") + "}"
}

// walk visits a value and all within it.
func (v *value) walk(visit func(*value)) {
	visit(v)
	for _, item := range v.items {
		item.walk(visit)
	}
	for _, key := range v.keys {
		v.members[key].walk(visit)
	}
}

// spoil changes one thing in a value.
func (m *maker) spoil(v *value) {
	other := func(k kind, raw string) { *v = value{kind: k, raw: raw, text: raw} }
	switch {
	case v.kind == object && len(v.keys) > 0 && m.r.IntN(3) > 0:
		k := m.r.IntN(len(v.keys))
		if name := v.keys[k]; m.r.IntN(2) == 0 {
			delete(v.members, name)
			v.keys = slices.Delete(v.keys, k, k+1)
		} else {
			v.members[name+"x"] = v.members[name]
			v.keys[k] = name + "x"
		}

	case v.kind == array && m.r.IntN(3) > 0:
		if len(v.items) > 0 && m.r.IntN(2) == 0 {
			v.items = v.items[1:]
		} else if len(v.items) > 0 {
			for range 300 {
				v.items = append(v.items, v.items[0])
			}
		}

	case v.kind == number && m.r.IntN(3) > 0:
		v.raw = []string{"-1000000007", "1000000007", "0.0000001", v.raw + "1", "-" + strings.TrimPrefix(v.raw,
			"-")}[m.r.IntN(5)]
		if strings.HasPrefix(strings.TrimPrefix(v.raw, "-"), "0") && len(v.raw) > 1 && !strings.Contains(v.raw, ".") {
			v.raw = "7"
		}
	case v.kind == text && m.r.IntN(3) > 0:
		v.text = []string{"", v.text + "!", strings.Repeat("long ", 250), strings.ToUpper(v.text)}[m.r.IntN(4)]
	default:
		k := []kind{null, boolean, number, text}[m.r.IntN(4)]
		if k == v.kind {
			k = array
		}
		other(k, map[kind]string{number: "3", text: "other"}[k])
	}
}

// text2json writes a value with the numbers as they stand.
func (v *value) text2json() string {
	var parts []string
	switch v.kind {
	case number:
		return v.raw
	case array:
		for _, item := range v.items {
			parts = append(parts, item.text2json())
		}
		return "[" + strings.Join(parts, ",") + "]"
	case object:
		for _, key := range v.keys {
			parts = append(parts, quote(key)+":"+v.members[key].text2json())
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return v.marshal()
}

// shorthands returns the lines of testdata/realistic.txt without their names.
func shorthands(t *testing.T) []string {
	b, err := os.ReadFile("testdata/realistic.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, line := range strings.Split(string(b), "\n") {
		if _, rest, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, "#") {
			list = append(list, rest)
		}
	}
	return list
}

// expand makes a JSON Schema of a shorthand; an open one says nothing of other
// members, and describes its own.
func expand(t *testing.T, line string, open bool) string {
	p := &shorthand{t: t, line: line, rest: line, open: open}
	s := p.union()
	if p.eat("where ") {
		var defs []string
		for {
			name := p.find(`^\w+`)
			p.need("= ")
			defs = append(defs, quote(name)+":"+p.union())
			if !p.eat(", ") {
				break
			}
		}
		s = strings.TrimSuffix(s, "}") + `,"$defs":{` + strings.Join(defs, ",") + "}}"
	}
	if p.rest != "" {
		t.Fatalf("%s: what is %q", line, p.rest)
	}
	if !json.Valid([]byte(s)) {
		t.Fatalf("%s: made %s", line, s)
	}
	return s
}

// shorthand reads testdata/realistic.txt.
type shorthand struct {
	t          *testing.T
	line, rest string
	open       bool
}

func (p *shorthand) eat(s string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(p.rest, " "), s)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *shorthand) need(s string) {
	if !p.eat(s) {
		p.t.Fatalf("%s: no %q before %q", p.line, s, p.rest)
	}
}

// find takes what an expression matches, or nothing.
func (p *shorthand) find(expression string) string {
	p.rest = strings.TrimLeft(p.rest, " ")
	found := regexp.MustCompile(expression).FindString(p.rest)
	p.rest = p.rest[len(found):]
	return found
}

func (p *shorthand) union() string {
	list := []string{p.one()}
	for p.eat("or ") {
		list = append(list, p.one())
	}
	if len(list) == 1 {
		return list[0]
	}
	return `{"anyOf":[` + strings.Join(list, ",") + `]}`
}

// bounds takes 1..5, which two keywords say.
func (p *shorthand) bounds(low, high string) (s string) {
	b := p.find(`^-?[0-9.]*[0-9]\.\.(-?[0-9][0-9.]*)?`)
	least, most, _ := strings.Cut(b, "..")
	if least != "" {
		s += fmt.Sprintf(",%q:%s", low, least)
	}
	if most != "" {
		s += fmt.Sprintf(",%q:%s", high, most)
	}
	return s
}

func (p *shorthand) one() string {
	switch {
	case p.eat("{"):
		return p.members()
	case p.eat("["):
		item := p.union()
		s := `{"type":"array","items":` + item + p.bounds("minItems", "maxItems") + "}"
		p.need("]")
		return s
	case p.eat("@"):
		return `{"$ref":"#/$defs/` + p.find(`^\w+`) + `"}`
	case p.eat("$root"):
		return `{"$ref":"#"}`
	case p.eat("map "):
		return `{"type":"object","additionalProperties":` + p.union() + "}"
	case strings.HasPrefix(strings.TrimLeft(p.rest, " "), "/"):
		pattern := p.find(`^/(\\.|[^/\\])*/`)
		return `{"type":"string","pattern":` + quote(pattern[1:len(pattern)-1]) + "}"
	}

	if word := p.find(`^(string|int|num|bool|datetime|date|time|duration|email|uri|uuid|ipv4|hostname)\b`); word != "" {
		switch word {
		case "string":
			return `{"type":"string"` + p.bounds("minLength", "maxLength") + "}"
		case "bool":
			return `{"type":"boolean"}`
		case "int", "num":
			s := `{"type":"` + map[string]string{"int": "integer", "num": "number"}[word] + `"` + p.bounds("minimum", "maximum")
			if p.eat("step ") {
				s += `,"multipleOf":` + p.find(`^[0-9.]+`)
			}
			return s + "}"
		case "datetime":
			word = "date-time"
		}
		return `{"type":"string","format":"` + word + `"}`
	}

	const literal = `^("[^"]*"|-?[0-9.]+|true|false|null)`
	values := []string{p.find(literal)}
	for p.eat("|") {
		values = append(values, p.find(literal))
	}

	if len(values) == 1 {
		if values[0] == "null" {
			return `{"type":"null"}`
		}
		return `{"const":` + values[0] + "}"
	}

	return `{"enum":[` + strings.Join(values, ",") + "]}"
}

func (p *shorthand) members() string {
	var members, required []string
	for !p.eat("}") {
		name := p.find(`^\w+`)
		if !p.eat("?") {
			required = append(required, quote(name))
		}
		p.need(":")
		s := p.union()
		if p.open {
			s = strings.Replace(s, "{", `{"description":`+quote("The "+strings.ReplaceAll(name, "_", " ")+".")+",", 1)
		}
		members = append(members, quote(name)+":"+s)
		p.eat(",")
	}

	s := `{"type":"object","properties":{` + strings.Join(
		members, ",",
	) + `},"required":[` + strings.Join(
		required, ",",
	) + "]"
	if !p.open {
		s += `,"additionalProperties":false`
	}

	return s + "}"
}

// handwritten are schemas whose forms the shorthand of testdata/realistic.txt lacks.
var handwritten = func() []string {
	text := func(extra string) string { return `{"type":"string"` + extra + `}` }
	obj := func(required string, properties ...string) string {
		return `{"type":"object","properties":{` + strings.Join(
			properties, ",",
		) + `},"required":[` + required + `],"additionalProperties":false}`
	}
	field := func(name, schema string) string { return fmt.Sprintf("%q:%s", name, schema) }
	list := func(item, extra string) string { return `{"type":"array","items":` + item + extra + `}` }
	maybe := func(schema string) string { return `{"anyOf":[` + schema + `,{"type":"null"}]}` }
	address := obj(
		`"street","city","zip"`,
		field("street", text(`,"minLength":1,"maxLength":80`)),
		field("city", text("")),
		field("zip", text(`,"pattern":"^\\d{5}(-\\d{4})?$"`)),
		field("country", text(`,"pattern":"^[A-Z]{2}$"`)),
	)
	money := obj(
		`"amount","currency"`,
		field("amount", `{"type":"number","minimum":0,"multipleOf":0.01}`),
		field("currency", `{"enum":["EUR","USD","JPY"]}`),
	)
	when := text(`,"format":"date-time"`)
	return []string{
		obj(`"location"`, field("location", text("")), field("unit", `{"enum":["celsius","fahrenheit"]}`)),
		obj(
			`"to","subject","body"`,
			field("to", list(text(`,"format":"email"`), `,"minItems":1,"maxItems":10`)),
			field("subject", text(`,"maxLength":120`)),
			field("body", text("")),
			field("cc", list(text(`,"format":"email"`), "")),
		),
		obj(
			`"query"`,
			field("query", text(`,"minLength":1`)),
			field("limit", `{"type":"integer","minimum":1,"maximum":100}`),
			field("offset", `{"type":"integer","minimum":0}`),
			field("sort", `{"enum":["asc","desc",null]}`),
		),
		address,
		money,
		obj(
			`"id","lines","ship_to"`,
			field("id", text(`,"format":"uuid"`)),
			field(
				"lines",
				list(
					obj(
						`"sku","quantity","price"`,
						field("sku", text(`,"pattern":"^[A-Z]{3}-[0-9]{4}$"`)),
						field("quantity", `{"type":"integer","exclusiveMinimum":0}`),
						field("price", money),
					),
					`,"minItems":1`,
				),
			),
			field("ship_to", address),
			field("notes", maybe(text(""))),
		),
		obj(
			`"title","start","end"`,
			field("title", text("")),
			field("start", when),
			field("end", when),
			field("attendees", list(text(`,"format":"email"`), "")),
			field(
				"recurrence",
				maybe(
					obj(
						`"every"`,
						field("every", `{"enum":["day","week","month"]}`),
						field("times", `{"type":"integer","minimum":1,"maximum":366}`),
					),
				),
			),
		),
		obj(
			`"final_answer","steps"`,
			field("steps", list(obj(`"explanation","output"`, field("explanation", text("")), field("output", text(""))), "")),
			field("final_answer", text("")),
		),
		`{"type":"object","properties":{"type":{"enum":["div","button","field"]},"label":{"type":"string"},` +
			`"children":{"type":"array","items":{"$ref":"#"}},"attributes":{"type":"array","items":{"type":"object",` +
			`"properties":{"name":{"type":"string"},"value":{"type":"string"}},"required":["name","value"],
		"additionalProperties":false}}},"required":["type","label","children","attributes"],"additionalProperties":false}`,
		`{"type":"object","properties":{"list":{"$ref":"#/$defs/node"}},"required":["list"],` +
			`"additionalProperties":false,"$defs":{"node":{"type":"object","properties":{"value":{"type":"number"},` +
			`"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["value","next"],
		"additionalProperties":false}}}`,
		`{"type":"object","properties":{"item":{"anyOf":[{"type":"object","properties":{"kind":{"const":"user"},` +
			`"name":{"type":"string"}},"required":["kind","name"],"additionalProperties":false},{"type":"object",` +
			`"properties":{"kind":{"const":"place"},"lat":{"type":"number","minimum":-90,"maximum":90},
		"lon":{"type":"number","minimum":-180,"maximum":180}},"required":["kind","lat","lon"],
		"additionalProperties":false}]}},"required":["item"],"additionalProperties":false}`,
		obj(
			`"categories"`,
			field("categories", list(`{"enum":["hate","violence","self-harm","none"]}`, `,"maxItems":4`)),
			field("confidence", `{"type":"number","minimum":0,"maximum":1}`),
		),
		obj(
			`"sql"`,
			field("sql", text(`,"pattern":"^SELECT "`)),
			field("parameters", `{"type":"object","additionalProperties":{"type":["string","number","boolean","null"]}}`),
		),
		obj(
			`"path","content"`,
			field("path", text(`,"pattern":"^[^/]"`)),
			field("content", text("")),
			field("mode", text(`,"pattern":"^0[0-7]{3}$"`)),
		),
		obj(
			`"host","port"`,
			field(
				"host",
				`{"anyOf":[{"type":"string","format":"ipv4"},{"type":"string","format":"ipv6"},{"type":"string",`+
					`"format":"hostname"}]}`,
			),
			field("port", `{"type":"integer","minimum":1,"maximum":65535}`),
			field("tls", `{"type":"boolean"}`),
		),
		obj(
			`"rgb"`,
			field(
				"rgb",
				`{"type":"array","prefixItems":[{"type":"integer","minimum":0,"maximum":255},{"type":"integer","minimum":0,`+
					`"maximum":255},{"type":"integer","minimum":0,"maximum":255}],"items":false,"minItems":3}`,
			),
			field("hex", text(`,"pattern":"^#[0-9a-fA-F]{6}$"`)),
		),
		obj(
			`"name","birth_date"`,
			field("name", text(`,"minLength":1,"maxLength":60`)),
			field("birth_date", text(`,"format":"date"`)),
			field("phone", text(`,"pattern":"^\\+[1-9]\\d{6,14}$"`)),
			field("insurance", maybe(text(`,"pattern":"^[A-Z]\\d{9}$"`))),
		),
		obj(
			`"diagnosis","code","certainty"`,
			field("diagnosis", text("")),
			field("code", text(`,"pattern":"^[A-TV-Z][0-9][0-9AB](\\.[0-9A-TV-Z]{1,4})?$"`)),
			field("certainty", `{"enum":["confirmed","suspected","excluded"]}`),
			field("onset", maybe(text(`,"format":"date"`))),
		),
		obj(
			`"iban","amount"`,
			field("iban", text(`,"pattern":"^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$"`)),
			field("amount", `{"type":"number","exclusiveMinimum":0,"maximum":1000000,"multipleOf":0.01}`),
			field("reference", text(`,"maxLength":140`)),
		),
		obj(
			`"temperature","humidity"`,
			field("temperature", `{"type":"number","minimum":-50,"maximum":60}`),
			field("humidity", `{"type":"integer","minimum":0,"maximum":100,"multipleOf":5}`),
			field("at", when),
		),
		obj(`"tool","arguments"`, field("tool", `{"const":"search"}`), field("arguments", `{"type":"object"}`)),
		obj(
			`"version"`,
			field("version", text(`,"pattern":"^(0|[1-9]\\d*)\\.(0|[1-9]\\d*)\\.(0|[1-9]\\d*)$"`)),
			field("dependencies", `{"type":"object","additionalProperties":{"type":"string","pattern":"^[~^]?\\d"}}`),
		),
		obj(
			`"answer"`,
			field("answer", `{"type":["string","number","boolean","null"]}`),
			field("sources", list(text(`,"format":"uri"`), `,"maxItems":5`)),
		),
		list(obj(`"en","de"`, field("en", text("")), field("de", text(""))), `,"minItems":1,"maxItems":20`),
		`{"type":"object","patternProperties":{"^[a-z_]+$":{"type":"number"}},"additionalProperties":false,` +
			`"minProperties":1}`,
		obj(`"duration"`, field("duration", text(`,"format":"duration"`)), field("start", text(`,"format":"time"`))),
		obj(
			`"matrix"`,
			field("matrix", list(list(`{"type":"number"}`, `,"minItems":2,"maxItems":2`), `,"minItems":2,"maxItems":2`)),
		),
		obj(
			`"move"`,
			field("move", text(`,"pattern":"^([KQRBN]?[a-h]?[1-8]?x?[a-h][1-8](=[QRBN])?|O-O(-O)?)[+#]?$"`)),
			field("score", `{"type":"integer","minimum":-1000,"maximum":1000}`),
		),
		`{"allOf":[{"type":"object","properties":{"id":{"type":"integer","minimum":1}},"required":["id"]},` +
			`{"type":"object","properties":{"name":{"type":"string","minLength":1}},"required":["name"]}]}`,
		obj(`"filter"`, field("filter", `{"$ref":"#/$defs/f"}`))[:len(obj(`"filter"`, field("filter",
			`{"$ref":"#/$defs/f"}`)))-1] +
			`,"$defs":{"f":{"anyOf":[{"type":"object","properties":{"and":{"type":"array","items":{"$ref":"#/$defs/f"},` +
			`"minItems":1}},"required":["and"],"additionalProperties":false},{"type":"object",
		"properties":{"field":{"type":"string"},"equals":{"type":["string","number"]}},"required":["field","equals"],
		"additionalProperties":false}]}}}`,
	}
}()

package schema

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// sampler writes random texts that a grammar matches.
type sampler struct {
	g    *grammar
	r    *rand.Rand
	b    strings.Builder
	left int // steps before it takes the shortest way out
	size map[string]int
}

// shortest returns, for every rule, the steps of its shortest text.
func (g *grammar) shortest() map[string]int {
	size := map[string]int{}
	for changed := true; changed; {
		changed = false
		for name, e := range g.rules {
			if n := shortestOf(e, size); n >= 0 && (size[name] == 0 || n+1 < size[name]) {
				size[name] = n + 1
				changed = true
			}
		}
	}
	return size
}

// shortestOf is how many rules the shortest text of an expression takes, -1 if that is
// not known yet.
func shortestOf(e expr, size map[string]int) int {
	switch e := e.(type) {
	case ref:
		if size[string(e)] == 0 {
			return -1
		}
		return size[string(e)]
	case seq:
		sum := 0
		for _, p := range e {
			n := shortestOf(p, size)
			if n < 0 {
				return -1
			}
			sum += n
		}
		return sum

	case alt:
		best := -1
		for _, p := range e {
			if n := shortestOf(p, size); n >= 0 && (best < 0 || n < best) {
				best = n
			}
		}
		return best

	case repeat:
		if e.low == 0 {
			return 0
		}
		n := shortestOf(e.e, size)
		if n < 0 {
			return -1
		}
		return n * e.low
	}

	return 0
}

func (s *sampler) write(e expr) {
	s.left--
	switch e := e.(type) {
	case literal:
		s.b.WriteString(string(e))
	case class:
		c := e[s.r.IntN(len(e))]
		hi := c.hi
		if s.r.IntN(4) > 0 {
			hi = min(hi, c.lo+20)
		}
		s.b.WriteRune(c.lo + rune(s.r.IntN(int(hi-c.lo)+1)))

	case ref:
		s.write(s.g.rules[string(e)])
	case seq:
		for _, p := range e {
			s.write(p)
		}
	case alt:
		choice := e[s.r.IntN(len(e))]
		if s.left < 0 {
			for _, p := range e {
				if shortestOf(p, s.size) < shortestOf(choice, s.size) {
					choice = p
				}
			}
		}
		s.write(choice)

	case repeat:
		high := e.high
		if high < 0 || high > e.low+3 {
			high = e.low + 3
		}
		n := e.low + s.r.IntN(high-e.low+1)
		if s.left < 0 {
			n = e.low
		}
		for range n {
			s.write(e.e)
		}
	}
}

// sound compiles a schema and checks that what its grammar writes is valid.
func sound(t *testing.T, r *rand.Rand, document []byte, n *counts) {
	t.Helper()
	for _, closed := range []bool{false, true} {
		compiled, g, err := compile(document, Options{Prefix: "j", Closed: closed})
		var at *Error
		if errors.Is(err, ErrNever) || errors.As(err, &at) {
			n.refused++
			return
		}

		if err != nil {
			t.Fatalf("%s: %v", document, err)
		}

		if len(compiled.Loose) > 0 {
			n.refused++
			return
		}

		size := g.shortest()
		for range 10 {
			s := &sampler{g: g, r: r, left: 300, size: size}
			s.write(ref(compiled.Root))
			if err := compiled.Validate([]byte(s.b.String())); err != nil {
				n.wrong++
				t.Errorf("%s\nwrites %s\n%v", document, s.b.String(), err)
				return
			}
			n.valid++
		}
	}
}

// TestRandomSchemas writes by the grammars of random schemas, which combine
// keywords as nobody would: everything must be valid.
func TestRandomSchemas(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var n counts
	for range 1500 {
		document, err := json.Marshal(randomSchema(r, 3))
		if err != nil {
			t.Fatal(err)
		}
		sound(t, r, document, &n)
	}
	t.Logf("%d texts valid, %d schemas refused, %d wrong", n.valid, n.refused, n.wrong)
	if n.valid < 5000 {
		t.Errorf("too few: %+v", n)
	}
}

type anyObject = map[string]any

// randomSchema makes a schema of a few keywords that fit its types.
func randomSchema(r *rand.Rand, depth int) any {
	pick := func(list ...any) any { return list[r.IntN(len(list))] }
	if depth == 0 || r.IntN(8) == 0 {
		return pick(
			anyObject{"type": "integer"},
			anyObject{"type": "string"},
			anyObject{"type": "boolean"},
			anyObject{"enum": []any{1, "a", nil, true, []any{1.5}}},
			anyObject{"const": anyObject{"k": 1}},
			true,
		)
	}

	s := anyObject{}
	set := func(chance int, key string, v any) {
		if r.IntN(chance) == 0 {
			s[key] = v
		}
	}

	switch kind := pick("object", "array", "string", "number", "integer", "any", "choice"); kind {
	case "object":
		s["type"] = "object"
		names := []string{"a", "b", "some name", "x\"y", "é"}
		properties := anyObject{}
		required := []any{}
		for _, name := range names[:r.IntN(len(names)+1)] {
			properties[name] = randomSchema(r, depth-1)
			if r.IntN(2) == 0 {
				required = append(required, name)
			}
		}
		s["properties"] = properties
		s["required"] = required
		set(3, "additionalProperties", pick(false, true, anyObject{"type": "integer"}))
		set(5, "patternProperties", anyObject{pick("^a", "e$", "^[0-9]+$").(string): randomSchema(r, depth-1)})
		set(6, "propertyNames", anyObject{"pattern": pick("^[a-z]+$", "a", "^.{1,3}$")})
		set(6, "minProperties", r.IntN(3))
		set(6, "maxProperties", r.IntN(4))
	case "array":
		s["type"] = "array"
		set(2, "items", randomSchema(r, depth-1))
		set(3, "prefixItems", []any{randomSchema(r, depth-1), randomSchema(r, depth-1)})
		set(2, "minItems", r.IntN(4))
		set(2, "maxItems", r.IntN(5))
	case "string":
		s["type"] = "string"
		set(3, "minLength", r.IntN(4))
		set(3, "maxLength", 2+r.IntN(6))
		set(
			3,
			"pattern",
			pick("^[a-c]{2,}$", "x|yz", "^\\d+(\\.\\d+)?$", "[^\"]$", "^(ab)*$", "\\w\\s\\w", "^\\p{L}+$", "a.c"),
		)
		set(6, "format", pick("date", "date-time", "time", "email", "ipv4", "ipv6", "uuid", "uri", "hostname", "duration"))
	case "number", "integer":
		s["type"] = kind
		set(2, pick("minimum", "exclusiveMinimum").(string), pick(-7, 0, 0.5, 1, 17, -0.25, 3.125))
		set(2, pick("maximum", "exclusiveMaximum").(string), pick(-3, 0, 0.75, 1, 99, 1000, 3.25))
		set(4, "multipleOf", pick(1, 2, 0.5, 0.01, 7, 10, 0.25))
	case "any":
		set(2, "minimum", 3)
		set(2, "minLength", 2)
		set(2, "maxItems", 1)
		set(2, "required", []any{"a"})
		set(3, "type", []any{"string", "null", "object"})
	case "choice":
		list := []any{randomSchema(r, depth-1), randomSchema(r, depth-1)}
		s[pick("anyOf", "allOf", "oneOf").(string)] = list
		set(3, "type", pick("object", "string", "integer"))
		set(4, "not", anyObject{"type": pick("null", "string")})
		set(5, "$ref", "#/$defs/d")
		s["$defs"] = anyObject{}
	}

	if depth == 3 {
		s["$defs"] = anyObject{
			"d": pick(
				anyObject{"minLength": 1},
				anyObject{"type": []any{"object", "integer"}},
				anyObject{"maximum": 5, "minimum": 1},
			),
		}
	}

	return s
}

package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"serve/steps"
)

// listOf writes n parts, of each its number.
func listOf(n int, format string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = strings.ReplaceAll(format, "@", fmt.Sprint(i))
	}
	return strings.Join(parts, ",")
}

// chain writes definitions of which each refers to the next one by a form, and the last is a string.
func chain(n int, form string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"d%d":%s,`, i, strings.ReplaceAll(form, "#", fmt.Sprintf(`{"$ref":"#/definitions/d%d"}`, i+1)))
	}
	return b.String() + fmt.Sprintf(`"d%d":{"type":"string"}`, n)
}

const oldDraft = `"$schema":"http://json-schema.org/draft-07/schema#",`

// loads are schemas of which some part comes n times.
var loads = map[string]func(n int) string{
	"an enum beside a pattern": func(n int) string {
		return `{"pattern":"^(a|b|ab)*c?","enum":[` + listOf(n, `"ab@"`) + `]}`
	},
	"optional properties": func(n int) string {
		return `{"type":"object","properties":{` + listOf(n, `"p@":{"type":"string"}`) + `}}`
	},
	"optional properties of their own lengths": func(n int) string {
		return `{"type":"object","properties":{` + listOf(n, `"p@":{"type":"string","maxLength":@}`) + `}}`
	},
	"required names":    func(n int) string { return `{"type":"object","required":[` + listOf(n, `"p@"`) + `]}` },
	"oneOf of consts":   func(n int) string { return `{"oneOf":[` + listOf(n, `{"const":"c@"}`) + `]}` },
	"oneOf of lengths":  func(n int) string { return `{"oneOf":[` + listOf(n, `{"minLength":@}`) + `]}` },
	"oneOf of patterns": func(n int) string { return `{"oneOf":[` + listOf(n, `{"pattern":"a@"}`) + `]}` },
	"oneOf of objects": func(n int) string {
		return `{"oneOf":[` + listOf(n, `{"type":"object","properties":{"k":{"const":@}},"required":["k"]}`) + `]}`
	},
	"oneOf of objects with a member each": func(n int) string {
		return `{"oneOf":[` + listOf(n, `{"type":"object","properties":{"k@":{"type":"string"}},"required":["k@"]}`) + `]}`
	},
	"allOf": func(n int) string { return `{"allOf":[` + listOf(n, `{"minLength":@}`) + `]}` },
	"allOf of anyOf": func(n int) string {
		return `{"allOf":[` + listOf(n, `{"anyOf":[{"minLength":@},{"maxLength":9}]}`) + `]}`
	},
	"allOf of properties": func(n int) string {
		return `{"allOf":[` + listOf(n, `{"properties":{"p@":{},"q":{}}}`) + `]}`
	},
	"allOf of multipleOf": func(n int) string {
		return `{"type":"integer","allOf":[` + listOf(n, `{"multipleOf":1000003@}`) + `]}`
	},
	"allOf of patterns": func(n int) string {
		return `{"type":"string","allOf":[` + listOf(n, `{"pattern":"a@.*b"}`) + `]}`
	},
	"prefixItems": func(n int) string { return `{"prefixItems":[` + listOf(n, `{"type":"string"}`) + `]}` },
	"arrays of many items": func(n int) string {
		return `{"properties":{` + listOf(n, `"p@":{"type":"array","items":{"const":@},"minItems":900}`) + `}}`
	},
	"numbers that are listed": func(n int) string {
		return `{"properties":{` + listOf(n, `"p@":{"type":"number","minimum":0,"maximum":1999,"multipleOf":1.5}`) + `}}`
	},
	"numbers of many digits": func(n int) string {
		return `{"properties":{` +
			listOf(n, `"p@":{"type":"integer","minimum":1,"maximum":`+strings.Repeat("7", 390)+`}`) + `}}`
	},
	"multiples": func(n int) string {
		return `{"properties":{` + listOf(n, `"p@":{"type":"integer","multipleOf":61}`) + `}}`
	},
	"formats": func(n int) string {
		return `{"properties":{` + listOf(n, `"p@":{"type":"string","format":"date-time"}`) + `}}`
	},
	"patterns": func(n int) string {
		return `{"properties":{` + listOf(n, `"p@":{"type":"string","pattern":"^(\\p{L}|[a-@]x){1,20}$"}`) + `}}`
	},
	"long patterns": func(n int) string {
		return `{"properties":{` + listOf(n, `"p@":{"pattern":"^(`+strings.Repeat(`\\p{L}`, 900)+`|@)"}`) + `}}`
	},
	"large patterns": func(n int) string {
		return `{"properties":{` + listOf(n, `"p@":{"pattern":"((a{1,100}@){1,100}b){1,9}"}`) + `}}`
	},
	"unreadable": func(n int) string { return `{"properties":{` + listOf(n, `"p@":{"pattern":"(?=a@)(a+)+\\1b"}`) + `}}` },
	"an unread search": func(n int) string {
		return `{"pattern":"^(?!x)(a+)+\\1b$","enum":[` + listOf(n, `"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@"`) + `]}`
	},
	"folded classes": func(n int) string {
		return `{"properties":{` + listOf(n, `"p@":{"pattern":"(?i)[\\u0000-\\uffff@]"}`) + `}}`
	},
	"patternProperties": func(n int) string {
		return `{"patternProperties":{` + listOf(n, `"^p@x*":{}`) + `},"properties":{` + listOf(n, `"p@":{}`) + `}}`
	},
	"long keys": func(n int) string {
		return `{"properties":{"` + strings.Repeat("k", 10*n) + `":{"properties":{` +
			listOf(n, `"p@":{"uniqueItems":true}`) + `}}}}`
	},
	"names with nothing in common": func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `%q,`, string(rune(0x4e00+i%20000))+fmt.Sprint(i))
		}
		return `{"type":"object","required":[` + b.String() + `"x"],"additionalProperties":{"type":"null"}}`
	},
	"addresses": func(n int) string {
		return `{"$id":"http://a/` + strings.Repeat("x/", n) + `","properties":{` +
			listOf(n, `"p@":{"$id":"y@/","$ref":"http://b/#"}`) + `}}`
	},
	"anchors": func(n int) string {
		return `{"properties":{` + listOf(n, `"p@":{"$anchor":"a@","$ref":"#a0"}`) + `}}`
	},
	"references to the root": func(n int) string { return `{"properties":{` + listOf(n, `"p@":{"$ref":"#"}`) + `}}` },
	"required in properties": func(n int) string {
		return `{"type":"object","properties":{` + listOf(n, `"p@":{"required":true}`) + `}}`
	},
	"dependencies": func(n int) string { return `{"dependentSchemas":{` + listOf(n, `"p@":{"required":["q@"]}`) + `}}` },
	"a chain of the same twice": func(n int) string {
		return `{` + oldDraft + `"$ref":"#/definitions/d0","definitions":{` + chain(n, `{"anyOf":[#,#]}`) + `}}`
	},
	"the same in today's draft": func(n int) string {
		return `{"$ref":"#/definitions/d0","definitions":{` + chain(n, `{"anyOf":[#,#]}`) + `}}`
	},
	"oneOf in the place of anyOf": func(n int) string {
		return `{` + oldDraft + `"$ref":"#/definitions/d0","definitions":{` + chain(n, `{"oneOf":[#,#]}`) + `}}`
	},
	"allOf in its place": func(n int) string {
		return `{` + oldDraft + `"$ref":"#/definitions/d0","definitions":{` + chain(n, `{"allOf":[#,#]}`) + `}}`
	},
	"alternatives with something of their own": func(n int) string {
		form := `{"anyOf":[{"minLength":1,"allOf":[#]},{"minLength":1,"allOf":[#]}]}`
		return `{"$ref":"#/definitions/d0","definitions":{` + chain(n, form) + `}}`
	},
	"a value under the chain": func(n int) string {
		return `{"const":1,"allOf":[{"$ref":"#/definitions/d0"}],"definitions":{` + chain(n, `{"anyOf":[#,#]}`) + `}}`
	},
	"a chain of objects": func(n int) string {
		form := `{"type":"object","properties":{"a":#,"b":#}}`
		return `{` + oldDraft + `"$ref":"#/definitions/d0","definitions":{` + chain(n, form) + `}}`
	},
	"a chain of arrays": func(n int) string {
		form := `{"type":"array","items":{"anyOf":[#,#]},"maxItems":9}`
		return `{` + oldDraft + `"$ref":"#/definitions/d0","definitions":{` + chain(n, form) + `}}`
	},
	"not": func(n int) string {
		return `{"const":1,"allOf":[{"$ref":"#/definitions/d0"}],"definitions":{` + chain(n, `{"not":{"anyOf":[#,#]}}`) + `}}`
	},
}

// products are the loads whose work is the product of two parts of the schema, which the budget bounds.
var products = map[string]bool{
	"optional properties of their own lengths": true, // the sum of the lengths
	"patternProperties":                        true, // each name is looked for by each pattern
	"addresses":                                true, // each is put together with the one around it
	"oneOf of objects with a member each":      true, // each is compared with each
	"oneOf of lengths":                         true,
	"oneOf of patterns":                        true,
	"allOf of properties":                      true, // each name is looked for in each
	"oneOf in the place of anyOf":              true, // all of them hold at the end
}

// TestWork doubles what a schema consists of: the work doubles, and no more, or ends with the budget of a request.
func TestWork(t *testing.T) {
	for name, load := range loads {
		once, _ := compileWithin(load(100))
		twice, err := compileWithin(load(200))
		if !errors.Is(err, steps.ErrSpent) && !products[name] && twice > 5*once/2 {
			t.Errorf("%s: %d steps, and %d for twice as much", name, once, twice)
		}
	}
}

// compileWithin compiles a schema within a request's budget, and returns the steps that it took.
func compileWithin(document string) (int, error) {
	budget := steps.New(context.Background(), steps.PerRequest)
	_, err := Compile([]byte(document), Options{
		Prefix: "j",
		Closed: true,
		Budget: budget,
	})
	return steps.PerRequest - budget.Left(), err
}

// BenchmarkLoads compiles the largest of each kind, whether the budget allows it or not.
func BenchmarkLoads(b *testing.B) {
	for name, load := range loads {
		b.Run(name, func(b *testing.B) {
			n := 20
			for len(load(2*n)) < maxBytes {
				n *= 2
			}
			document := load(n)
			taken := 0
			for b.Loop() {
				taken, _ = compileWithin(document)
			}
			b.ReportMetric(float64(taken), "steps")
		})
	}
}

package main

import (
	"fmt"
	"strings"

	"serve/prompt"
)

// schemaAttacks are schemas, patterns and grammars that would cost more than they say, and conversations that would
// be read more slowly the longer they are.
func schemaAttacks() []attack {
	var list []attack
	for name, schema := range map[string]string{
		"a chain of the same twice": chained(34, `{"anyOf":[#,#]}`, `{"type":"string"}`),
		"the same, 10,000 long":     chained(10_000, `{"anyOf":[#,#]}`, `{"type":"string"}`),
		"the same in oneOf":         chained(34, `{"oneOf":[#,#]}`, `{"type":"string"}`),
		"the same in allOf":         chained(34, `{"allOf":[#,#]}`, `{"type":"string"}`),
		"alternatives of their own": chained(34,
			`{"anyOf":[{"minLength":1,"allOf":[#]},{"minLength":1,"allOf":[#]}]}`, `{}`),
		"a chain of arrays":          chained(40, `{"type":"array","items":{"anyOf":[#,#]}}`, `{"type":"null"}`),
		"a value under a chain":      `{"const":1,` + chained(34, `{"anyOf":[#,#]}`, `{"type":"string"}`)[1:],
		"an enum beside a pattern":   `{"pattern":"^(a|b|ab)*c$","enum":[` + counted(20_000, `"ab%d"`) + `]}`,
		"optional properties":        properties(5_000, `"p%d":{"type":"string"}`),
		"required names":             `{"type":"object","required":[` + counted(10_000, `"p%d"`) + `]}`,
		"oneOf of consts":            `{"oneOf":[` + counted(2_000, `{"const":"c%d"}`) + `]}`,
		"oneOf of 500 objects":       `{"oneOf":[` + counted(500, `{"type":"object","required":["k%d"]}`) + `]}`,
		"prefixItems":                `{"type":"array","prefixItems":[` + counted(10_000, `{"const":%d}`) + `]}`,
		"arrays of many items":       properties(5_000, `"p%d":{"type":"array","minItems":900}`),
		"strings of many characters": properties(5_000, `"p%d":{"type":"string","maxLength":%[1]d}`),
		"lookahead and references": `{"pattern":"^(?=a)(a+)+\\1b$","enum":[` +
			counted(500, `"`+strings.Repeat("a", 400)+`%d"`) + `]}`,
		"repetitions in repetitions": `{"type":"string","pattern":"^((a{1,100}b){1,100}c){1,100}$"}`,
		"a long key over many properties": `{"type":"object","properties":{"` +
			strings.Repeat("k", 200_000) + `":{"properties":{` + counted(5_000, `"p%d":{"uniqueItems":true}`) + `}}}}`,
		"numbers that are written out": properties(5_000, `"p%d":{"minimum":0,"maximum":1999,"multipleOf":1.5}`),
		"patternProperties and properties": `{"patternProperties":{` + counted(500, `"^p%dx*":{}`) + `},` +
			`"properties":{` + counted(5_000, `"p%d":{}`) + `}}`,
	} {
		format := `"max_tokens":1,"response_format":{"type":"json_schema",` +
			`"json_schema":{"name":"s","schema":` + schema + `}}`
		list = append(list, attack{
			name: "schema: " + name,
			path: "/v1/chat/completions",
			body: func() string { return chatWith(format, "Go on.") },
		})
	}
	return append(list, textAttacks()...)
}

// textAttacks are about grammars, tools and conversations.
func textAttacks() []attack {
	const (
		chat      = "/v1/chat/completions"
		responses = "/v1/responses"
	)
	lark := "start: a" + strings.Repeat(`\n`, 30_000) + "| b\\na: /x/\\nb: /y/"
	doubled := "start: r0\\n"
	for i := range 40 {
		doubled += fmt.Sprintf(`r%d: r%d r%d\n`, i, i+1, i+1)
	}
	tools := counted(prompt.MaxTools, `{"type":"function","function":{"name":"f%d","parameters":{"type":"object",`+
		`"properties":{"a":{"type":"string","maxLength":100}}}}}`)

	return []attack{
		{
			name: "a grammar of empty lines",
			path: chat,
			body: func() string { return chatWith(`"max_tokens":1,"guided_grammar":"`+lark+`"`, "Go on.") },
		},
		{
			name: "a grammar that doubles",
			path: chat,
			body: func() string { return chatWith(`"max_tokens":1,"guided_grammar":"`+doubled+`r40: /x/"`, "Go on.") },
		},
		{
			name: "a pattern with lookahead",
			path: chat,
			body: func() string { return chatWith(`"max_tokens":1,"guided_regex":"(?=(a+)+b)(a+)+"`, "Go on.") },
		},
		{
			name: "as many tools as there may be",
			path: chat,
			body: func() string { return chatWith(`"max_tokens":1,"tools":[`+tools+`]`, "Go on.") },
		},
		{
			name: "4,000 calls",
			path: responses,
			body: func() string {
				const call = `{"type":"function_call","call_id":"c%d","name":"f","arguments":"{}"}`
				return `{"model":"tiny","max_output_tokens":1,"input":[` + counted(4_000, call) + `]}`
			},
		},
		{
			name: "8,000 thoughts",
			path: responses,
			body: func() string {
				thought := `{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"` +
					strings.Repeat("x", 200) + `%d"}]}`
				return `{"model":"tiny","max_output_tokens":1,"input":[` + counted(8_000, thought) + `]}`
			},
		},
		{
			name: "8,000 messages of one role",
			path: chat,
			body: func() string {
				message := `{"role":"user","content":"` + strings.Repeat("x", 200) + `%d"}`
				return `{"model":"tiny","max_tokens":1,"messages":[` + counted(8_000, message) + `]}`
			},
		},
	}
}

// properties is a schema of an object with n properties, each of the form.
func properties(n int, form string) string {
	return `{"type":"object","properties":{` + counted(n, form) + `}}`
}

// chained is a schema of n definitions, each of which refers to the next one wherever its form has a #.
func chained(n int, form, last string) string {
	var b strings.Builder
	b.WriteString(`{"$schema":"http://json-schema.org/draft-07/schema#",` +
		`"allOf":[{"$ref":"#/definitions/d0"}],"definitions":{`)
	for i := range n {
		next := fmt.Sprintf(`{"$ref":"#/definitions/d%d"}`, i+1)
		fmt.Fprintf(&b, `"d%d":%s,`, i, strings.ReplaceAll(form, "#", next))
	}
	fmt.Fprintf(&b, `"d%d":%s}}`, n, last)
	return b.String()
}

// counted is n parts with their numbers.
func counted(n int, form string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(form, i)
	}
	return strings.Join(parts, ",")
}

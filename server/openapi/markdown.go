package openapi

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"serve/server/dialect"
	"serve/server/wire"
)

// Endpoints returns a table of endpoints, in Markdown.
func Endpoints(groups []Group) string {
	var b strings.Builder
	b.WriteString("| endpoint | API | permission | description |\n|---|---|---|---|\n")
	for _, g := range groups {
		for i := range g.Routes {
			r := &g.Routes[i]
			fmt.Fprintf(&b, "| `%s %s` | %s | %s | %s |\n", r.Method, Path(r), g.Name, r.Right, r.Doc)
		}
	}
	return b.String()
}

// Queries returns a table of the parameters of queries, in Markdown. Those of all endpoints of an API stand there once.
func Queries(groups []Group) string {
	var b strings.Builder
	b.WriteString("| endpoint | parameter | | values | description |\n|---|---|---|---|---|\n")
	row := func(endpoint string, d wire.Description) {
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s |\n", endpoint, d.Name, d.Policy, values(d), d.Doc)
	}

	for _, g := range groups {
		common := inAll(g.Routes)
		for _, d := range common {
			row("all of "+g.Name+"'s", d)
		}
		for i := range g.Routes {
			r := &g.Routes[i]
			for _, d := range r.Query {
				if !named(common, d.Name) {
					row(fmt.Sprintf("`%s %s`", r.Method, Path(r)), d)
				}
			}
		}
	}

	return b.String()
}

// inAll returns the parameters that all routes have.
func inAll(routes []dialect.Route) (common []wire.Description) {
	if len(routes) == 0 {
		return nil
	}
	for _, d := range routes[0].Query {
		everywhere := true
		for i := range routes {
			everywhere = everywhere && named(routes[i].Query, d.Name)
		}
		if everywhere {
			common = append(common, d)
		}
	}
	return common
}

func named(list []wire.Description, name string) bool {
	return slices.ContainsFunc(list, func(d wire.Description) bool { return d.Name == name })
}

// Fields returns a section with a table of fields for each endpoint that reads a body, in Markdown.
// Endpoints that follow each other and have the very same fields share one. Shown returns the names of
// tests that show that a field does what is said of it; it may be nil.
func Fields(routes []dialect.Route, shown func(field string) []string) string {
	var b strings.Builder
	for i := range routes {
		r := &routes[i]
		if len(r.Fields) == 0 {
			continue
		}

		title := r.Method + " " + Path(r)
		if i > 0 && len(routes[i-1].Fields) > 0 && &r.Fields[0] == &routes[i-1].Fields[0] {
			fmt.Fprintf(&b, "`%s` takes the same fields.\n\n", title)
			continue
		}

		fmt.Fprintf(&b, "### %s\n\n", title)
		writeFields(&b, r.Fields, shown)
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func writeFields(b *strings.Builder, fields []wire.Description, shown func(field string) []string) {
	head := "| field | | values | description |"
	line := "|---|---|---|---|"
	if shown != nil {
		head += " shown by |"
		line += "---|"
	}
	b.WriteString(head + "\n" + line + "\n")

	for _, f := range sorted(fields) {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |", f.Name, f.Policy, values(f), f.Doc)
		if shown != nil {
			tests := shown(f.Name)
			fmt.Fprintf(b, " %s |", strings.Join(tests[:min(2, len(tests))], ", "))
		}
		b.WriteString("\n")
	}
}

func sorted(fields []wire.Description) []wire.Description {
	return slices.SortedFunc(slices.Values(fields), func(a, b wire.Description) int {
		return strings.Compare(a.Name, b.Name)
	})
}

// values says in a few words which values a field takes.
func values(f wire.Description) string {
	text := kind(f.Schema)
	if f.Required {
		text += ", required"
	}
	if value, ok := f.Schema["default"]; ok {
		text += fmt.Sprintf(", default %v", value)
	}
	return text
}

func kind(s wire.Schema) string {
	if of, ok := s["anyOf"].([]wire.Schema); ok {
		var kinds []string
		for _, alternative := range of {
			if k := kind(alternative); !slices.Contains(kinds, k) {
				kinds = append(kinds, k)
			}
		}
		return strings.Join(kinds, " or ")
	}

	switch values := s["enum"].(type) {
	case []string:
		return "`" + strings.Join(values, "`, `") + "`"
	case []json.RawMessage:
		texts := make([]string, len(values))
		for i, v := range values {
			texts[i] = "`" + string(v) + "`"
		}
		return strings.Join(texts, ", ")
	}

	text, _ := s["type"].(string)
	if s["minimum"] != nil {
		text += bounds(s)
	}
	return text
}

// bounds returns the bounds of a number, without those that only say what fits into a variable.
func bounds(s wire.Schema) string {
	low := asFloat(s["minimum"])
	high := asFloat(s["maximum"])
	switch {
	case low <= math.MinInt32:
		return ""
	case high >= math.MaxInt32:
		return fmt.Sprintf(" from %v", s["minimum"])
	}
	return fmt.Sprintf(" %v to %v", s["minimum"], s["maximum"])
}

// asFloat returns a bound, which is an int64 or a float64.
func asFloat(bound any) float64 {
	if n, ok := bound.(int64); ok {
		return float64(n)
	}
	f, _ := bound.(float64)
	return f
}

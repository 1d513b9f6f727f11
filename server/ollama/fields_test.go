package ollama

import (
	"maps"
	"regexp"
	"strings"
	"testing"

	"serve/fault"
	"serve/server/wire"
	"serve/testfiles"
)

// tables are those of docs/ollama.md, by their headings.
var tables = map[string]table{
	"POST /api/chat":       chatTable,
	"POST /api/generate":   generateTable,
	"options":              optionFields,
	"POST /api/embed":      embedTable,
	"POST /api/embeddings": embeddingsTable,
	"POST /api/show":       showTable,
	"POST /api/pull":       pullTable,
	"POST /api/copy":       copyTable,
	"DELETE /api/delete":   removeTable,
}

var (
	heading = regexp.MustCompile("(?m)^### `?([^`\n]+)`?$")
	fieldOf = regexp.MustCompile("(?m)^\\| ((?:`[^`]+`(?:, )?)+) \\| (\\w+) \\|")
)

// TestDocument compares docs/ollama.md with the tables that requests are read by.
func TestDocument(t *testing.T) {
	const path = "../../docs/ollama.md"
	text := string(testfiles.Like(t, path)[path])
	found := map[string]map[string]policy{}
	places := heading.FindAllStringSubmatchIndex(text, -1)
	for i, at := range places {
		end := len(text)
		if i+1 < len(places) {
			end = places[i+1][0]
		}
		rows := map[string]policy{}
		for _, row := range fieldOf.FindAllStringSubmatch(text[at[0]:end], -1) {
			for name := range strings.SplitSeq(row[1], ", ") {
				rows[strings.Trim(name, "`")] = policy(row[2])
			}
		}
		found[text[at[2]:at[3]]] = rows
	}

	for name, table := range tables {
		rows := map[string]policy{}
		for field, row := range table.fields {
			rows[field] = row.policy
		}
		if !maps.Equal(rows, found[name]) {
			t.Errorf("%s: the document has %v, the table %v", name, found[name], rows)
		}
	}
}

// TestPolicies sees what becomes of a field with values of every type: one that is refused says so of each,
// and one that is ignored is named; one that is accepted leaves no trace.
func TestPolicies(t *testing.T) {
	probes := []string{"true", "7", "0.5", `"probe"`, `{"probe":1}`, `["probe"]`}
	for endpoint, table := range tables {
		for name, row := range table.fields {
			refusals, named := 0, 0
			for _, raw := range probes {
				var req request
				e := row.set(&req, wire.Value{Name: name, Raw: []byte(raw)})
				if e != nil && e.Kind == fault.Unsupported {
					refusals++
				}
				named += len(req.ignoredNames)
			}

			all := len(probes)
			switch row.policy {
			case refused:
				if refusals != all {
					t.Errorf("%s: %s is refused %d times of %d", endpoint, name, refusals, all)
				}
			case ignored:
				// A value may mean that nothing is asked for.
				if named < all-1 {
					t.Errorf("%s: %s is named %d times of %d", endpoint, name, named, all)
				}
			default:
				// options names what is in it.
				if refusals > 0 || named > 0 && name != "options" {
					t.Errorf("%s: %s is refused %d times and named %d times", endpoint, name, refusals, named)
				}
			}
		}
	}
}

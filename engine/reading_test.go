package engine

import (
	"reflect"
	"testing"
)

// TestFillRankTemplate fills in texts that have a placeholder themselves. All of each is quoted, and nothing else.
func TestFillRankTemplate(t *testing.T) {
	for _, c := range []struct {
		template, query, document string
		want                      string
		quoted                    []Range
	}{
		{"<q>{query}<d>{document}</d>", "a", "bc", "<q>a<d>bc</d>", []Range{{3, 4}, {7, 9}}},
		{"{document}{query}", "{document}", "{query}", "{query}{document}", []Range{{0, 7}, {7, 17}}},
		{"{query} {query}{", "", "d", " {", []Range{{0, 0}, {1, 1}}},
		{"nothing", "q", "d", "nothing", nil},
	} {
		got, quoted := fillRankTemplate(c.template, c.query, c.document)
		if got != c.want || !reflect.DeepEqual(quoted, c.quoted) {
			t.Errorf("%q: %q, %v; want %q, %v", c.template, got, quoted, c.want, c.quoted)
		}
		if err := (Reading{Quoted: quoted}).Check(len(got)); err != nil {
			t.Errorf("%q: %v", c.template, err)
		}
	}
}

// TestReadingCheck refuses ranges that are not those of a text.
func TestReadingCheck(t *testing.T) {
	for _, c := range []struct {
		quoted []Range
		ok     bool
	}{
		{nil, true},
		{[]Range{{0, 5}}, true},
		{[]Range{{0, 2}, {2, 2}, {2, 5}}, true},
		{[]Range{{0, 6}}, false},
		{[]Range{{-1, 2}}, false},
		{[]Range{{3, 2}}, false},
		{[]Range{{2, 3}, {1, 4}}, false},
		{[]Range{{0, 3}, {2, 4}}, false},
	} {
		if err := (Reading{Quoted: c.quoted}).Check(5); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.quoted, err)
		}
	}
}

package wire

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"serve/fault"
)

// queried is a request with a parameter of each type.
type queried struct {
	count int
	share float64
	name  string
	order string
	on    bool
	list  []string
}

var queryTable = Table[queried]{
	{Name: "count", Type: IntegerOf(1, 100, func(q *queried) *int { return &q.count })},
	{Name: "share", Type: NumberOf(0, 1, func(q *queried) *float64 { return &q.share })},
	{Name: "name", Type: StringOf(func(q *queried) *string { return &q.name })},
	{Name: "order", Type: OneOf(func(q *queried, s string) { q.order = s }, "asc", "desc")},
	{Name: "on", Type: BoolOf(func(q *queried) *bool { return &q.on })},
	{Name: "stream", Type: Refuse[queried]("There is none.", "false", `"none"`)},
	{Name: "list", Type: Custom(ListOf(String, 2), func(q *queried, v Value) *fault.Error {
		elements, e := v.Array(2)
		for _, element := range elements {
			text, e := element.Text()
			if e != nil {
				return e
			}
			q.list = append(q.list, text)
		}
		return e
	})},
}

// TestQuery reads queries of every kind, and checks them by the same declarations.
func TestQuery(t *testing.T) {
	for query, want := range map[string]queried{
		"":                                 {},
		"count=7&share=0.5&on=true":        {count: 7, share: 0.5, on: true},
		"name=7&order=desc":                {name: "7", order: "desc"},
		"name=true":                        {name: "true"},
		"name=null":                        {name: "null"},
		"name=%22a%22%0Ab+c":               {name: "\"a\"\nb c"},
		"count=1e1":                        {count: 10},
		"count=&name=&list=&on":            {},
		"list=a&list=b":                    {list: []string{"a", "b"}},
		"list[]=a&list%5B%5D=1":            {list: []string{"a", "1"}},
		"list=a&list[]=b":                  {list: []string{"a", "b"}},
		"stream=false":                     {},
		"stream=none":                      {},
		"count=&count=3":                   {count: 3},
		"name=%F0%9F%99%82&name[]=&order=": {name: "🙂"},
	} {
		if ignored, e := CheckQuery(query, queryTable.Describe(), false); e != nil || ignored != nil {
			t.Errorf("%s: %q is ignored, %v", query, ignored, e)
		}
		var got queried
		if e := queryTable.Query(query, &got); e != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v; %v", query, got, want, e)
		}
	}
}

// TestQueryRefused refuses queries that are not declared or cannot be read, by a name.
func TestQueryRefused(t *testing.T) {
	for query, want := range map[string]string{
		"other=1":              "unknown other",
		"other":                "unknown other",
		"Count=1":              "unknown Count",
		"metadata[a]=b":        "unknown metadata[a]",
		"=1":                   "unknown ",
		"count=x":              "type count",
		"count=0":              "small count",
		"count=101":            "large count",
		"count=7.5":            "type count",
		"count= 7":             "type count",
		"count=true":           "type count",
		"count=7&count=7":      "value count",
		"count=7&count[]=8":    "value count",
		"on=1":                 "type on",
		"on=True":              "type on",
		"order=up":             "value order",
		"stream=true":          "unsupported stream",
		"list=a&list=b&list=":  "",
		"list=a&list=b&list=c": "long list",
		"name=%FF":             "malformed ",
		"%FF=1":                "malformed ",
		"name=%zz":             "malformed ",
		"name=a;count=2":       "malformed ",
	} {
		_, checked := CheckQuery(query, queryTable.Describe(), false)
		if got := kindOf(checked); got != want {
			t.Errorf("%s: %q, want %q; %v", query, got, want, checked)
		}
		var into queried
		read := queryTable.Query(query, &into)
		if got := kindOf(read); got != want && !strings.HasPrefix(want, "unknown") {
			t.Errorf("%s is read: %q, want %q; %v", query, got, want, read)
		}
	}

	ignored, e := CheckQuery("b=1&count=7&a=2", queryTable.Describe(), true)
	if fmt.Sprint(ignored) != "[a b]" || e != nil {
		t.Errorf("%q is ignored, %v", ignored, e)
	}
	if _, e := CheckQuery("b=1&count=x", queryTable.Describe(), true); kindOf(e) != "type count" {
		t.Error(e)
	}
}

// kindOf says in a word what an error is, and of what.
func kindOf(e *fault.Error) string {
	if e == nil {
		return ""
	}
	words := map[fault.Kind]string{
		fault.UnknownField:    "unknown",
		fault.WrongType:       "type",
		fault.InvalidValue:    "value",
		fault.IntegerTooSmall: "small",
		fault.IntegerTooLarge: "large",
		fault.ArrayTooLong:    "long",
		fault.Unsupported:     "unsupported",
		fault.Malformed:       "malformed",
	}
	return words[e.Kind] + " " + e.Field
}

// FuzzQuery reads any query: strings are read as they were given, and whatever is read was checked alike.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{"name=a&count=3", "list[]=a&list=b", "on=true&x", "name=%zz;", "stream=false&order=asc"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		_, checked := CheckQuery(query, queryTable.Describe(), true)
		var got queried
		read := queryTable.Query(query, &got)
		if (checked == nil) != (read == nil) {
			t.Errorf("%q is checked with %v and read with %v", query, checked, read)
		}
		if read != nil {
			return
		}
		pairs, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if given := pairs["name"]; len(given) == 1 && len(pairs["name[]"]) == 0 && got.name != given[0] {
			t.Errorf("%q is %q", given, got.name)
		}
		if _, err := json.Marshal(got.list); err != nil || len(got.list) > 2 {
			t.Errorf("%q, %v", got.list, err)
		}
	})
}

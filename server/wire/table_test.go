package wire

import (
	"slices"
	"testing"

	"serve/fault"
)

type inner struct {
	name  string
	count int
}

type outer struct {
	inner
	level float32
	own   int
}

var innerTable = Table[inner]{
	{Name: "name", Required: true, Type: StringOf(func(i *inner) *string { return &i.name })},
	{Name: "count", Type: IntegerOf(1, 9, func(i *inner) *int { return &i.count })},
	{Name: "skipped", Type: Ignore[inner](Bool)},
	{Name: "audio", Type: Refuse[inner]("There is none.", `"off"`)},
}

var outerTable = Lift(func(o *outer) *inner { return &o.inner }, innerTable, Table[outer]{
	{Name: "level", Required: true, Type: NumberOf(0, 1, func(o *outer) *float32 { return &o.level })},
	{Name: "count", Type: IntegerOf(0, 99, func(o *outer) *int { return &o.own })},
})

// TestTable decodes requests by a table that contains another.
func TestTable(t *testing.T) {
	for body, want := range map[string]struct {
		request outer
		kind    fault.Kind
		field   string
	}{
		`{"name":"a","level":0.5,"count":50}`:   {request: outer{inner{"a", 0}, 0.5, 50}},
		`{"name":"a","level":1,"skipped":true}`: {request: outer{inner{"a", 0}, 1, 0}},
		`{"name":"a","level":1,"audio":"off"}`:  {request: outer{inner{"a", 0}, 1, 0}},
		`{"name":"a","level":1,"count":null}`:   {request: outer{inner{"a", 0}, 1, 0}},
		`{}`:                                    {kind: fault.MissingField, field: "name"},
		`{"name":"a","level":null}`:             {kind: fault.MissingField, field: "level"},
		`{"name":"a","level":2}`:                {kind: fault.DecimalTooLarge, field: "level"},
		`{"name":"a","level":1,"skipped":1}`:    {kind: fault.WrongType, field: "skipped"},
		`{"name":"a","level":1,"audio":"on"}`:   {kind: fault.Unsupported, field: "audio"},
		`{"name":"a","level":1,"nope":"on"}`:    {kind: fault.UnknownField, field: "nope"},
		`[]`:                                    {kind: fault.Malformed},
	} {
		var got outer
		e := outerTable.Decode([]byte(body), &got, nil)
		switch {
		case e == nil && want.kind == 0:
			if got != want.request {
				t.Errorf("%s became %+v", body, got)
			}
		case e == nil || e.Kind != want.kind || e.Field != want.field:
			t.Errorf("%s: %+v", body, e)
		}
	}
}

// TestDescriptions looks at the order of fields, and at what is said of refused ones.
func TestDescriptions(t *testing.T) {
	var names []string
	for _, d := range outerTable.Describe() {
		names = append(names, d.Name)
		if d.Name == "audio" && (d.Policy != PolicyRefused || d.Doc != "There is none.") {
			t.Errorf("got %+v", d)
		}
	}
	if want := []string{"name", "skipped", "audio", "level", "count"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}

	var level outer
	if e := outerTable.Optional("level").Decode([]byte(`{"name":"a"}`), &level, nil); e != nil {
		t.Errorf("level is not required: %+v", e)
	}

	picked := innerTable.Pick("skipped", "name")
	if len(picked) != 2 || picked[0].Name != "skipped" || picked[1].Name != "name" {
		t.Errorf("picked %+v", picked)
	}
}

// TestNotes collects the fields that have no effect.
func TestNotes(t *testing.T) {
	table := Table[inner]{{
		Name: "list",
		Type: Custom(Array, func(_ *inner, v Value) *fault.Error {
			list, e := v.Array(2)
			for _, item := range list {
				object, e := item.Object()
				if e != nil {
					return e
				}
				Others(object, "name")
			}
			return e
		}),
	}}

	const body = `{"list":[{"name":1,"b":2,"a":{"c":1}},{"b":3,"d":null}],"top":1}`
	var notes Notes
	if e := table.Decode([]byte(body), new(inner), &notes); e == nil || e.Field != "top" {
		t.Errorf("strict: %+v", e)
	}

	notes = Notes{Lenient: true}
	if e := table.Decode([]byte(body), new(inner), &notes); e != nil {
		t.Errorf("lenient: %+v", e)
	}
	if want := []string{"list[0].a", "list[0].b", "top"}; !slices.Equal(notes.Ignored(), want) {
		t.Errorf("ignored %q, want %q", notes.Ignored(), want)
	}
}

package prompt

import (
	"reflect"
	"testing"

	"serve/engine"
)

func TestWithin(t *testing.T) {
	quoted := []engine.Range{{From: 2, To: 4}, {From: 6, To: 9}}
	for _, c := range []struct {
		from, to int
		want     []engine.Range
	}{
		{0, 10, quoted},
		{3, 7, []engine.Range{{From: 0, To: 1}, {From: 3, To: 4}}},
		{4, 6, nil},
		{7, 8, []engine.Range{{From: 0, To: 1}}},
		{9, 9, nil},
	} {
		if got := within(quoted, c.from, c.to); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%d to %d: %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

// TestRestoreQuoted has names take the places of aliases: each is quoted, and what was quoted still is.
func TestRestoreQuoted(t *testing.T) {
	alias := newAlias()
	tools := Tools{List: []Tool{{Name: "n", alias: alias}}}
	before := "<a>x" + alias + "y<b>" + alias + "<c>z"
	r := &engine.Rendered{
		Prompt: before,
		Quoted: []engine.Range{
			{From: 3, To: 3 + 1 + len(alias) + 1},
			{From: len(before) - 1, To: len(before)},
		},
	}
	tools.restoreNames(r)

	want := []engine.Range{{From: 3, To: 6}, {From: 9, To: 10}, {From: 13, To: 14}}
	if r.Prompt != "<a>xny<b>n<c>z" || !reflect.DeepEqual(r.Quoted, want) {
		t.Errorf("%q, %v; want %v", r.Prompt, r.Quoted, want)
	}
}

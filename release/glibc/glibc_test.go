package glibc

import "testing"

func TestCompare(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"2.34", "2.34", 0},
		{"2.4", "2.34", -1}, // as numbers, not as text
		{"2.34", "2.2.5", 1},
		{"2.2.5", "2.2", 1},
		{"2.2.5", "", 1},
		{"PRIVATE", "2.17", -1},
	} {
		if got := Compare(test.a, test.b); got != test.want {
			t.Errorf("Compare(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

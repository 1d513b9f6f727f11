package wire

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"serve/fault"
)

func FuzzAppendString(f *testing.F) {
	f.Add("plain \"quoted\" \\ \n\t\x00\x1f \u20ac \xff\xfe \u2028")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(AppendString(nil, s), &got); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		want, _ := json.Marshal(s)
		var standard string
		json.Unmarshal(want, &standard)
		if got != standard {
			t.Errorf("%q became %q, encoding/json makes it %q", s, got, standard)
		}
	})
}

// TestScanEnds scans what is no JSON to its end.
func TestScanEnds(t *testing.T) {
	for _, body := range []string{"{\"a\":{\x02", "{\"a\":[\x00]", "{\"a\":\x1f", "{\"a", "{\"a\":{\"b\\"} {
		if name := Member([]byte(body), "model"); name != "" {
			t.Errorf("%q has the model %q", body, name)
		}
		elements([]byte("["+body), func(json.RawMessage) bool { return true })
	}
}

// TestIntegerBounds tells the bounds of integers exactly, however large.
func TestIntegerBounds(t *testing.T) {
	for text, want := range map[string]string{
		"9223372036854775808":  "a value <= 9223372036854775807, but got",
		"-9223372036854775809": "a value >= -9223372036854775808, but got",
	} {
		_, e := Value{Name: "seed", Raw: json.RawMessage(text)}.Integer(math.MinInt64, math.MaxInt64)
		if e == nil || !strings.Contains(e.Message, want) {
			t.Errorf("%s: %v", text, e)
		}
	}
}

// TestOnly names the same unknown field every time.
func TestOnly(t *testing.T) {
	v := Value{Name: "tool", Raw: json.RawMessage(`{"name":"f","beta":1,"alpha":2,"gamma":3}`)}
	object, e := v.Object()
	if e != nil {
		t.Fatal(e)
	}
	for range 100 {
		if e := Only(object, "name"); e == nil || e.Kind != fault.UnknownField || e.Field != "tool.alpha" {
			t.Fatalf("got %+v", e)
		}
	}
	if e := Only(object, "name", "alpha", "beta", "gamma"); e != nil {
		t.Errorf("all fields are known: %v", e)
	}
}

// TestAddList keeps headers within what clients read.
func TestAddList(t *testing.T) {
	for name, tt := range map[string]struct{ list, want []string }{
		"none":             {nil, nil},
		"all":              {[]string{"a", "b"}, []string{"a", "b"}},
		"as many as fit":   {strings.Split("abcdefgh", ""), strings.Split("abcdefgh", "")},
		"too many":         {strings.Split("abcdefghij", ""), append(strings.Split("abcdefg", ""), "and 3 more")},
		"too long":         {[]string{"a", strings.Repeat("x", 4096), "b"}, []string{"a", "and 2 more"}},
		"unprintable ones": {[]string{"a\r\nX-Evil: 1", "é"}, []string{`a\r\nX-Evil: 1`, `\u00e9`}},
	} {
		h := http.Header{}
		AddList(h, "X-List", tt.list)
		if got := h.Values("X-List"); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

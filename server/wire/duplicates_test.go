package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestDuplicates names the key that an object has twice, at every depth.
func TestDuplicates(t *testing.T) {
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, `"k%d":%d,`, i, i)
	}
	for text, path := range map[string]string{
		`{}`: "",
		`{"a":1,"b":{"a":1},"c":[{"a":1},{"a":1}]}`: "",
		`{"a":"a","b":"a"}`:                         "",
		`{"a":"\"a\":1,\"a\":2"}`:                   "",
		`{"a":"\\","b":"{\"a\\\\"}`:                 "",
		`{"a":[["a","a"],["a"]],"b":"a"}`:           "",
		`{"A":1,"a":2}`:                             "",
		`{` + many.String() + `"last":1}`:           "",
		`{"a":1,"a":2}`:                             "a",
		` { "a" : 1 , "\u0061" : 2 } `:              "a",
		`{"a\"b":1,"a\u0022b":2}`:                   `a"b`,
		`{"":1,"":2}`:                               "",
		`{"messages":[{"role":"user"},{"role":"user","content":"x","role":"system"}]}`: "messages[1].role",
		`{"a":{"x":1,"b":[[0,{"c":null,"c":null}]]}}`:                                  "a.b[0][1].c",
		`{"a":{"x":1},"b":{"y":{},"z":[],"y":1}}`:                                      "b.y",
		`{"x":{` + many.String() + `"k7":1}}`:                                          "x.k7",
	} {
		if !json.Valid([]byte(text)) {
			t.Fatalf("the test's own text is not JSON: %s", text)
		}
		e := refuseDuplicates([]byte(text))
		wanted := path != "" || text == `{"":1,"":2}`
		if (e != nil) != wanted || e != nil && e.Field != path {
			t.Errorf("%.80s: got %v, want %q", text, e, path)
		}
	}
}

// TestDuplicatesInBodies refuses them wherever a table is decoded.
func TestDuplicatesInBodies(t *testing.T) {
	type request struct{ text string }
	table := Table[request]{{
		Name: "a",
		Type: StringOf(func(r *request) *string { return &r.text }),
	}}
	var r request
	if e := table.Decode([]byte(`{"a":"what is checked","a":"what counts"}`), &r, nil); e == nil || e.Field != "a" {
		t.Errorf("got %v, %v", r, e)
	}
}

func FuzzDuplicates(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":"\\\""},1e5,null],"a":{"b":{}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if !json.Valid(text) {
			return
		}
		e := refuseDuplicates(text)
		if want := hasDuplicate(json.NewDecoder(strings.NewReader(string(text)))); (e != nil) != want {
			t.Errorf("%q: got %v, want %v", text, e, want)
		}
	})
}

// hasDuplicate reports whether an object of the next value has a key twice, as encoding/json splits it.
func hasDuplicate(d *json.Decoder) bool {
	token, err := d.Token()
	if err != nil {
		return false
	}
	delimiter, opens := token.(json.Delim)
	if !opens {
		return false
	}

	found := false
	keys := map[string]bool{}
	for d.More() {
		if delimiter == '{' {
			key, _ := d.Token()
			name, _ := key.(string)
			found = found || keys[name]
			keys[name] = true
		}
		found = hasDuplicate(d) || found
	}
	_, _ = d.Token()
	return found
}

// benchmarkBody is a chat of 1 MiB in messages of 1 KiB.
func benchmarkBody() []byte {
	message := `{"role":"user","content":"` + strings.Repeat(`a word, a \"quote\", `, 46) + `"}`
	messages := strings.Repeat(message+",", 1<<20/len(message)) + message
	return []byte(`{"model":"m","messages":[` + messages + `]}`)
}

func BenchmarkDuplicates(b *testing.B) {
	body := benchmarkBody()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if e := refuseDuplicates(body); e != nil {
			b.Fatal(e)
		}
	}
}

// BenchmarkSplit is what decoding the same body takes before its messages are read.
func BenchmarkSplit(b *testing.B) {
	body := benchmarkBody()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, e := split(body); e != nil {
			b.Fatal(e)
		}
	}
}

package wire

import (
	"encoding/json"
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

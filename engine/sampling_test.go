package engine

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"testing"
)

// TestParameters holds the declarations against the struct whose variables they are of.
func TestParameters(t *testing.T) {
	declared := map[string]bool{}
	for _, p := range Parameters {
		if (p.Float == nil) == (p.Int == nil) || declared[p.Name] {
			t.Errorf("%s is declared twice, or as no number", p.Name)
			continue
		}
		declared[p.Name] = true
		if p.Default < p.Low || p.Default > p.High || p.Off < p.Low || p.Off > p.High {
			t.Errorf("%s: the default or the value that turns it off is out of bounds", p.Name)
		}

		var s Sampling
		p.Set(&s, 3)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var keys map[string]any
		if err := json.Unmarshal(text, &keys); err != nil {
			t.Fatal(err)
		}
		if keys[p.Name] != 3.0 || p.Get(&s) != 3 {
			t.Errorf("%s is not the key of its variable: %s", p.Name, text)
		}
	}

	numbers := []reflect.Kind{reflect.Float32, reflect.Int32}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Sampling]()) {
		if key := f.Tag.Get("json"); slices.Contains(numbers, f.Type.Kind()) && !declared[key] {
			t.Errorf("%s is not declared in Parameters", f.Name)
		}
	}
}

// TestDefaultSampling compares the defaults with those that are documented.
func TestDefaultSampling(t *testing.T) {
	s := DefaultSampling()
	if s.Temperature != 1 || s.TopP != 1 || s.MinP != 0.05 || s.TopK != 0 || s.RepeatPenalty != 1 {
		t.Errorf("got %+v", s)
	}
	for _, p := range Parameters {
		off := math.IsNaN(p.Off) || p.Get(&s) == p.Off
		if !off && !slices.Contains([]string{"min_p", "repeat_last_n", "dry_penalty_last_n"}, p.Name) {
			t.Errorf("%s is on by default", p.Name)
		}
	}
}

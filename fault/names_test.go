package fault

import "testing"

// TestNames gives every kind a name of its own.
func TestNames(t *testing.T) {
	seen := map[string]Kind{}
	for _, k := range Kinds() {
		name := k.String()
		if other, twice := seen[name]; name == "" || twice {
			t.Errorf("kinds %d and %d are named %q", k, other, name)
		}
		seen[name] = k
	}
}

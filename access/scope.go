package access

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Scope is a set of what a key may be used for.
type Scope uint8

// The scopes.
const (
	Inference Scope = 1 << iota // ask models, and use what is stored for that
	Models                      // list the models
	Metrics                     // read status and metrics
	Admin                       // load, pull, rename and delete models
)

// DefaultScope is what a key may be used for if nothing is said.
const DefaultScope = Inference | Models

// scopeNames are the names of scopes, in order.
var scopeNames = []string{"inference", "models", "metrics", "admin"}

// AllScopes returns the names of all scopes, in order.
func AllScopes() []string { return slices.Clone(scopeNames) }

// ParseScope reads the names of scopes.
func ParseScope(names []string) (s Scope, err error) {
	for _, name := range names {
		i := slices.Index(scopeNames, name)
		if i < 0 {
			return 0, fmt.Errorf("no scope is named %q: there are %s", name, strings.Join(scopeNames, ", "))
		}
		s |= 1 << i
	}
	if s == 0 {
		return 0, fmt.Errorf("a key needs a scope: %s", strings.Join(scopeNames, ", "))
	}
	return s, nil
}

// Names returns the names of the scopes in a set.
func (s Scope) Names() []string {
	var names []string
	for i, name := range scopeNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String returns the names with commas between them.
func (s Scope) String() string { return strings.Join(s.Names(), ",") }

// MarshalJSON writes a list of names.
func (s Scope) MarshalJSON() ([]byte, error) { return json.Marshal(s.Names()) }

// UnmarshalJSON reads a list of names.
func (s *Scope) UnmarshalJSON(text []byte) error {
	var names []string
	if err := json.Unmarshal(text, &names); err != nil {
		return err
	}
	var err error
	*s, err = ParseScope(names)
	return err
}

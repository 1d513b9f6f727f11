package library

import (
	"fmt"
	"strings"

	"serve/pool"
)

// NameAliases gives models other names. An alias is name=model, or a name for the first model.
func NameAliases(list []*pool.Model, aliases []string) error {
	for _, alias := range aliases {
		name, target, named := strings.Cut(alias, "=")
		m := list[0]
		if named {
			m = nil
			for _, l := range list {
				if l.ID == target {
					m = l
				}
			}
		}
		if m == nil || name == "" {
			return fmt.Errorf("%q does not name a served model", alias)
		}
		m.Aliases = append(m.Aliases, name)
	}
	return nil
}

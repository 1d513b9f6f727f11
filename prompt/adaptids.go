package prompt

import (
	"crypto/sha256"
	"fmt"
	"math/big"
	"slices"
)

// nameIDs gives results the IDs that the template writes for their calls: the name of the function and a number. It
// counts the calls of the whole conversation, or of each message.
func (a *adapter) nameIDs() {
	whole := a.takes(namedIDsCount)
	named := map[string][]string{} // by ID, in order: IDs may come again
	n := 0
	for i := range a.messages {
		m := &a.messages[i]
		if !whole {
			n = 0
		}
		m.Calls = slices.Clone(m.Calls)
		for k := range m.Calls {
			c := &m.Calls[k]
			id := fmt.Sprintf("functions.%s:%d", c.Name, n)
			named[c.ID] = append(named[c.ID], id)
			c.ID = id
			n++
		}

		ids := named[m.CallID]
		if m.Role != ToolRole || len(ids) == 0 {
			continue
		}
		if m.CallID != ids[0] {
			a.note(NoteCallIDs)
		}
		named[m.CallID] = ids[1:]
		m.CallID = ids[0]
	}
}

// shortIDs replaces the IDs of calls by nine letters and digits, the same ones in every request.
func (a *adapter) shortIDs() {
	ids := map[string]string{}
	taken := map[string]bool{}
	short := func(id string) string {
		if isShort(id) || ids[id] != "" {
			return ids[id]
		}
		for n := 0; ; n++ {
			hash := sha256.Sum256(fmt.Appendf(nil, "%d %s", n, id))
			text := new(big.Int).SetBytes(hash[:]).Text(36)
			if text = text[:9]; !taken[text] {
				taken[text] = true
				ids[id] = text
				return text
			}
		}
	}

	for i := range a.messages {
		m := &a.messages[i]
		for _, c := range m.Calls {
			if isShort(c.ID) {
				taken[c.ID] = true
				ids[c.ID] = c.ID
			}
		}
	}
	for i := range a.messages {
		m := &a.messages[i]
		m.Calls = slices.Clone(m.Calls)
		for k := range m.Calls {
			m.Calls[k].ID = short(m.Calls[k].ID)
		}
		if m.Role == ToolRole {
			m.CallID = short(m.CallID)
		}
	}
	a.note(NoteCallIDs)
}

// isShort reports whether an ID is nine letters and digits.
func isShort(id string) bool {
	if len(id) != 9 {
		return false
	}
	for _, c := range []byte(id) {
		if !isLetter(c) && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

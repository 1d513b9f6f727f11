package access

import (
	"fmt"
	"strings"
	"time"
)

// Headings are those of Cells.
var Headings = []string{
	"NAME", "ID", "STATE", "TENANT", "SCOPES", "MODELS", "LIMITS", "TOKENS TODAY", "EXPIRES", "LAST USED", "CERTIFICATE",
}

// Cells describes a key in a line of a table.
func (l *Listed) Cells() []string {
	models := "all"
	if len(l.Models) > 0 {
		models = strings.Join(l.Models, ",")
	}
	return []string{
		l.Name,
		l.ID,
		l.State(time.Now()),
		l.Tenant,
		l.Scopes.String(),
		models,
		l.Limits.String(),
		fmt.Sprint(l.Tokens),
		formatTime(l.Expires),
		formatTime(l.Used),
		l.Certificate,
	}
}

// formatTime writes a time for a table, "never" for none.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// String writes the limits that there are.
func (l Limits) String() string {
	var parts []string
	for _, limit := range []struct {
		n    int
		what string
	}{
		{l.RequestsPerMinute, "requests/min"},
		{l.TokensPerMinute, "tokens/min"},
		{l.TokensPerDay, "tokens/day"},
		{l.Concurrent, "at once"},
		{l.BytesInFlight, "bytes in flight"},
		{l.BytesStored, "bytes stored"},
	} {
		if limit.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", limit.n, limit.what))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// View is a key as programs see it: without its hashes.
type View struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Tenant  string    `json:"tenant"`
	Scopes  Scope     `json:"scopes"`
	Models  []string  `json:"models"`
	Limits  Limits    `json:"limits"`
	State   string    `json:"state"`
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Revoked time.Time `json:"revoked,omitzero"`
	Used    time.Time `json:"last_used,omitzero"`
	MadeBy  string    `json:"made_by,omitempty"` // the key of the administrator who has made it
	Tokens  int       `json:"tokens_today"`
	Secret  string    `json:"secret,omitempty"` // only of a key that was just made

	Certificate string `json:"certificate,omitempty"`
}

// View returns the key as programs see it.
func (l *Listed) View() View {
	return View{
		ID:      l.ID,
		Name:    l.Name,
		Tenant:  l.Tenant,
		Scopes:  l.Scopes,
		Models:  append([]string{}, l.Models...),
		Limits:  l.Limits,
		State:   l.State(time.Now()),
		Created: l.Created,
		Expires: l.Expires,
		Revoked: l.Revoked,
		MadeBy:  l.MadeBy,
		Used:    l.Used,
		Tokens:  l.Tokens,

		Certificate: l.Certificate,
	}
}

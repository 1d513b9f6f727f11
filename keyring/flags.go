package keyring

import (
	"serve/access"
	"serve/flagset"
)

// New is a key to be made, as its flags describe it.
type New struct {
	access.NewKey
	scopes []string
}

// Declare declares the flags.
func (n *New) Declare(f flagset.Set) {
	f.Text(&n.Tenant, "tenant", "", "`name` of whose the key's data is; by default the key's own")
	f.List(&n.Models, "models", "`model` that the key may use; by default all")
	f.List(&n.scopes, "scope", "`scope` of the key: inference, models (list them), metrics (and status) and admin "+
		"(manage models); by default inference and models")
	n.Limits.Declare(f, "", "")
	f.Text(&n.Certificate, "certificate", "",
		"`name` of the client certificate (--tls-client-ca) that takes the place of a secret, such as spiffe://site/alice")
	flagset.Parsed(f, &n.Expires, "expires", "period", access.ParsePeriod, access.FormatPeriod,
		"how long the key is valid, such as 90d or 12h; 0 for unlimited")
}

// Named returns the key with a name. The error is about --scope.
func (n *New) Named(name string) (access.NewKey, error) {
	k := n.NewKey
	k.Name = name
	if len(n.scopes) == 0 {
		return k, nil
	}
	var err error
	k.Scopes, err = access.ParseScope(n.scopes)
	return k, err
}

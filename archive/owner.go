package archive

// Owner is whose a record, a file or a batch is.
type Owner struct {
	Tenant string // whose requests find it; empty for those of no tenant
	Client string // that made it
}

// share returns for whose share of the archive it counts: the tenant's, or without one the client's.
func (o Owner) share() Owner {
	if o.Tenant != "" {
		o.Client = ""
	}
	return o
}

// Key is the ID of a record, a file or a batch in a tenant's request. What another tenant has is not found, with the
// same work as what nobody has.
type Key struct {
	Tenant string
	ID     string
}

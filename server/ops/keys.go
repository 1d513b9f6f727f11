package ops

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"serve/access"
	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
)

// keyRequest is the body of POST /keys and of POST /keys/{id}/rotate.
type keyRequest struct {
	access.NewKey
	scopes  []string
	expires string
	grace   string
}

// keyFields are those of a new key: what serve key create has flags for.
var keyFields = wire.Table[keyRequest]{
	{
		Name:     "name",
		Required: true,
		Type:     wire.StringOf(func(r *keyRequest) *string { return &r.Name }),
		Doc:      "The key's name, which no other key has or had.",
	},
	{
		Name: "tenant",
		Type: wire.StringOf(func(r *keyRequest) *string { return &r.Tenant }),
		Doc:  "Whose the key's data is; by default the key's own, or that of an administrator of one tenant.",
	},
	{
		Name: "scopes",
		Type: wire.Of(scopesSchema, readScopes, func(r *keyRequest) *[]string { return &r.scopes }),
		Doc:  "What the key may do; by default `inference` and `models`.",
	},
	{
		Name: "models",
		Type: wire.Of(wire.ListOf(wire.String, access.MaxModels), readModels,
			func(r *keyRequest) *[]string { return &r.Models }),
		Doc: "The models that the key may use, by name; by default all.",
	},
	limitField("requests_per_minute", "Maximum requests per minute.",
		func(l *access.Limits) *int { return &l.RequestsPerMinute }),
	limitField("tokens_per_minute", "Maximum tokens, in and out, per minute.",
		func(l *access.Limits) *int { return &l.TokensPerMinute }),
	limitField("tokens_per_day", "Maximum tokens, in and out, per day in UTC.",
		func(l *access.Limits) *int { return &l.TokensPerDay }),
	limitField("concurrent", "Maximum answers that are computed at the same time.",
		func(l *access.Limits) *int { return &l.Concurrent }),
	limitField("bytes_in_flight", "Maximum bytes of request bodies that are in memory at the same time.",
		func(l *access.Limits) *int { return &l.BytesInFlight }),
	limitField("bytes_stored", "Maximum bytes that are stored, if the server stores on a disk.",
		func(l *access.Limits) *int { return &l.BytesStored }),
	{
		Name: "expires",
		Type: wire.StringOf(func(r *keyRequest) *string { return &r.expires }),
		Doc:  "How long the key is valid, such as `90d` or `12h`; by default for ever.",
	},
}

var rotateFields = wire.Table[keyRequest]{
	{
		Name: "grace",
		Type: wire.StringOf(func(r *keyRequest) *string { return &r.grace }),
		Doc:  "How long the earlier secret is still accepted, such as `24h`; by default not at all.",
	},
}

// limitField declares a limit of a key.
func limitField(name, doc string, of func(*access.Limits) *int) wire.Field[keyRequest] {
	variable := func(r *keyRequest) *int { return of(&r.Limits) }
	return wire.Field[keyRequest]{
		Name: name,
		Type: wire.IntegerOf(0, access.MaxLimit, variable),
		Doc:  doc,
	}
}

var scopesSchema = wire.ListOf(wire.Enum(access.AllScopes()...), len(access.AllScopes())).NonEmpty().
	Examples(`["inference","metrics"]`)

// readScopes reads a list of names of scopes, with at least one.
func readScopes(v wire.Value) ([]string, *fault.Error) {
	all := access.AllScopes()
	items, e := v.Array(len(all))
	if e != nil {
		return nil, e
	}
	if len(items) == 0 {
		return nil, v.Empty()
	}
	return readAll(items, func(item wire.Value) (string, *fault.Error) { return item.OneOf(all...) })
}

// readModels reads a list of names.
func readModels(v wire.Value) ([]string, *fault.Error) {
	items, e := v.Array(access.MaxModels)
	if e != nil {
		return nil, e
	}
	return readAll(items, wire.Value.Text)
}

func readAll(items []wire.Value, read func(wire.Value) (string, *fault.Error)) ([]string, *fault.Error) {
	list := make([]string, len(items))
	for i, item := range items {
		var e *fault.Error
		if list[i], e = read(item); e != nil {
			return nil, e
		}
	}
	return list, nil
}

// keyRoutes are the endpoints that manage keys. Without keys nobody manages any, so that each of them needs a key with
// the scope admin: there is nothing that a browser would send by itself.
func (o *Ops) keyRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Path:   "/key",
			Handle: o.ownKey,
			Right:  dialect.RightAny,
			Doc:    "What the client's key may do, and what it has used.",
		},
		{
			Path:   "/keys",
			Handle: o.listKeys,
			Right:  dialect.RightManage,
			Doc:    "The API keys that the client administers, without their secrets.",
		},
		{
			Method: http.MethodPost,
			Path:   "/keys",
			Handle: o.createKey,
			Work:   true,
			Right:  dialect.RightManage,
			Doc:    "Makes an API key, and responds with its secret, which is not shown again.",
			Fields: keyFields.Describe(),
		},
		{
			Method: http.MethodPost,
			Path:   "/keys/:id/rotate",
			Handle: o.rotateKey,
			Work:   true,
			Right:  dialect.RightManage,
			Doc:    "Gives an API key another secret, and responds with it.",
			Fields: rotateFields.Describe(),
		},
		{
			Method: http.MethodDelete,
			Path:   "/keys/:id",
			Handle: o.revokeKey,
			Right:  dialect.RightManage,
			Doc:    "Revokes an API key, and ends what runs for it.",
		},
		{
			Path:   "/usage",
			Handle: o.usage,
			Right:  dialect.RightManage,
			Doc:    "What the tenants and keys that the client administers use, and have used today.",
		},
	}
}

// KeyAnswer is the answer to GET /key.
type KeyAnswer struct {
	Required    bool         `json:"required"`    // the server wants keys
	Manages     bool         `json:"manages"`     // the client may download, load, unload and remove models
	Administers string       `json:"administers"` // whose keys: "server", "tenant", or "" for nobody's
	Key         *access.View `json:"key"`         // null without keys
}

// ownKey answers GET /key.
func (o *Ops) ownKey(w http.ResponseWriter, r *http.Request) *fault.Error {
	call := service.CallOf(r.Context())
	a := KeyAnswer{
		Required: call.Guarded,
		Manages:  call.Manages,
	}
	if p := call.Principal; p != nil {
		v := p.View()
		a.Key = &v
		a.Administers = o.administers(p)
	}
	return wire.WriteJSON(w, a)
}

// administers says whose keys a principal administers.
func (o *Ops) administers(p *access.Principal) string {
	all, own := p.Administers()
	switch {
	case all && o.opts.Keys != nil:
		return "server"
	case own && o.opts.Keys != nil:
		return "tenant"
	}
	return ""
}

// administrator returns who manages keys. Where the server requires none it is nobody, however much the client may
// manage else: a key that it made would be good for the time when the server is open to others.
func (o *Ops) administrator(ctx context.Context) (*access.Principal, *fault.Error) {
	p := service.CallOf(ctx).Principal
	if o.opts.Keys == nil || p == nil {
		return nil, service.Fault(access.ErrOpen, "")
	}
	return p, nil
}

// KeyList is the answer to GET /keys.
type KeyList struct {
	Administers string           `json:"administers"` // as in KeyAnswer
	Keys        []access.Managed `json:"keys"`
}

// listKeys answers GET /keys.
func (o *Ops) listKeys(w http.ResponseWriter, r *http.Request) *fault.Error {
	p, e := o.administrator(r.Context())
	if e != nil {
		return e
	}
	list, err := o.opts.Keys.ListFor(p)
	if err != nil {
		return o.keyFault(err)
	}
	return wire.WriteJSON(w, KeyList{Administers: o.administers(p), Keys: list})
}

// createKey answers POST /keys.
func (o *Ops) createKey(w http.ResponseWriter, r *http.Request) *fault.Error {
	p, e := o.administrator(r.Context())
	if e != nil {
		return e
	}
	req, e := o.readKey(r, keyFields)
	if e != nil {
		return e
	}

	n := req.NewKey
	if n.Expires, e = period("expires", req.expires); e != nil {
		return e
	}
	if req.scopes != nil {
		var err error
		if n.Scopes, err = access.ParseScope(req.scopes); err != nil {
			return fault.New(fault.InvalidValue, "scopes", "Invalid 'scopes': %v.", err)
		}
	}
	k, secret, err := o.opts.Keys.CreateFor(p, n)
	return o.writeSecret(w, k, secret, err)
}

// rotateKey answers POST /keys/{id}/rotate.
func (o *Ops) rotateKey(w http.ResponseWriter, r *http.Request) *fault.Error {
	p, e := o.administrator(r.Context())
	if e != nil {
		return e
	}
	req, e := o.readKey(r, rotateFields)
	if e != nil {
		return e
	}
	grace, e := period("grace", req.grace)
	if e != nil {
		return e
	}
	k, secret, err := o.opts.Keys.RotateFor(p, r.PathValue("id"), grace)
	return o.writeSecret(w, k, secret, err)
}

// revokeKey answers DELETE /keys/{id}.
func (o *Ops) revokeKey(w http.ResponseWriter, r *http.Request) *fault.Error {
	p, e := o.administrator(r.Context())
	if e != nil {
		return e
	}
	k, err := o.opts.Keys.RevokeFor(p, r.PathValue("id"))
	return o.writeSecret(w, k, "", err)
}

// readKey reads a body about a key.
func (o *Ops) readKey(r *http.Request, table wire.Table[keyRequest]) (*keyRequest, *fault.Error) {
	req := &keyRequest{}
	e := dialect.Decode(r, dialect.Body{Service: o.opts.Service, Notes: &wire.Notes{}}, table, req)
	return req, e
}

// period reads a duration, 0 if there is none.
func period(field, text string) (time.Duration, *fault.Error) {
	d, err := access.ParsePeriod(cmp.Or(text, "0"))
	if err != nil {
		return 0, fault.New(fault.InvalidValue, field, "Invalid '%s': %v.", field, err)
	}
	return d, nil
}

// writeSecret writes a key that was changed, with its new secret if it has one.
func (o *Ops) writeSecret(w http.ResponseWriter, k access.Key, secret string, err error) *fault.Error {
	if err != nil {
		return o.keyFault(err)
	}
	listed := access.Listed{Key: k}
	v := listed.View()
	v.Secret = secret
	return wire.WriteJSON(w, v)
}

// keyFault converts an error about keys. What is wrong with their file is for the log.
func (o *Ops) keyFault(err error) *fault.Error {
	e := service.Fault(err, "")
	if e.Kind == fault.Internal {
		o.opts.Log.Error("the API keys could not be managed", "error", err)
		return fault.New(fault.Storage, "", "The keys could not be read or written; the server's log says why.")
	}
	return e
}

// TenantUsage is what the keys of a tenant use, in an answer to GET /usage.
type TenantUsage struct {
	Tenant  string `json:"tenant"`
	Keys    int    `json:"keys"` // that can be used
	Tokens  int    `json:"tokens_today"`
	Running int    `json:"requests_running"` // being read, computed or sent
	Waiting int    `json:"requests_waiting"` // in a model's queue
}

// KeyUsage is what one key uses.
type KeyUsage struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Tenant  string    `json:"tenant"`
	Used    time.Time `json:"last_used,omitzero"`
	Tokens  int       `json:"tokens_today"`
	Running int       `json:"requests_running"`
	Waiting int       `json:"requests_waiting"`
}

// UsageAnswer is the answer to GET /usage.
type UsageAnswer struct {
	Day     string        `json:"day"` // in UTC, of the tokens
	Tenants []TenantUsage `json:"tenants"`
	Keys    []KeyUsage    `json:"keys"` // those that use something now, or have today
}

// usage answers GET /usage.
func (o *Ops) usage(w http.ResponseWriter, r *http.Request) *fault.Error {
	p, e := o.administrator(r.Context())
	if e != nil {
		return e
	}
	waiting := map[string]int{}
	for queued, n := range o.opts.Pool.Waiting() {
		waiting[service.WithoutFlow(queued)] += n
	}
	a := UsageAnswer{
		Day:     time.Now().UTC().Format(time.DateOnly),
		Tenants: []TenantUsage{},
		Keys:    []KeyUsage{},
	}

	place := map[string]int{}
	for _, u := range o.opts.Keys.UsageFor(p) {
		queued := min(waiting[o.opts.KeyClient+u.ID], u.Open)
		key := KeyUsage{
			ID:      u.ID,
			Name:    u.Name,
			Tenant:  u.Tenant,
			Used:    u.Used,
			Tokens:  u.Tokens,
			Running: u.Open - queued,
			Waiting: queued,
		}
		i, known := place[u.Tenant]
		if !known {
			i = len(a.Tenants)
			place[u.Tenant] = i
			a.Tenants = append(a.Tenants, TenantUsage{Tenant: u.Tenant})
		}
		a.Tenants[i].add(key)
		if u.Tokens > 0 || u.Open > 0 {
			a.Keys = append(a.Keys, key)
		}
	}
	return wire.WriteJSON(w, a)
}

// add adds what one of the tenant's keys uses.
func (t *TenantUsage) add(k KeyUsage) {
	t.Keys++
	t.Tokens += k.Tokens
	t.Running += k.Running
	t.Waiting += k.Waiting
}

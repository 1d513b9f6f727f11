package ops

import (
	"net/http"
	"time"

	"serve/audit"
	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
)

// How many records GET /audit returns.
const (
	fewRecords  = 50 // unless the client says
	mostRecords = 500
)

var auditQuery = wire.Table[int]{{
	Name: "limit",
	Type: wire.IntegerOf(0, mostRecords, func(n *int) *int { return n }),
	Doc:  "Maximum number of records; by default 50.",
}}

// auditRoute is the endpoint that shows the audit log.
func (o *Ops) auditRoute() dialect.Route {
	return dialect.Route{
		Path:   "/audit",
		Handle: o.auditLog,
		Right:  dialect.RightManage,
		Doc: "The last records of the audit log that the client administers, without digests, and whether the file that " +
			"they are in is what the log's key has signed.",
		Query: auditQuery.Describe(),
	}
}

// AuditAnswer is the answer to GET /audit.
type AuditAnswer struct {
	Log     *AuditReview  `json:"log"` // null without an audit log
	Records []AuditRecord `json:"records"`
}

// AuditReview is what reading the last file of the log has found.
type AuditReview struct {
	*audit.Review
	Holds   bool   `json:"holds"`             // there are no problems
	Failing string `json:"failing,omitempty"` // why records cannot be written
	Lost    int64  `json:"lost"`              // that could not be written, since the start
}

// AuditRecord is a record without what is only for matching texts with it.
type AuditRecord struct {
	Seq      uint64     `json:"seq"`
	Time     time.Time  `json:"time"`
	Kind     audit.Kind `json:"kind"`
	ID       string     `json:"id,omitempty"`
	Key      string     `json:"key,omitempty"`  // the id
	Name     string     `json:"name,omitempty"` // of the key
	Tenant   string     `json:"tenant,omitempty"`
	Client   string     `json:"client,omitempty"`
	Address  string     `json:"address,omitempty"`
	Route    string     `json:"route,omitempty"`
	Models   []string   `json:"models"`
	In       int        `json:"tokens_in"`
	Out      int        `json:"tokens_out"`
	Status   int        `json:"status,omitempty"`
	Error    string     `json:"error,omitempty"`
	Object   string     `json:"object,omitempty"`
	Count    int64      `json:"count,omitempty"`
	Duration float64    `json:"duration_ms,omitempty"`
}

// auditLog answers GET /audit. To read the file takes as long as it is large, so one request at a time does.
func (o *Ops) auditLog(w http.ResponseWriter, r *http.Request) *fault.Error {
	p := service.CallOf(r.Context()).Principal
	if p == nil {
		// Whoever reaches a server that knows nobody would see who has asked.
		return fault.New(fault.Forbidden, "", "The audit log is shown to keys with the scope admin alone, and this server "+
			"requires no keys: serve audit show reads it on the server's machine.")
	}
	limit := fewRecords
	if e := auditQuery.Query(r.URL.RawQuery, &limit); e != nil {
		return e
	}
	a := AuditAnswer{Records: []AuditRecord{}}
	if o.opts.Review == nil {
		return wire.WriteJSON(w, a)
	}

	all, _ := p.Administers()
	own := audit.Filter{Tenant: p.Tenant}
	o.reviews.Lock()
	review, err := o.opts.Review.Review(limit, func(r *audit.Record) bool { return all || own.Matches(r) })
	o.reviews.Unlock()
	if err != nil {
		o.opts.Log.Error("the audit log cannot be read", "error", err)
		return fault.New(fault.Storage, "", "The audit log could not be read; the server's log says why.")
	}
	state := o.opts.Audit()
	a.Log = &AuditReview{
		Review: review,
		Holds:  len(review.Problems) == 0,
		Lost:   state.Lost,
	}
	if state.Failing != nil {
		a.Log.Failing = state.Failing.Error()
	}
	for _, record := range review.Last {
		a.Records = append(a.Records, viewRecord(record))
	}
	return wire.WriteJSON(w, a)
}

// viewRecord returns what is shown of a record.
func viewRecord(r *audit.Record) AuditRecord {
	v := AuditRecord{
		Seq:      r.Seq,
		Time:     r.Time,
		Kind:     r.Kind,
		ID:       r.ID,
		Address:  r.Address,
		Route:    r.Route,
		Models:   append([]string{}, r.Models()...),
		Status:   r.Status,
		Error:    r.Error,
		Object:   r.Object,
		Count:    r.Count,
		Duration: r.Duration,
	}
	if who := r.Who; who != nil {
		v.Key = who.Key
		v.Name = who.Name
		v.Tenant = who.Tenant
		v.Client = who.Client
	}
	for i := range r.Work {
		v.In += r.Work[i].In
		v.Out += r.Work[i].Out
	}
	return v
}

package ops

import (
	"net/http"

	"serve/fault"
	"serve/server/wire"
	"serve/service"
)

// CatalogAnswer is the answer to GET /catalog.
type CatalogAnswer struct {
	// Manage says whether the client may download, load, unload and remove models.
	Manage  bool                   `json:"manage"`
	Offline bool                   `json:"offline"`      // nothing can be downloaded
	Memory  uint64                 `json:"memory_bytes"` // of this machine; 0 if unknown
	Models  []service.CatalogModel `json:"models"`
}

// catalog answers GET /catalog.
func (o *Ops) catalog(w http.ResponseWriter, r *http.Request) *fault.Error {
	known := o.opts.Service.Catalog()
	if known == nil {
		return wire.WriteJSON(w, CatalogAnswer{Offline: true, Models: []service.CatalogModel{}})
	}
	return wire.WriteJSON(w, CatalogAnswer{
		Manage:  service.CallOf(r.Context()).Manages,
		Offline: known.Offline,
		Memory:  known.Memory,
		Models:  append([]service.CatalogModel{}, known.Models...),
	})
}

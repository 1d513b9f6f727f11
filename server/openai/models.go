package openai

import (
	"net/http"

	"serve/fault"
	"serve/pool"
	"serve/server/wire"
	"serve/service"
)

type modelBody struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	// What a request has room for, by OpenRouter's name and vLLM's; while the model is in memory.
	ContextLength int `json:"context_length,omitempty"`
	MaxModelLen   int `json:"max_model_len,omitempty"`
}

func (api *API) newModelBody(m *pool.Model, name string) modelBody {
	body := modelBody{ID: name, Object: "model", Created: m.Created.Unix(), OwnedBy: "serve"}
	if limits, ok := api.service.Limits(m); ok {
		body.ContextLength = limits.Context
		body.MaxModelLen = limits.Context
	}
	return body
}

// listModels answers GET /v1/models.
func (api *API) listModels(w http.ResponseWriter, r *http.Request) *fault.Error {
	list := []modelBody{}
	for _, m := range api.service.Models(r.Context()) {
		list = append(list, api.newModelBody(m, m.ID))
		for _, alias := range m.Aliases {
			if alias == service.AnyName {
				continue
			}
			list = append(list, api.newModelBody(m, alias))
		}
	}
	return wire.WriteJSON(w, struct {
		Object string      `json:"object"`
		Data   []modelBody `json:"data"`
	}{"list", list})
}

// showModel answers GET /v1/models/{id}.
func (api *API) showModel(w http.ResponseWriter, r *http.Request) *fault.Error {
	name := r.PathValue("id")
	m, e := api.service.Named(r.Context(), name)
	if e != nil {
		return e
	}
	return wire.WriteJSON(w, api.newModelBody(m, name))
}

package anthropic

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"serve/fault"
	"serve/pool"
	"serve/server/wire"
)

// modelBody is a model in Anthropic's form. What is null is not known before a model is loaded, or
// has no meaning here.
type modelBody struct {
	Type           string  `json:"type"`
	ID             string  `json:"id"`
	DisplayName    string  `json:"display_name"`
	CreatedAt      string  `json:"created_at"`
	Lifecycle      string  `json:"lifecycle"`
	MaxInputTokens *int    `json:"max_input_tokens"`
	MaxTokens      *int    `json:"max_tokens"`
	Capabilities   *string `json:"capabilities"`
	DeprecatedAt   *string `json:"deprecated_at"`
	RetiresAt      *string `json:"retires_at"`
	Line           *string `json:"line"`
}

func newModelBody(m *pool.Model, name string) modelBody {
	return modelBody{
		Type:        "model",
		ID:          name,
		DisplayName: name,
		CreatedAt:   m.Created.UTC().Format(time.RFC3339),
		Lifecycle:   "active",
	}
}

// Sizes of a page of models.
const (
	defaultPage = 20
	maxPage     = 1000
)

// modelPage is a page of a list of models.
type modelPage struct {
	Data    []modelBody `json:"data"`
	HasMore bool        `json:"has_more"`
	FirstID *string     `json:"first_id"`
	LastID  *string     `json:"last_id"`
}

// listModels answers GET /v1/models.
func (api *API) listModels(w http.ResponseWriter, r *http.Request) *fault.Error {
	var list []modelBody
	for _, m := range api.service.Models(r.Context()) {
		list = append(list, newModelBody(m, m.ID))
		for _, alias := range m.Aliases {
			list = append(list, newModelBody(m, alias))
		}
	}

	page, e := cut(list, r.URL.Query())
	if e != nil {
		return e
	}
	return wire.WriteJSON(w, page)
}

// cut returns the page that a query asks for: the models after one, those before one, or the first.
func cut(list []modelBody, query url.Values) (*modelPage, *fault.Error) {
	size := defaultPage
	if given := query.Get("limit"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 1 || n > maxPage {
			return nil, fault.New(fault.InvalidValue, "limit",
				"Invalid 'limit': it must be a number from 1 to %d.", maxPage)
		}
		size = n
	}

	after := query.Get("after_id")
	before := query.Get("before_id")
	if after != "" && before != "" {
		return nil, fault.New(fault.InvalidValue, "before_id", "Only one of 'after_id' and 'before_id' may be given.")
	}

	page := &modelPage{Data: []modelBody{}}
	switch {
	case before != "":
		end, e := find(list, "before_id", before)
		if e != nil {
			return nil, e
		}
		begin := max(0, end-size)
		page.Data = append(page.Data, list[begin:end]...)
		page.HasMore = begin > 0
	case after != "":
		at, e := find(list, "after_id", after)
		if e != nil {
			return nil, e
		}
		list = list[at+1:]
		fallthrough
	default:
		page.Data = append(page.Data, list[:min(size, len(list))]...)
		page.HasMore = len(list) > size
	}

	if n := len(page.Data); n > 0 {
		page.FirstID = &page.Data[0].ID
		page.LastID = &page.Data[n-1].ID
	}
	return page, nil
}

// find returns the index of the model that a field of a query names.
func find(list []modelBody, field, id string) (int, *fault.Error) {
	at := slices.IndexFunc(list, func(m modelBody) bool { return m.ID == id })
	if at < 0 {
		return 0, fault.New(fault.InvalidValue, field, "Invalid '%s': no model is named '%s'.", field, id)
	}
	return at, nil
}

// showModel answers GET /v1/models/{id}.
func (api *API) showModel(w http.ResponseWriter, r *http.Request) *fault.Error {
	name := r.PathValue("id")
	m, e := api.service.Named(r.Context(), name)
	if e != nil {
		return e
	}
	return wire.WriteJSON(w, newModelBody(m, name))
}

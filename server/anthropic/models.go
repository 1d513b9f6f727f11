package anthropic

import (
	"net/http"
	"slices"
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

	asked := pageRequest{size: defaultPage}
	if e := pageQuery.Query(r.URL.RawQuery, &asked); e != nil {
		return e
	}
	page, e := cut(list, asked)
	if e != nil {
		return e
	}
	return wire.WriteJSON(w, page)
}

// pageRequest says which models a client asks for.
type pageRequest struct {
	size   int
	after  string
	before string
}

// pageQuery are the parameters of the list of models.
var pageQuery = wire.Table[pageRequest]{
	{
		Name: "limit",
		Type: wire.IntegerOf(1, maxPage, func(p *pageRequest) *int { return &p.size }).Default(defaultPage),
		Doc:  "Maximum models in the answer.",
	},
	{
		Name: "after_id",
		Type: wire.StringOf(func(p *pageRequest) *string { return &p.after }),
		Doc:  "The answer begins with the model after this one.",
	},
	{
		Name: "before_id",
		Type: wire.StringOf(func(p *pageRequest) *string { return &p.before }),
		Doc:  "The answer ends with the model before this one; not with `after_id`.",
	},
}

// cut returns the page that a client asks for: the models after one, those before one, or the first.
func cut(list []modelBody, asked pageRequest) (*modelPage, *fault.Error) {
	if asked.after != "" && asked.before != "" {
		return nil, fault.New(fault.InvalidValue, "before_id", "Only one of 'after_id' and 'before_id' may be given.")
	}

	page := &modelPage{Data: []modelBody{}}
	switch {
	case asked.before != "":
		end, e := find(list, "before_id", asked.before)
		if e != nil {
			return nil, e
		}
		begin := max(0, end-asked.size)
		page.Data = append(page.Data, list[begin:end]...)
		page.HasMore = begin > 0
	case asked.after != "":
		at, e := find(list, "after_id", asked.after)
		if e != nil {
			return nil, e
		}
		list = list[at+1:]
		fallthrough
	default:
		page.Data = append(page.Data, list[:min(asked.size, len(list))]...)
		page.HasMore = len(list) > asked.size
	}

	if n := len(page.Data); n > 0 {
		page.FirstID = &page.Data[0].ID
		page.LastID = &page.Data[n-1].ID
	}
	return page, nil
}

// find returns the index of the model that a parameter names.
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

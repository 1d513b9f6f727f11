package openai

import (
	"net/http"
	"slices"

	"serve/fault"
	"serve/server/wire"
)

// How many items a page has: unless the client asks for another number, and at most. Files have limits of their own.
const (
	pageItems    = 20
	maxPageItems = 100
)

// itemList is a page of a list of items.
type itemList = listPage[storedItem]

// newItemList returns the first items of a list.
func newItemList(items []storedItem, limit int) itemList {
	return newPage(items, limit, func(item *storedItem) string { return itemID(*item) })
}

// page says which part of a list a client asks for.
type page struct {
	limit  int
	oldest bool   // comes first
	after  string // id of the item before the page

	purpose string // of files; empty for any
}

// listQuery declares the parameters of a list.
type listQuery struct {
	wire.Table[page]
	limit int // unless the client asks for another
}

// newListQuery returns the parameters of a list whose pages have a limit, which the client may change up to another,
// and others.
func newListQuery(limit, most int, others ...wire.Field[page]) listQuery {
	return listQuery{
		Table: append(wire.Table[page]{
			{
				Name: "limit",
				Type: wire.IntegerOf(1, int64(most), func(p *page) *int { return &p.limit }).Default(limit),
				Doc:  "Maximum entries in the answer.",
			},
			{
				Name: "after",
				Type: wire.StringOf(func(p *page) *string { return &p.after }),
				Doc:  "ID of the entry after which the answer begins.",
			},
		}, others...),
		limit: limit,
	}
}

// orderParameter is of lists that clients may turn around. As at OpenAI, the newest entry comes first otherwise.
var orderParameter = wire.Field[page]{
	Name: "order",
	Type: wire.OneOf(func(p *page, order string) { p.oldest = order == "asc" }, "asc", "desc").Default("desc"),
	Doc:  "Whether the oldest entry comes first or the newest.",
}

// The parameters of all lists.
var (
	itemQuery  = newListQuery(pageItems, maxPageItems, orderParameter, includeParameter[page]())
	batchQuery = newListQuery(pageItems, maxPageItems)
	fileQuery  = newListQuery(maxListed, maxListed, orderParameter, wire.Field[page]{
		Name: "purpose",
		Type: wire.StringOf(func(p *page) *string { return &p.purpose }),
		Doc:  "The purpose of the files to list.",
	})
)

// read reads the query of a list.
func (q listQuery) read(r *http.Request) (*page, *fault.Error) {
	p := &page{limit: q.limit}
	if e := q.Query(r.URL.RawQuery, p); e != nil {
		return nil, e
	}
	return p, nil
}

// includeParameter is of stored responses and items, which have all that they were made with.
func includeParameter[T any]() wire.Field[T] {
	return wire.Field[T]{
		Name: "include",
		Type: wire.Ignore[T](wire.Array),
		Doc:  "Has no effect: what is stored has all that it was made with.",
	}
}

// nothing is what parameters are read into that have no effect.
type nothing struct{}

// commonQuery are the parameters that every endpoint takes.
var commonQuery = wire.Table[nothing]{{
	Name: "api-version",
	Type: wire.Ignore[nothing](wire.String),
	Doc:  "Version of Azure's API, sent by its clients.",
}}

// modelsQuery are the parameters of the list of models.
var modelsQuery = wire.Table[nothing]{{
	Name: "client_version",
	Type: wire.Ignore[nothing](wire.String),
	Doc:  "Version of Codex, which sends it.",
}}

// responseQuery are the parameters of every endpoint of responses.
var responseQuery = wire.Table[nothing]{{
	Name: "beta",
	Type: wire.Ignore[nothing](wire.Bool),
	Doc:  "Sent by the beta clients of OpenAI's SDKs.",
}}

// includeQuery are the parameters of the items of a conversation.
var includeQuery = wire.Table[nothing]{includeParameter[nothing]()}

// storedQuery are the parameters of a stored response.
var storedQuery = wire.Table[nothing]{
	includeParameter[nothing](),
	{
		Name: "stream",
		Type: wire.Refuse[nothing]("Stored responses cannot be streamed.", "false"),
	},
	{
		Name: "starting_after",
		Type: wire.Ignore[nothing](wire.Count),
		Doc:  "A position in the stream of a stored response: it has no effect without `stream`.",
	},
	{
		Name: "include_obfuscation",
		Type: wire.Ignore[nothing](wire.Bool),
		Doc:  "Whether a stream is padded: it has no effect without `stream`.",
	},
}

// write writes the page of a list, whose oldest item comes first.
func (p *page) write(w http.ResponseWriter, items []storedItem) *fault.Error {
	if !p.oldest {
		slices.Reverse(items)
	}
	if p.after != "" {
		at := itemAt(items, p.after)
		if at < 0 {
			return fault.New(fault.InvalidValue, "after", "Invalid 'after': there is no item '%s'.", p.after)
		}
		items = items[at+1:]
	}
	return wire.WriteJSON(w, newItemList(items, p.limit))
}

// listPage is a page of a list.
type listPage[T any] struct {
	Object  string `json:"object"`
	Data    []T    `json:"data"`
	FirstID string `json:"first_id"`
	LastID  string `json:"last_id"`
	HasMore bool   `json:"has_more"`
}

// newPage returns the page of at most limit elements that a longer list begins with.
func newPage[T any](list []T, limit int, id func(*T) string) listPage[T] {
	p := listPage[T]{
		Object:  "list",
		Data:    append([]T{}, list[:min(limit, len(list))]...),
		HasMore: len(list) > limit,
	}
	if n := len(p.Data); n > 0 {
		p.FirstID = id(&p.Data[0])
		p.LastID = id(&p.Data[n-1])
	}
	return p
}

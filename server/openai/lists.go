package openai

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"serve/fault"
	"serve/server/wire"
)

// How many items a page has: unless the client asks for another number, and at most. Files have limits of their own.
const (
	pageItems    = 20
	maxPageItems = 100
)

// orderParameter is the parameter of lists that clients may turn around.
const orderParameter = "order"

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
}

// readPage reads the query of a list, which may have other parameters, too. Pages have a limit that is otherwise
// unless asked for, and at most another one. Like at OpenAI, the newest item comes first unless asked otherwise.
func readPage(r *http.Request, otherwise, most int, others ...string) (*page, *fault.Error) {
	q, e := query(r, append(others, "limit", "after")...)
	if e != nil {
		return nil, e
	}

	limit, e := queryNumber(q, "limit", otherwise, most)
	if e != nil {
		return nil, e
	}
	oldest, e := queryOrder(q)
	if e != nil {
		return nil, e
	}
	return &page{limit: limit, oldest: oldest, after: q.Get("after")}, nil
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

// queryNumber reads a number of the query, between 1 and a bound.
func queryNumber(q url.Values, name string, otherwise, most int) (int, *fault.Error) {
	text := q.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fault.New(fault.InvalidValue, name,
			"Invalid '%s': %q is not a number from 1 to %d.", name, text, most)
	}
	return n, nil
}

// queryOrder reads the order of a list; newest first is the default.
func queryOrder(q url.Values) (oldest bool, e *fault.Error) {
	order := q.Get("order")
	if order != "" && order != "asc" && order != "desc" {
		return false, fault.New(fault.InvalidValue, "order",
			"Invalid 'order': %q is neither 'asc' nor 'desc'.", order)
	}
	return order == "asc", nil
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

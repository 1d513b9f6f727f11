package openai

import (
	"net/http"
	"slices"

	"serve/fault"
	"serve/server/wire"
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
}

// readPage reads the query of a list. Like at OpenAI, the newest item comes first unless asked otherwise.
func readPage(r *http.Request) (*page, *fault.Error) {
	q, e := query(r, "limit", "order", "after")
	if e != nil {
		return nil, e
	}

	limit, e := queryNumber(q, "limit", 20, 100)
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
		at := slices.IndexFunc(items, func(item storedItem) bool { return itemID(item) == p.after })
		if at < 0 {
			return fault.New(fault.InvalidValue, "after", "Invalid 'after': there is no item '%s'.", p.after)
		}
		items = items[at+1:]
	}
	return wire.WriteJSON(w, newItemList(items, p.limit))
}

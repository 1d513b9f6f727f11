package openai

import (
	"net/http"
	"slices"
	"strconv"

	"serve/fault"
	"serve/server/wire"
)

// itemList is a page of a list of items.
type itemList struct {
	Object  string       `json:"object"`
	Data    []storedItem `json:"data"`
	FirstID string       `json:"first_id"`
	LastID  string       `json:"last_id"`
	HasMore bool         `json:"has_more"`
}

// newItemList returns the first items of a list.
func newItemList(items []storedItem, limit int) itemList {
	list := itemList{
		Object:  "list",
		HasMore: len(items) > limit,
		Data:    append([]storedItem{}, items[:min(limit, len(items))]...),
	}
	if n := len(list.Data); n > 0 {
		list.FirstID = itemID(list.Data[0])
		list.LastID = itemID(list.Data[n-1])
	}
	return list
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

	p := &page{limit: 20, after: q.Get("after")}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 100 {
			return nil, fault.New(fault.InvalidValue, "limit", "Invalid 'limit': %q is not a number from 1 to 100.", text)
		}
		p.limit = n
	}

	order := q.Get("order")
	if order != "" && order != "asc" && order != "desc" {
		return nil, fault.New(fault.InvalidValue, "order", "Invalid 'order': %q is neither 'asc' nor 'desc'.", order)
	}
	p.oldest = order == "asc"
	return p, nil
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

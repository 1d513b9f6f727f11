package openai

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"serve/archive"
	"serve/fault"
	"serve/server/wire"
)

// storedItem is an item as it is stored and returned.
type storedItem = map[string]json.RawMessage

// itemID returns the id of an item.
func itemID(item storedItem) (id string) {
	_ = json.Unmarshal(item["id"], &id)
	return id
}

// itemAt returns where the item with an id is in a list, or -1.
func itemAt(items []storedItem, id string) int {
	return slices.IndexFunc(items, func(item storedItem) bool { return itemID(item) == id })
}

// itemsSchema describes the items that can be added to a conversation.
var itemsSchema = wire.ListOf(itemSchema, maxAddedItems).Examples(`[{"role":"user","content":"Hello"}]`)

// readAddedItems reads items as far as needed to know that a response can go on from them.
func readAddedItems(v wire.Value) ([]wire.Value, *fault.Error) {
	items, e := v.Array(maxAddedItems)
	if e != nil {
		return nil, e
	}
	var reader itemReader
	for _, item := range items {
		if e := reader.add(item); e != nil {
			return nil, e
		}
	}
	return items, nil
}

// conversationItems returns the items of a stored conversation.
func conversationItems(record *archive.Record) (items []storedItem, e *fault.Error) {
	if record.Input == nil {
		return nil, nil // it is new
	}
	if err := json.Unmarshal(record.Input, &items); err != nil {
		return nil, storageFailed(err)
	}
	return items, nil
}

// itemsOf returns the items of the conversation with an id.
func (api *API) itemsOf(ctx context.Context, id string) ([]storedItem, *fault.Error) {
	record, e := api.conversationOf(ctx, id)
	if e != nil {
		return nil, e
	}
	return conversationItems(record)
}

// addItems appends items to a conversation that is not stored yet, in their normalized form, which it
// returns. What references stand for takes their place.
func (api *API) addItems(ctx context.Context, record *archive.Record, added []wire.Value) ([]storedItem, *fault.Error) {
	if _, e := api.resolve(ctx, added); e != nil {
		return nil, e
	}

	// As for those of a response, the id says where the item is; it is not used again when the item is deleted.
	items := make([]storedItem, len(added))
	for i, v := range added {
		items[i] = listed(v.Raw, strings.TrimPrefix(record.ID, conversationPrefix)+"_c"+wire.RandomID()[:12])
	}
	return items, appendItems(record, items)
}

// appendItems appends items in their normalized form to a conversation that is not stored yet.
func appendItems(record *archive.Record, added []storedItem) *fault.Error {
	items, e := conversationItems(record)
	if e != nil {
		return e
	}
	if e := unlike(items, added); e != nil {
		return e
	}
	if len(items)+len(added) > maxMessages {
		return fault.New(fault.ContextExceeded, conversationField,
			"The conversation '%s' would have too many items: %d (maximum %d).",
			record.ID, len(items)+len(added), maxMessages)
	}

	var err error
	if record.Input, err = json.Marshal(append([]storedItem{}, append(items, added...)...)); err != nil {
		return storageFailed(err)
	}
	return nil
}

// unlike returns an error if an item that is added has an id that another one has.
func unlike(items, added []storedItem) *fault.Error {
	known := map[string]bool{}
	for _, item := range items {
		known[itemID(item)] = true
	}
	for _, item := range added {
		id := itemID(item)
		if known[id] {
			return fault.New(fault.InvalidValue, conversationField, "The conversation has two items with the ID '%s'.", id)
		}
		known[id] = true
	}
	return nil
}

// changeItems has change make new items of a conversation's, and stores them.
func (api *API) changeItems(ctx context.Context, id string, change func(*archive.Record) *fault.Error) *fault.Error {
	api.conversations.mu.Lock()
	defer api.conversations.mu.Unlock()
	got, e := api.conversationOf(ctx, id)
	if e != nil {
		return e
	}
	if e := api.conversations.free(keyOf(ctx, id)); e != nil {
		return e
	}
	changed := *got
	if e := change(&changed); e != nil {
		return e
	}
	return api.putConversation(ctx, &changed)
}

// createItems answers POST /conversations/{id}/items.
func (api *API) createItems(w http.ResponseWriter, r *http.Request) *fault.Error {
	var asked conversationBody
	if e := decode(api, w, r, &asked, addFields, nil); e != nil {
		return e
	}

	var added []storedItem
	e := api.changeItems(r.Context(), r.PathValue("id"), func(c *archive.Record) (e *fault.Error) {
		added, e = api.addItems(r.Context(), c, asked.items)
		return e
	})
	if e != nil {
		return e
	}
	return wire.WriteJSON(w, newItemList(added, len(added)))
}

// listItems answers GET /conversations/{id}/items.
func (api *API) listItems(w http.ResponseWriter, r *http.Request) *fault.Error {
	page, e := itemQuery.read(r)
	if e != nil {
		return e
	}
	items, e := api.itemsOf(r.Context(), r.PathValue("id"))
	if e != nil {
		return e
	}
	return page.write(w, items)
}

// itemMissing is the error for an item that a conversation does not have.
func itemMissing(conversation, item string) *fault.Error {
	return fault.New(fault.NotFound, "", "The conversation '%s' has no item with id '%s'.", conversation, item)
}

// showItem answers GET /conversations/{id}/items/{item}.
func (api *API) showItem(w http.ResponseWriter, r *http.Request) *fault.Error {
	conversation := r.PathValue("id")
	items, e := api.itemsOf(r.Context(), conversation)
	if e != nil {
		return e
	}

	id := r.PathValue("item")
	at := itemAt(items, id)
	if at < 0 {
		return itemMissing(conversation, id)
	}
	return wire.WriteJSON(w, items[at])
}

// deleteItem answers DELETE /conversations/{id}/items/{item} with the conversation.
func (api *API) deleteItem(w http.ResponseWriter, r *http.Request) *fault.Error {
	id := r.PathValue("item")
	var body json.RawMessage
	e := api.changeItems(r.Context(), r.PathValue("id"), func(c *archive.Record) *fault.Error {
		items, e := conversationItems(c)
		if e != nil {
			return e
		}
		at := itemAt(items, id)
		if at < 0 {
			return itemMissing(c.ID, id)
		}

		input, err := json.Marshal(slices.Delete(items, at, at+1))
		if err != nil {
			return storageFailed(err)
		}
		c.Input = input
		body = c.Body
		return nil
	})
	if e != nil {
		return e
	}
	return wire.WriteJSON(w, body)
}

// setConversation reads an id, or an object with one.
func (r *responsesRequest) setConversation(v wire.Value) (e *fault.Error) {
	if v.Raw[0] != '{' {
		r.conversationID, e = v.Text()
		return e
	}
	object, e := v.Object()
	if e != nil {
		return e
	}
	if e := wire.Only(object, "id"); e != nil {
		return e
	}
	r.conversationID, e = v.RequiredText(object, "id")
	return e
}

var conversationSchema = wire.AnyOf(
	wire.String,
	wire.Closed(map[string]wire.Schema{"id": wire.String}, "id"),
).Examples(`"conv_1"`, `{"id":"conv_1"}`)

// conversed returns the items of the conversation that a request belongs to. The request's own must find
// a place there when it is answered.
func (api *API) conversed(ctx context.Context, req *responsesRequest) ([]wire.Value, *fault.Error) {
	if req.previous != "" {
		return nil, fault.New(fault.InvalidValue, conversationField,
			"Only one of 'conversation' and '%s' may be given.", previousField)
	}
	got, e := api.conversationOf(ctx, req.conversationID)
	if e != nil {
		e.Field = conversationField
		return nil, e
	}
	items, e := conversationItems(got)
	if e != nil {
		return nil, e
	}

	after := *got
	if e := appendItems(&after, req.stored("")); e != nil {
		return nil, e
	}
	if e := fits(&after); e != nil {
		return nil, e
	}
	return values(conversationField, items)
}

// values returns stored items for reading. Name is the field that has them in errors.
func values(name string, items []storedItem) ([]wire.Value, *fault.Error) {
	list := make([]wire.Value, len(items))
	for i, item := range items {
		raw, err := json.Marshal(item)
		if err != nil {
			return nil, storageFailed(err)
		}
		list[i] = wire.Value{Name: name, Raw: raw}
	}
	return list, nil
}

// continued returns the conversation of a request with its input and output at the end. The caller holds
// the mutex of the conversations.
func (api *API) continued(ctx context.Context, req *responsesRequest, r *response) (*archive.Record, *fault.Error) {
	got, e := api.conversationOf(ctx, req.conversationID)
	if e != nil {
		return nil, e
	}
	var output []storedItem
	b, err := json.Marshal(r.Output)
	if err := errors.Join(err, json.Unmarshal(b, &output)); err != nil {
		return nil, storageFailed(err)
	}

	after := *got
	after.Created = time.Now()
	return &after, appendItems(&after, append(req.stored(r.ID), output...))
}

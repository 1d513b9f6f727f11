package openai

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"serve/archive"
	"serve/fault"
	"serve/server/wire"
	"serve/service"
)

// Bounds of the responses that are kept without an archive.
const (
	memoryBytes = 64 << 20
	memoryTime  = 24 * time.Hour
)

// notKept says how long responses are kept.
const notKept = "Responses are stored for a limited time, and not at all with 'store': false; " +
	"with serve's --data-dir they are stored longer."

// keepWait limits how long a request waits for the archive.
const keepWait = 10 * time.Second

// previousField is the field with the id of the response to continue from.
const previousField = "previous_response_id"

// recall has the conversation begin with what the request goes on from: an earlier response, or a
// conversation.
func (api *API) recall(ctx context.Context, req *responsesRequest) *fault.Error {
	if e := checkStore(req); e != nil {
		return e
	}
	if e := api.hasRoom(ctx, req); e != nil {
		return e
	}
	found, e := api.resolve(ctx, req.input)
	if e != nil {
		return e
	}

	var items []wire.Value
	switch {
	case req.conversationID != "":
		items, e = api.conversed(ctx, req)
	case req.previous != "":
		items, e = api.earlier(ctx, req.previous)
	case !found:
		return nil
	}
	if e != nil {
		return e
	}

	notes := api.notes(ctx) // stored items may name stored files, too
	for i, item := range items {
		items[i] = notes.Value(item.Name, item.Raw)
	}
	items = append(items, req.input...)
	if len(items) > maxMessages {
		return fault.New(fault.ContextExceeded, previousField,
			"The conversation has too many items: %d (maximum %d).", len(items), maxMessages)
	}
	return req.converse(items)
}

// earlier returns the items of a response and of those before it.
func (api *API) earlier(ctx context.Context, previous string) (items []wire.Value, e *fault.Error) {
	missing := fault.New(fault.PreviousNotFound, previousField,
		"Previous response with id '%s' not found. %s", previous, notKept)
	if !strings.HasPrefix(previous, responsePrefix) {
		return nil, missing
	}

	turns, err := api.opts.Archive.Conversation(ctx, keyOf(ctx, previous), maxConversationBytes)
	switch {
	case errors.Is(err, archive.ErrNotFound):
		return nil, missing
	case errors.Is(err, archive.ErrBroken):
		return nil, fault.New(fault.PreviousNotFound, previousField,
			"An earlier response of the conversation of '%s' is no longer stored.", previous)
	case errors.Is(err, archive.ErrTooLong):
		return nil, fault.New(fault.ContextExceeded, previousField,
			"The conversation of '%s' cannot be continued: %v.", previous, err)
	case err != nil:
		return nil, storageFailed(err)
	}

	for _, turn := range turns {
		list, e := turnItems(turn)
		if e != nil {
			return nil, e
		}
		items = append(items, list...)
	}
	return items, nil
}

// checkStore validates the fields about storing.
func checkStore(req *responsesRequest) *fault.Error {
	if req.background && !req.store {
		return fault.New(fault.InvalidValue, "background",
			"The 'background' parameter requires 'store': the response is fetched later.")
	}
	if req.background && req.stream {
		return fault.New(fault.Unsupported, "background",
			"Unsupported parameter: 'background' with 'stream'. Fetch the response instead.")
	}
	return nil
}

// turnItems returns the input and output items of a stored response.
func turnItems(turn *archive.Record) ([]wire.Value, *fault.Error) {
	var input []json.RawMessage
	var body struct {
		Status string
		Output []json.RawMessage
	}
	if err := errors.Join(json.Unmarshal(turn.Input, &input), json.Unmarshal(turn.Body, &body)); err != nil {
		return nil, storageFailed(err)
	}
	if body.Status != statusCompleted && body.Status != statusIncomplete {
		return nil, fault.New(fault.InvalidValue, previousField,
			"The response '%s' is %s: it cannot be continued.",
			turn.ID, strings.ReplaceAll(body.Status, "_", " "))
	}

	var items []wire.Value
	for _, raw := range append(input, body.Output...) {
		items = append(items, wire.Value{Name: previousField, Raw: raw})
	}
	return items, nil
}

// leastResponse is about the size of a stored response that says nothing, in bytes.
const leastResponse = 2 << 10

// hasRoom returns an error if the response could not be stored.
func (api *API) hasRoom(ctx context.Context, req *responsesRequest) *fault.Error {
	if !req.store && req.conversationID == "" {
		return nil
	}
	bytes := int64(leastResponse)
	for _, item := range req.input {
		bytes += int64(len(item.Raw))
	}
	if err := api.opts.Archive.Admits(ownerOf(ctx), bytes); err != nil {
		return storageFailed(err)
	}
	return nil
}

// storageFailed returns the fault for an error of the archive.
func storageFailed(err error) *fault.Error {
	if errors.Is(err, archive.ErrFull) {
		return fault.New(fault.StorageFull, "",
			"The response or conversation cannot be stored: %v. Delete some, or send 'store': false.", err)
	}
	return fault.New(fault.Storage, "", "Stored responses cannot be read or written: %v.", err)
}

// keep stores a response, if the request says so. Of one that has ended, the items are added to the request's
// conversation, which is then free for others.
func (api *API) keep(ctx context.Context, req *responsesRequest, r *response) *fault.Error {
	// A disconnecting client must not leave an incomplete conversation.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepWait)
	defer cancel()

	var records []*archive.Record
	if req.store {
		var record *archive.Record
		var e *fault.Error
		service.Late(ctx, func() { record, e = recordOf(req, r, ownerOf(ctx)) })
		if e != nil {
			return e
		}
		records = append(records, record)
	}

	if req.conversationID != "" && r.Status != statusRunning {
		api.conversations.mu.Lock()
		defer api.conversations.mu.Unlock()
		defer api.conversations.drop(req)
		if r.complete() {
			after, e := api.continued(ctx, req, r)
			if e != nil {
				return e
			}
			records = append(records, after)
		}
	}

	if len(records) == 0 {
		return nil
	}
	if err := api.opts.Archive.Put(ctx, records...); err != nil {
		return storageFailed(err)
	}
	return nil
}

// recordOf returns a response as it is stored.
func recordOf(req *responsesRequest, r *response, owner archive.Owner) (*archive.Record, *fault.Error) {
	input, err := json.Marshal(req.stored(r.ID))
	body, failed := json.Marshal(r)
	if err := errors.Join(err, failed); err != nil {
		return nil, storageFailed(err)
	}
	return &archive.Record{
		ID:       r.ID,
		Owner:    owner,
		Previous: req.previous,
		Created:  time.Unix(r.CreatedAt, 0),
		Input:    input,
		Body:     body,
	}, nil
}

// stored returns the request's input in its normalized form: each item has a type, an id and a status,
// and texts are content parts. Response is the id of the response.
func (r *responsesRequest) stored(response string) []storedItem {
	items := make([]storedItem, len(r.input))
	for i, v := range r.input {
		items[i] = listed(v.Raw, inputID(response, i))
	}
	return items
}

// listed returns an item in its normalized form, with an id unless it has one.
func listed(raw json.RawMessage, id string) storedItem {
	var item map[string]json.RawMessage
	if json.Unmarshal(raw, &item) != nil {
		return nil
	}

	kind := "message"
	role := ""
	_ = json.Unmarshal(item["type"], &kind) // absent for a message
	_ = json.Unmarshal(item["role"], &role)
	text := func(s string) json.RawMessage { return wire.AppendString(nil, s) }
	set := func(name, text string) {
		if wire.IsNull(item[name]) {
			item[name] = wire.AppendString(nil, text)
		}
	}

	set("type", kind)
	set("id", itemPrefixes[kind]+id)
	set("status", "completed")
	if content := item["content"]; kind == "message" && len(content) > 0 && content[0] == '"' {
		part := map[string]json.RawMessage{"type": text("input_text"), "text": content}
		if role == "assistant" {
			part["type"] = text("output_text")
			part["annotations"] = json.RawMessage("[]")
			part["logprobs"] = json.RawMessage("[]")
		}
		item["content"], _ = json.Marshal([]any{part})
	}

	return item
}

// kept returns the stored response with the id in the path.
func (api *API) kept(r *http.Request) (*archive.Record, *fault.Error) {
	id := r.PathValue("id")
	missing := fault.New(fault.NotFound, "", "Response with id '%s' not found. %s", id, notKept)
	if !strings.HasPrefix(id, responsePrefix) {
		return nil, missing
	}
	got, err := api.opts.Archive.Get(r.Context(), keyOf(r.Context(), id))
	if errors.Is(err, archive.ErrNotFound) {
		return nil, missing
	}
	if err != nil {
		return nil, storageFailed(err)
	}
	return got, nil
}

// showResponse answers GET /responses/{id}.
func (api *API) showResponse(w http.ResponseWriter, r *http.Request) *fault.Error {
	got, e := api.kept(r)
	if e != nil {
		return e
	}
	return api.writeKept(w, r, got)
}

// writeKept writes a stored response. If it is in progress but not running, an earlier process has
// ended without completing it.
func (api *API) writeKept(w http.ResponseWriter, r *http.Request, got *archive.Record) *fault.Error {
	var body response
	if err := json.Unmarshal(got.Body, &body); err != nil {
		return storageFailed(err)
	}
	if body.Status != statusRunning || api.background.find(got.ID) != nil {
		return wire.WriteJSON(w, got.Body)
	}
	// It may have ended in the meantime.
	again, e := api.kept(r)
	if e != nil {
		return e
	}
	if string(again.Body) != string(got.Body) {
		return wire.WriteJSON(w, again.Body)
	}
	body.Status = statusFailed
	body.Error = &responseError{"server_error", "The server stopped before the response was complete."}
	return wire.WriteJSON(w, body)
}

// deleteResponse answers DELETE /responses/{id}.
func (api *API) deleteResponse(w http.ResponseWriter, r *http.Request) *fault.Error {
	got, e := api.kept(r)
	if e != nil {
		return e
	}
	api.background.cancel(r.Context(), got.ID)
	err := api.opts.Archive.Delete(r.Context(), keyOf(r.Context(), got.ID))
	if err != nil && !errors.Is(err, archive.ErrNotFound) {
		return storageFailed(err)
	}
	return wire.WriteJSON(w, map[string]any{"id": got.ID, "object": "response", "deleted": true})
}

// cancelResponse answers POST /responses/{id}/cancel.
func (api *API) cancelResponse(w http.ResponseWriter, r *http.Request) *fault.Error {
	got, e := api.kept(r)
	if e != nil {
		return e
	}
	var body response
	if err := json.Unmarshal(got.Body, &body); err != nil {
		return storageFailed(err)
	}
	if !body.Background {
		return fault.New(fault.InvalidValue, "",
			"The response '%s' does not run in the background and cannot be canceled.", got.ID)
	}
	api.background.cancel(r.Context(), got.ID)
	if got, e = api.kept(r); e != nil {
		return e
	}
	return api.writeKept(w, r, got)
}

// listInput answers GET /responses/{id}/input_items.
func (api *API) listInput(w http.ResponseWriter, r *http.Request) *fault.Error {
	page, e := itemQuery.read(r)
	if e != nil {
		return e
	}
	got, e := api.kept(r)
	if e != nil {
		return e
	}
	var items []storedItem
	if err := json.Unmarshal(got.Input, &items); err != nil {
		return storageFailed(err)
	}
	return page.write(w, items)
}

// countInput answers POST /responses/input_tokens.
func (api *API) countInput(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.readResponses(w, r)
	if e != nil {
		return e
	}
	model, e := api.service.Model(r.Context(), req.model)
	if e != nil {
		return e
	}
	defer model.Release()
	p, err := api.service.Prompt(r.Context(), model, req.conversation())
	if err != nil {
		return service.Fault(err, "input")
	}
	return wire.WriteJSON(w, map[string]any{"object": "response.input_tokens", "input_tokens": len(p.Tokens)})
}

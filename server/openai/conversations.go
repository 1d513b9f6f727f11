package openai

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"serve/archive"
	"serve/fault"
	"serve/server/wire"
)

// conversationPrefix is the prefix of the ids of conversations.
const conversationPrefix = "conv_"

// conversationField is the field with the conversation that a response belongs to.
const conversationField = "conversation"

// Limits on a conversation, also on one of responses. All of it is read for each response, and written anew after it.
const (
	maxConversationBytes = 16 << 20
	maxAddedItems        = 20 // by one request, the same as OpenAI's
)

// conversation is a conversation without its items, as the API returns it.
type conversation struct {
	ID        string          `json:"id"`
	Object    string          `json:"object"`
	CreatedAt int64           `json:"created_at"`
	Metadata  json.RawMessage `json:"metadata"`
}

// conversationBody is the body of requests that create conversations, change them, or add items.
type conversationBody struct {
	metadata json.RawMessage
	items    []wire.Value
}

var (
	metadataRow = wire.Field[conversationBody]{
		Name: "metadata",
		Type: wire.Of(metadataSchema, readMetadata, func(b *conversationBody) *json.RawMessage { return &b.metadata }),
		Doc:  "Metadata, echoed with the conversation.",
	}

	itemsRow = wire.Field[conversationBody]{
		Name: "items",
		Type: wire.Of(itemsSchema, readAddedItems, func(b *conversationBody) *[]wire.Value { return &b.items }),
		Doc:  "Items to add: messages, reasoning, calls and their results.",
	}

	createFields = wire.Table[conversationBody]{metadataRow, itemsRow}
	updateFields = wire.Table[conversationBody]{required(metadataRow)}
	addFields    = wire.Table[conversationBody]{required(itemsRow)}
)

func required(f wire.Field[conversationBody]) wire.Field[conversationBody] {
	f.Required = true
	return f
}

// Limits on metadata, the same as OpenAI's.
const (
	maxLabels     = 16
	maxLabelName  = 64 // characters
	maxLabelValue = 512
)

var metadataSchema = wire.Schema{
	"type":                 "object",
	"maxProperties":        maxLabels,
	"propertyNames":        wire.Schema{"maxLength": maxLabelName},
	"additionalProperties": wire.Schema{"type": "string", "maxLength": maxLabelValue},
}.Examples(`{"a":"b"}`)

// readMetadata reads labels.
func readMetadata(v wire.Value) (json.RawMessage, *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return nil, e
	}
	if len(object) > maxLabels {
		return nil, v.Invalid("too many keys: %d (maximum %d).", len(object), maxLabels)
	}

	labels := make(map[string]string, len(object))
	for name, value := range object {
		text, e := value.Text()
		if e != nil {
			return nil, e
		}
		if utf8.RuneCountInString(name) > maxLabelName || utf8.RuneCountInString(text) > maxLabelValue {
			return nil, v.Invalid("a key may have at most %d characters, and its value at most %d.",
				maxLabelName, maxLabelValue)
		}
		labels[name] = text
	}

	// Not as they came: a label of null is none, and its name has no bounds.
	encoded, err := json.Marshal(labels)
	if err != nil {
		return nil, v.Invalid("%v.", err)
	}
	return encoded, nil
}

// conversations has each conversation changed by one request at a time.
type conversations struct {
	mu   sync.Mutex                        // held while conversations are read and written anew
	held map[archive.Key]*responsesRequest // conversations to which a response is being made
}

// hold reserves the request's conversation, if it has one. The caller must release it.
func (c *conversations) hold(ctx context.Context, req *responsesRequest) *fault.Error {
	if req.conversationID == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	req.holds = keyOf(ctx, req.conversationID)
	if e := c.free(req.holds); e != nil {
		return e
	}
	if c.held == nil {
		c.held = map[archive.Key]*responsesRequest{}
	}
	c.held[req.holds] = req
	return nil
}

// free returns an error if a response is being made to a conversation. The caller holds the mutex.
func (c *conversations) free(key archive.Key) *fault.Error {
	if c.held[key] == nil {
		return nil
	}
	return fault.New(fault.ConversationLocked, conversationField,
		"A response in the conversation '%s' is being generated. Try again when it is complete.", key.ID)
}

// release ends hold, if the request has not ended it yet.
func (c *conversations) release(req *responsesRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(req)
}

// drop is release for callers that hold the mutex.
func (c *conversations) drop(req *responsesRequest) {
	if c.held[req.holds] == req {
		delete(c.held, req.holds)
	}
}

// conversationOf returns the stored conversation with an id.
func (api *API) conversationOf(ctx context.Context, id string) (*archive.Record, *fault.Error) {
	missing := fault.New(fault.NotFound, "", "Conversation with id '%s' not found. Conversations are stored for a "+
		"limited time after their last change; with serve's --data-dir they are stored longer.", id)
	if !strings.HasPrefix(id, conversationPrefix) {
		return nil, missing
	}
	got, err := api.opts.Archive.Get(ctx, keyOf(ctx, id))
	if errors.Is(err, archive.ErrNotFound) {
		return nil, missing
	}
	if err != nil {
		return nil, storageFailed(err)
	}
	return got, nil
}

// putConversation stores a conversation whose items or metadata are new.
func (api *API) putConversation(ctx context.Context, record *archive.Record) *fault.Error {
	if e := fits(record); e != nil {
		return e
	}
	record.Created = time.Now()
	if err := api.opts.Archive.Put(ctx, record); err != nil {
		return storageFailed(err)
	}
	return nil
}

// fits returns an error if a conversation is too large to be kept.
func fits(record *archive.Record) *fault.Error {
	if len(record.Input) > maxConversationBytes {
		return fault.New(fault.ContextExceeded, conversationField,
			"The conversation '%s' would be too large (maximum %d bytes).", record.ID, maxConversationBytes)
	}
	return nil
}

// createConversation answers POST /conversations.
func (api *API) createConversation(w http.ResponseWriter, r *http.Request) *fault.Error {
	var asked conversationBody
	if e := decode(api, w, r, &asked, createFields, nil); e != nil {
		return e
	}

	c := conversation{
		ID:        conversationPrefix + wire.RandomID(),
		Object:    "conversation",
		CreatedAt: time.Now().Unix(),
		Metadata:  givenOr(asked.metadata, "{}"),
	}
	body, err := json.Marshal(c)
	if err != nil {
		return storageFailed(err)
	}
	record := &archive.Record{ID: c.ID, Owner: ownerOf(r.Context()), Body: body}
	if _, e := api.addItems(r.Context(), record, asked.items); e != nil {
		return e
	}
	if e := api.putConversation(r.Context(), record); e != nil {
		return e
	}
	return wire.WriteJSON(w, record.Body)
}

// showConversation answers GET /conversations/{id}.
func (api *API) showConversation(w http.ResponseWriter, r *http.Request) *fault.Error {
	got, e := api.conversationOf(r.Context(), r.PathValue("id"))
	if e != nil {
		return e
	}
	return wire.WriteJSON(w, got.Body)
}

// updateConversation answers POST /conversations/{id}: the metadata is replaced.
func (api *API) updateConversation(w http.ResponseWriter, r *http.Request) *fault.Error {
	var asked conversationBody
	if e := decode(api, w, r, &asked, updateFields, nil); e != nil {
		return e
	}

	api.conversations.mu.Lock()
	defer api.conversations.mu.Unlock()
	got, e := api.conversationOf(r.Context(), r.PathValue("id"))
	if e != nil {
		return e
	}
	var c conversation
	err := json.Unmarshal(got.Body, &c)
	c.Metadata = asked.metadata
	body, failed := json.Marshal(c)
	if err := errors.Join(err, failed); err != nil {
		return storageFailed(err)
	}

	changed := *got
	changed.Body = body
	if e := api.putConversation(r.Context(), &changed); e != nil {
		return e
	}
	return wire.WriteJSON(w, changed.Body)
}

// deleteConversation answers DELETE /conversations/{id}. Its items are deleted with it; responses stay.
func (api *API) deleteConversation(w http.ResponseWriter, r *http.Request) *fault.Error {
	id := r.PathValue("id")
	api.conversations.mu.Lock()
	defer api.conversations.mu.Unlock()
	if _, e := api.conversationOf(r.Context(), id); e != nil {
		return e
	}
	if e := api.conversations.free(keyOf(r.Context(), id)); e != nil {
		return e
	}
	err := api.opts.Archive.Delete(r.Context(), keyOf(r.Context(), id))
	if err != nil && !errors.Is(err, archive.ErrNotFound) {
		return storageFailed(err)
	}
	return wire.WriteJSON(w, map[string]any{"id": id, "object": "conversation.deleted", "deleted": true})
}

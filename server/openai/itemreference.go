package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"serve/archive"
	"serve/fault"
	"serve/server/wire"
)

// Ids of items contain that of their response, so that an item is found without an index:
//
//	resp_0123456789abcdef01234567
//	msg_0123456789abcdef01234567_0       its first output
//	msg_0123456789abcdef01234567_i0      its first input, unless the client has given it an id
//
// Those of items that were added to a conversation contain that of the conversation:
//
//	conv_0123456789abcdef01234567
//	msg_0123456789abcdef01234567_c0123456789ab

// responsePrefix is the prefix of the ids of responses.
const responsePrefix = "resp_"

// typeReference is the type of an item that stands for a stored one.
const typeReference = "item_reference"

// itemPrefixes are the prefixes of ids, by type of item.
var itemPrefixes = map[string]string{
	typeMessage:      "msg_",
	typeReasoning:    "rs_",
	typeFunctionCall: "fc_",
	typeOutput:       "fco_",
	typeCustomCall:   "ctc_",
	typeCustomOutput: "cto_",
	typeSearchCall:   "tsc_",
	typeSearchOutput: "tso_",
	typeCompaction:   "cmp_",
}

// outputID returns the id of a response's output, without its prefix.
func outputID(response string, index int) string {
	return fmt.Sprintf("%s_%d", strings.TrimPrefix(response, responsePrefix), index)
}

// inputID returns the id of a response's input, without its prefix.
func inputID(response string, index int) string {
	return fmt.Sprintf("%s_i%d", strings.TrimPrefix(response, responsePrefix), index)
}

// maxReferred limits what the references of a request stand for, in bytes.
const maxReferred = 64 << 20

// resolve puts the stored items in the place of the references to them, and reports whether there are any.
func (api *API) resolve(ctx context.Context, items []wire.Value) (found bool, e *fault.Error) {
	stored := map[string]map[string]json.RawMessage{} // items by id, of responses and conversations by id
	total := 0
	for i, v := range items {
		id, ok := referenceOf(v)
		if !ok {
			continue
		}

		holder := holderOf(id)
		if _, known := stored[holder]; !known {
			list, err := api.storedItems(ctx, holder)
			if err != nil && !errors.Is(err, archive.ErrNotFound) {
				return false, storageFailed(err)
			}
			stored[holder] = list
		}
		raw, ok := stored[holder][id]
		if !ok {
			return false, fault.New(fault.NotFound, v.Name, "Item with id '%s' not found. %s", id, notKept)
		}
		if total += len(raw); total > maxReferred {
			return false, fault.New(fault.ContextExceeded, "input",
				"The items referenced are too large (maximum %d bytes).", maxReferred)
		}
		items[i].Raw = raw
	}
	return len(stored) > 0, nil
}

// holderOf returns the id of the response or the conversation that an item with an id may belong to.
func holderOf(item string) string {
	parts := strings.Split(item, "_")
	switch {
	case len(parts) < 2:
		return ""
	case len(parts) > 2 && strings.HasPrefix(parts[2], "c"):
		return conversationPrefix + parts[1]
	}
	return responsePrefix + parts[1]
}

// referenceOf returns the id of a reference. The type may be left out.
func referenceOf(v wire.Value) (id string, ok bool) {
	var item struct {
		Type *string
		ID   string
		Role json.RawMessage
	}
	if json.Unmarshal(v.Raw, &item) != nil || item.ID == "" {
		return "", false
	}
	if item.Type == nil {
		return item.ID, item.Role == nil
	}
	return item.ID, *item.Type == typeReference
}

// storedItems returns the items of a stored response or conversation by their ids, or archive.ErrNotFound.
func (api *API) storedItems(ctx context.Context, holder string) (map[string]json.RawMessage, error) {
	stored, err := api.opts.Archive.Get(ctx, keyOf(ctx, holder))
	if err != nil {
		return nil, err
	}

	var body struct{ Output []json.RawMessage }
	var items []json.RawMessage
	if err := errors.Join(json.Unmarshal(stored.Input, &items), json.Unmarshal(stored.Body, &body)); err != nil {
		return nil, err
	}

	byID := map[string]json.RawMessage{}
	for _, raw := range append(items, body.Output...) {
		var item struct{ ID string }
		if json.Unmarshal(raw, &item) == nil && item.ID != "" {
			byID[item.ID] = raw
		}
	}
	return byID, nil
}

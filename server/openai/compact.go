package openai

import (
	"encoding/json"
	"net/http"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

// compactedPrefix precedes a summary where a conversation goes on from it.
const compactedPrefix = "Summary of the conversation so far:\n\n"

// compactInstruction has the model write a summary.
const compactInstruction = "The conversation above is about to be replaced by a summary, from which another " +
	"assistant goes on. Write that summary: the user's goals and preferences, what has been done and found out, " +
	"decisions, names of files and values that are needed again, and what remains to be done. Write nothing else."

// compaction is the answer of POST /responses/compact.
type compaction struct {
	ID        string                       `json:"id"`
	Object    string                       `json:"object"`
	CreatedAt int64                        `json:"created_at"`
	Output    []map[string]json.RawMessage `json:"output"`
	Usage     *responseUsage               `json:"usage"`
}

// compact answers POST /v1/responses/compact: the user's messages, and an item with a summary of
// everything, which the model writes.
func (api *API) compact(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.readResponses(w, r)
	if e != nil {
		return e
	}

	req.tools = tools{}
	req.format = prompt.Format{}
	req.messages = append(req.messages, prompt.Message{Role: prompt.User, Content: compactInstruction})
	reply, e := api.converse(r.Context(), w.Header(), &req.conversationRequest, "input")
	if e != nil {
		return e
	}
	defer reply.Close()

	var summary prompt.Collector
	stream := reply.Streams[0]
	if err := reply.Read(r.Context(), stream, func(e *engine.Event) { summary.Add(e) }); err != nil {
		return service.Fault(err, "input")
	}

	id := responsePrefix + wire.RandomID()
	answer := compaction{
		ID:        id,
		Object:    "response.compaction",
		CreatedAt: time.Now().Unix(),
		Usage:     usageOf(stream.Usage()),
	}
	for i, v := range req.input {
		var m struct{ Type, Role string }
		if json.Unmarshal(v.Raw, &m) == nil && m.Role == string(prompt.User) {
			answer.Output = append(answer.Output, listed(v.Raw, inputID(id, i)))
		}
	}
	answer.Output = append(answer.Output, map[string]json.RawMessage{
		"type":              wire.AppendString(nil, typeCompaction),
		"id":                wire.AppendString(nil, itemPrefixes[typeCompaction]+outputID(id, 0)),
		"encrypted_content": wire.AppendString(nil, seal(summary.Text())),
	})
	return wire.WriteJSON(w, answer)
}

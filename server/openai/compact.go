package openai

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
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

// summarizing returns a request like this one for a summary of messages, of at most so many tokens; 0 for no
// limit.
func (r *responsesRequest) summarizing(messages []prompt.Message, most int) conversationRequest {
	asked := r.conversationRequest
	asked.tools = tools{}
	asked.format = prompt.Format{}
	asked.maxTokens = most
	asked.messages = append(slices.Clip(messages), prompt.Message{Role: prompt.User, Content: compactInstruction})
	return asked
}

// summarize has the model write a summary.
func (api *API) summarize(
	ctx context.Context, h http.Header, asked *conversationRequest,
) (string, engine.Usage, *fault.Error) {
	reply, e := api.converse(ctx, h, asked, "input")
	if e != nil {
		return "", engine.Usage{}, e
	}
	defer reply.Close()

	var summary prompt.Collector
	stream := reply.Streams[0]
	if err := reply.Read(ctx, stream, func(e *engine.Event) { summary.Add(e) }); err != nil {
		return "", engine.Usage{}, service.Fault(err, "input")
	}
	return summary.Text(), stream.Usage(), nil
}

// compaction is the answer of POST /responses/compact.
type compaction struct {
	ID        string         `json:"id"`
	Object    string         `json:"object"`
	CreatedAt int64          `json:"created_at"`
	Output    []storedItem   `json:"output"`
	Usage     *responseUsage `json:"usage"`
}

// compact answers POST /v1/responses/compact: the user's messages, and an item with a summary of
// everything, which the model writes.
func (api *API) compact(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.readResponses(w, r)
	if e != nil {
		return e
	}
	asked := req.summarizing(req.messages, req.maxTokens)
	summary, usage, e := api.summarize(r.Context(), w.Header(), &asked)
	if e != nil {
		return e
	}

	id := responsePrefix + wire.RandomID()
	answer := compaction{
		ID:        id,
		Object:    "response.compaction",
		CreatedAt: time.Now().Unix(),
		Usage:     usageOf(usage),
	}
	for i, v := range req.input {
		if k := kindOf(v); k.Role == string(prompt.User) {
			answer.Output = append(answer.Output, listed(v.Raw, inputID(id, i)))
		}
	}
	answer.Output = append(answer.Output, storedItem{
		"type":              wire.AppendString(nil, typeCompaction),
		"id":                wire.AppendString(nil, itemPrefixes[typeCompaction]+outputID(id, 0)),
		"encrypted_content": wire.AppendString(nil, seal(summary)),
	})
	return wire.WriteJSON(w, answer)
}

// window is what a conversation goes on from in place of everything before it, but for instructions.
type window struct {
	Summary string            `json:"summary"`
	Last    []json.RawMessage `json:"last,omitempty"` // items that come after the summary
}

// windowPrefix marks a sealed window, as sealPrefix does texts.
const windowPrefix = "serve2."

// seal writes a window as encrypted_content.
func (w *window) seal() (string, *fault.Error) {
	b, err := json.Marshal(w)
	if err != nil {
		return "", service.Fault(err, "input")
	}
	return windowPrefix + strings.TrimPrefix(seal(string(b)), sealPrefix), nil
}

// unsealWindow returns the window of seal. It returns false for anything else.
func unsealWindow(sealed string) (w window, ok bool) {
	encoded, ours := strings.CutPrefix(sealed, windowPrefix)
	if !ours {
		return w, false
	}
	text, ok := unseal(sealPrefix + encoded)
	return w, ok && json.Unmarshal([]byte(text), &w) == nil
}

// addCompaction has the conversation go on from a summary. It returns false if it is another server's.
func (r *itemReader) addCompaction(v wire.Value, object map[string]wire.Value) (bool, *fault.Error) {
	sealed, e := wire.OptionalText(object, "encrypted_content")
	if e != nil {
		return false, e
	}
	summarized := func(summary string) prompt.Message {
		return prompt.Message{Role: prompt.User, Content: compactedPrefix + summary}
	}
	if text, ok := unseal(sealed); ok {
		r.messages = append(r.messages, summarized(text))
		return true, nil
	}

	w, ok := unsealWindow(sealed)
	if !ok {
		return false, nil
	}
	r.messages = append(slices.DeleteFunc(r.messages, func(m prompt.Message) bool { return !instructs(&m) }),
		summarized(w.Summary))
	if len(w.Last) > maxMessages {
		return false, v.Invalid("too many items (maximum %d).", maxMessages)
	}
	for _, raw := range w.Last {
		if wire.IsNull(raw) {
			return false, v.Invalid("an item is null.")
		}
		if e := r.add(v.Containing(raw)); e != nil {
			return false, e
		}
	}
	return true, nil
}

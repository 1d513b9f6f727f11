package openai

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

// compactsAt returns the tokens that a prompt may have before it is compacted, by default, in a context of limit
// tokens.
func compactsAt(limit int) int { return limit * 3 / 4 }

// leastThreshold is the smallest compact_threshold. OpenAI's is 1000; contexts are smaller here.
const leastThreshold = 64

var contextManagementSchema = wire.ListOf(wire.Closed(map[string]wire.Schema{
	"type":              wire.Enum(typeCompaction),
	"compact_threshold": wire.Integer(leastThreshold, maxThreshold),
}, "type"), 1).Examples(`[{"type":"compaction","compact_threshold":1000}]`)

const maxThreshold = 1 << 31

// setContextManagement reads when the conversation is compacted.
func (r *responsesRequest) setContextManagement(v wire.Value) *fault.Error {
	list, e := v.Array(1)
	if e != nil || len(list) == 0 {
		return e
	}
	object, e := list[0].Object()
	if e != nil {
		return e
	}
	if e := wire.Only(object, "type", "compact_threshold"); e != nil {
		return e
	}
	kind, e := list[0].Required(object, "type")
	if e != nil {
		return e
	}
	if _, e := kind.OneOf(typeCompaction); e != nil {
		return e
	}

	r.compacts = true
	if field, ok := object["compact_threshold"]; ok {
		n, e := field.Integer(leastThreshold, maxThreshold)
		r.threshold = int(n)
		return e
	}
	return nil
}

// start starts the reply to a request. If the request says so, its conversation is first compacted or
// truncated. The caller must close the reply.
func (api *API) start(ctx context.Context, h http.Header, req *responsesRequest) (*service.Reply, *fault.Error) {
	if req.triggered {
		asked := req.summarizing(req.messages, req.maxTokens)
		return api.converse(ctx, h, &asked, "input")
	}
	if req.compacts || req.truncation == truncationAuto {
		if e := api.shorten(ctx, h, req); e != nil {
			return nil, e
		}
	}
	return api.converse(ctx, h, &req.conversationRequest, "input")
}

// shorten makes a conversation shorter that is too long.
func (api *API) shorten(ctx context.Context, h http.Header, req *responsesRequest) *fault.Error {
	model, e := api.service.Worker(ctx, req.model, req.tier)
	if e != nil {
		return e
	}
	defer model.Release()

	tokens, e := api.length(ctx, model, req)
	if e != nil {
		return e
	}
	limit := model.Engine.Limits().Context
	if threshold := cmp.Or(req.threshold, compactsAt(limit)); req.compacts && tokens > threshold {
		if e := api.compactEarlier(ctx, req, threshold); e != nil {
			return e
		}
		if tokens, e = api.length(ctx, model, req); e != nil {
			return e
		}
	}

	if req.truncation == truncationAuto && tokens >= limit {
		return api.truncate(ctx, h, model, req)
	}
	return nil
}

// length returns the number of tokens of a request's prompt, also if they have no room in the context. It
// may then be less than the whole, but is more than the context.
func (api *API) length(ctx context.Context, model *pool.Lease, req *responsesRequest) (int, *fault.Error) {
	return api.service.Length(ctx, model, req.conversation(), "input", false)
}

// compactEarlier replaces all but the last step of a conversation by a summary, which the model writes.
func (api *API) compactEarlier(ctx context.Context, req *responsesRequest, threshold int) *fault.Error {
	at := lastStep(req.all)
	var earlier itemReader
	for _, item := range req.all[:at] {
		if e := earlier.add(item); e != nil {
			return e
		}
	}
	if !earlier.shortens() {
		return nil
	}

	const part = 4 // of the threshold is for the summary, so that it makes the prompt shorter
	asked := req.summarizing(req.instructed(earlier.messages), max(threshold/part, leastThreshold/part))
	summary, _, e := api.summarize(ctx, http.Header{}, &asked)
	if e != nil || strings.TrimSpace(summary) == "" {
		return e // without a summary the conversation stays as it is
	}

	w := window{Summary: summary}
	for _, item := range req.all[at:] {
		w.Last = append(w.Last, item.Raw)
	}
	if req.window, e = w.seal(); e != nil {
		return e
	}
	item, err := json.Marshal(map[string]string{"type": typeCompaction, "encrypted_content": req.window})
	if err != nil {
		return service.Fault(err, "input")
	}
	if e := req.converse(append(slices.Clip(req.all), wire.Value{Name: "input", Raw: item})); e != nil {
		return e
	}
	req.messages = req.instructed(req.messages)
	return nil
}

// shortens reports whether a summary of a conversation may be shorter than it: there is more in it than
// instructions and another summary.
func (r *itemReader) shortens() bool {
	return slices.ContainsFunc(r.messages, func(m prompt.Message) bool {
		return !instructs(&m) && !strings.HasPrefix(m.Content, compactedPrefix)
	})
}

// instructs reports whether a message is the developer's and not a part of what was said.
func instructs(m *prompt.Message) bool { return m.Role == prompt.System || m.Role == prompt.Developer }

// itemKind is what is needed of an item to know who has said it.
type itemKind struct{ Type, Role string }

func kindOf(v wire.Value) (k itemKind) {
	_ = json.Unmarshal(v.Raw, &k) // it has been read before
	k.Type = cmp.Or(k.Type, typeMessage)
	return k
}

func (k itemKind) said() bool   { return k.Type == typeMessage && k.Role != string(prompt.Assistant) }
func (k itemKind) result() bool { return strings.HasSuffix(k.Type, "_output") }
func (k itemKind) model() bool {
	return k.Type == typeReasoning || strings.HasSuffix(k.Type, "_call") || k.Type == typeMessage && !k.said()
}

// lastStep returns where the items begin that the model has not answered yet: the last messages of the
// user's, or results together with their calls. Before them may be the beginning of the answer.
func lastStep(items []wire.Value) int {
	at := len(items)
	back := func(while func(itemKind) bool) (moved bool) {
		for at > 0 && while(kindOf(items[at-1])) {
			at--
			moved = true
		}
		return moved
	}

	back(itemKind.model)
	results := false
	back(func(k itemKind) bool {
		results = results || k.result()
		return k.said() || k.result()
	})
	if results {
		back(itemKind.model)
	}
	return at
}

// truncationAuto is the value of truncation that has a conversation lose its beginning.
const truncationAuto = "auto"

// truncate leaves out the oldest messages, as few as possible, so that there is room for the prompt and an
// answer. Instructions stay. A result never stays without its call.
func (api *API) truncate(ctx context.Context, h http.Header, model *pool.Lease, req *responsesRequest) *fault.Error {
	whole := req.messages
	cuts := truncations(whole)
	if len(cuts) == 0 {
		return nil // the prompt is refused
	}

	limit := model.Engine.Limits().Context
	answer := limit / 4
	if req.maxTokens > 0 {
		answer = min(req.maxTokens, limit/2)
	}

	var failed *fault.Error
	at, _ := slices.BinarySearchFunc(cuts, 0, func(cut, _ int) int {
		req.messages = withoutFirst(whole, cut)
		tokens, e := api.length(ctx, model, req)
		failed = cmp.Or(failed, e)
		if e == nil && tokens+answer > limit {
			return -1
		}
		return 1
	})

	cut := cuts[min(at, len(cuts)-1)]
	req.messages = withoutFirst(whole, cut)
	note := fmt.Sprintf("oldest messages dropped: %d", len(whole)-len(req.messages))
	wire.AddList(h, wire.NotesHeader, []string{note})
	return failed
}

// truncations returns where a conversation may begin instead of at its beginning.
func truncations(messages []prompt.Message) (cuts []int) {
	begun := false
	for i := range messages {
		m := &messages[i]
		if begun && (m.Role == prompt.User || m.Role == prompt.Assistant) {
			cuts = append(cuts, i)
		}
		begun = begun || !instructs(m)
	}
	return cuts
}

// withoutFirst returns messages without those before a cut, but with the instructions among them.
func withoutFirst(messages []prompt.Message, cut int) (rest []prompt.Message) {
	for i := range messages[:cut] {
		if instructs(&messages[i]) {
			rest = append(rest, messages[i])
		}
	}
	return append(rest, messages[cut:]...)
}

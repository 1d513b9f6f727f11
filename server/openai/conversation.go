package openai

import (
	"context"
	"encoding/json"
	"net/http"

	"serve/engine"
	"serve/fault"
	"serve/prompt"
	"serve/server/wire"
	"serve/service"
)

// conversationRequest contains the fields that chat completions and responses have in common.
type conversationRequest struct {
	params
	messages     []prompt.Message
	effort       string
	templateArgs map[string]json.RawMessage
	tools        tools
	format       prompt.Format
	complete     bool // an assistant's message at the end is not the beginning of the answer
	prediction   string
}

func newConversationRequest() conversationRequest {
	return conversationRequest{params: defaultParams(), tools: tools{parallel: true}}
}

// conversationFields is the table of conversationRequest, without the conversation itself and its
// tools, which the two APIs have in different forms.
var conversationFields = wire.Lift(func(r *conversationRequest) *params { return &r.params }, commonFields,
	wire.Table[conversationRequest]{
		{
			Name: "service_tier",
			Type: wire.OneOf((*conversationRequest).setTier, "auto", "default", "flex", "scale", "priority", "fast"),
			Doc:  "Priority of the request: `priority` and `fast` go ahead of others; `flex` uses spare capacity.",
		},
		{
			Name: "parallel_tool_calls",
			Type: wire.BoolOf(func(r *conversationRequest) *bool { return &r.tools.parallel }),
			Doc:  "Whether an answer may contain several calls.",
		},
	})

// tiers are the values of service_tier and their effects. Those for reserved capacity are the same as
// the default.
var tiers = map[string]struct {
	tier engine.Tier
	name string
}{
	"auto":     {engine.TierDefault, "default"},
	"default":  {engine.TierDefault, "default"},
	"scale":    {engine.TierDefault, "default"},
	"flex":     {engine.TierFlex, "flex"},
	"priority": {engine.TierPriority, "priority"},
	"fast":     {engine.TierPriority, "priority"},
}

func (r *conversationRequest) setTier(name string) {
	r.tier = tiers[name].tier
	r.tierName = tiers[name].name
}

// yield is called for a request that takes what others leave, whatever it asks for.
func (r *conversationRequest) yield() { r.setTier("flex") }

// efforts are the values of reasoning_effort.
var efforts = []string{prompt.NoEffort, "minimal", "low", "medium", "high", "xhigh", "max"}

func (r *conversationRequest) setEffort(effort string) { r.effort = effort }

// check validates fields that depend on each other.
func (r *conversationRequest) check() *fault.Error {
	if e := r.tools.check(); e != nil {
		return e
	}
	return r.params.check()
}

// conversation returns the conversation in its API-independent form.
func (r *conversationRequest) conversation() *prompt.Conversation {
	return &prompt.Conversation{
		Messages:     r.messages,
		Tools:        r.tools.offered(),
		Format:       r.format,
		Effort:       r.effort,
		TemplateArgs: r.templateArgs,
		Complete:     r.complete,
		Prediction:   r.prediction,
	}
}

// converse starts the reply to a request's conversation, and sets the headers about schemas, changes and
// tools. Field is the name of the conversation in errors. The caller must close the reply.
func (api *API) converse(
	ctx context.Context, h http.Header, req *conversationRequest, field string,
) (*service.Reply, *fault.Error) {
	c := req.conversation()
	reply, e := api.service.Converse(ctx, req.model, c, req.request(), field)
	if e != nil {
		return nil, e
	}
	wire.AddList(h, schemaHeader, append(reply.NotEnforced, req.tools.kinds.loose...))
	wire.AddList(h, wire.NotesHeader, reply.Notes)
	wire.AddList(h, toolsHeader, req.tools.kinds.skipped)
	return reply, nil
}

// toolsHeader lists the types of the request's tools that are not offered to the model.
const toolsHeader = "X-Tools-Not-Offered"

// schemaHeader lists the parts of the request's schemas that are not enforced.
const schemaHeader = "X-Schema-Not-Enforced"

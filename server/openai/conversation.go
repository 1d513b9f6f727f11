package openai

import (
	"context"
	"net/http"
	"strings"

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
	templateArgs map[string][]byte
	tools        tools
	format       prompt.Format
}

func newConversationRequest() conversationRequest {
	return conversationRequest{params: defaultParams(), tools: tools{parallel: true}}
}

func (r *conversationRequest) setTier(v wire.Value) *fault.Error {
	asked, e := v.OneOf("auto", "default", "flex", "scale", "priority", "fast")
	r.tier = tiers[asked].tier
	r.tierName = tiers[asked].name
	return e
}

func (r *conversationRequest) setEffort(v wire.Value) (e *fault.Error) {
	r.effort, e = v.OneOf(prompt.NoEffort, "minimal", "low", "medium", "high", "xhigh", "max")
	return e
}

func (r *conversationRequest) setParallel(v wire.Value) (e *fault.Error) {
	r.tools.parallel, e = v.Bool()
	return e
}

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
	}
}

// converse starts the reply to a request's conversation, and sets the headers about schemas and changes. Field is
// the name of the conversation in errors. The caller must close the reply.
func (api *API) converse(
	ctx context.Context, h http.Header, req *conversationRequest, field string,
) (*service.Reply, *fault.Error) {
	c := req.conversation()
	reply, e := api.service.Converse(ctx, req.model, c, req.request(), field)
	if e != nil {
		return nil, e
	}
	for _, place := range reply.NotEnforced {
		h.Add(schemaHeader, place)
	}
	if len(reply.Notes) > 0 {
		h.Set(notesHeader, strings.Join(reply.Notes, ", "))
	}
	return reply, nil
}

// schemaHeader lists the parts of the request's schemas that are not enforced.
const schemaHeader = "X-Schema-Not-Enforced"

// notesHeader lists what was changed in the conversation so that the model's template takes it.
const notesHeader = "X-Prompt-Changed"

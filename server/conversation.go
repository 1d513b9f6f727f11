package server

import (
	"context"
	"net/http"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/server/wire"
)

// conversationRequest is what requests for chat completions and responses have in common.
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

// check holds what no single field can know.
func (r *conversationRequest) check() *fault.Error {
	if e := r.tools.check(); e != nil {
		return e
	}
	return r.params.check()
}

// conversation is what the model is asked, in no API's words.
func (r *conversationRequest) conversation() *prompt.Conversation {
	return &prompt.Conversation{
		Messages:     r.messages,
		Tools:        r.tools.offered(),
		Format:       r.format,
		Effort:       r.effort,
		TemplateArgs: r.templateArgs,
	}
}

// converse has a model go on with a conversation, and lets answer write what comes of it. field
// is what the conversation is called in errors.
func (s *Server) converse(
	w http.ResponseWriter, r *http.Request, req *conversationRequest, field string,
	answer func(*pool.Lease, *prompt.Conversation, *engine.Stream) *fault.Error,
) *fault.Error {
	model, e := s.worker(r, req.model, req.tier)
	if e != nil {
		return e
	}
	defer model.Release()

	c := req.conversation()
	er := req.request()
	p, err := s.prompt(r.Context(), model, c)
	if err != nil {
		return toFault(err, field)
	}
	p.Ask(&er)

	stream, err := generate(r.Context(), model, er)
	if err != nil {
		return toFault(err, field)
	}
	defer stream.Close()

	for _, place := range c.NotEnforced() {
		w.Header().Add(schemaHeader, place)
	}
	return answer(model, c, stream)
}

// schemaHeader names what of a request's schemas is not enforced.
const schemaHeader = "X-Schema-Not-Enforced"

// prompt makes a conversation's prompt for a model.
func (s *Server) prompt(ctx context.Context, model *pool.Lease, c *prompt.Conversation) (*prompt.Prompt, error) {
	b := prompt.Builder{Model: model.Engine, Name: model.ID, Fetch: s.images.fetch}
	return b.Build(ctx, c)
}

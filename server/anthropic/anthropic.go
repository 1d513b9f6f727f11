// Package anthropic implements Anthropic's Messages API, and its lists of models.
package anthropic

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
	"serve/steps"
)

// Options configure an API.
type Options struct {
	Service *service.Service
	Stream  dialect.StreamFunc
	Lenient bool // accepts unknown fields at the top level of requests
}

var _ dialect.Dialect = (*API)(nil)

// API implements dialect.Dialect.
type API struct {
	service *service.Service
	stream  dialect.StreamFunc
	lenient bool
}

// New returns the dialect.
func New(o Options) *API { return &API{service: o.Service, stream: o.Stream, lenient: o.Lenient} }

const (
	messagesPath  = "/messages"
	versionHeader = "Anthropic-Version"
	idHeader      = "Request-Id"
)

// Routes implements dialect.Dialect.
func (api *API) Routes() []dialect.Route {
	return dialect.WithQuery(append(api.messageRoutes(), api.modelRoutes()...), commonQuery.Describe())
}

// commonQuery are the parameters that every endpoint takes.
var commonQuery = wire.Table[struct{}]{{
	Name: "beta",
	Type: wire.Ignore[struct{}](wire.Bool),
	Doc:  "Sent by the beta clients of Anthropic's SDKs; the fields of both forms of the API are accepted without it.",
}}

func (api *API) messageRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method:    http.MethodPost,
			Path:      messagesPath,
			Handle:    api.messages,
			Right:     dialect.RightUse,
			Work:      true,
			Pictures:  true,
			Operation: "chat",
			Doc:       "Answers a conversation.",
			Fields:    fields.Describe(),
			Produces:  []string{"application/json", wire.EventStream},
		},
		{
			Method:   http.MethodPost,
			Path:     messagesPath + "/count_tokens",
			Handle:   api.countTokens,
			Right:    dialect.RightUse,
			Work:     true,
			Pictures: true,
			Doc:      "Counts the tokens of a conversation.",
			Fields:   countFields.Describe(),
		},
	}
}

func (api *API) modelRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method: http.MethodGet,
			Path:   "/models",
			Handle: api.listModels,
			Right:  dialect.RightList,
			Doc:    "Lists the models.",
			Query:  pageQuery.Describe(),
		},
		{
			Method: http.MethodGet,
			Path:   "/models/*id", // a name may have slashes, escaped or not
			Handle: api.showModel,
			Right:  dialect.RightList,
			Doc:    "Describes a model.",
		},
	}
}

// Speaks implements dialect.Dialect. Anthropic's clients always send the version of the API.
func (api *API) Speaks(r *http.Request) bool {
	return r.Header.Get(versionHeader) != "" ||
		r.URL.Path == messagesPath || strings.HasPrefix(r.URL.Path, messagesPath+"/")
}

// Head implements dialect.Dialect.
func (api *API) Head(h http.Header, _ time.Duration) { h.Set(idHeader, h.Get(dialect.RequestID)) }

// Lenient implements dialect.Dialect.
func (api *API) Lenient() bool { return api.lenient }

// limitPrefix is what the headers for limits begin with.
const limitPrefix = "anthropic-ratelimit-"

// Limits implements dialect.Dialect.
func (api *API) Limits(h http.Header, windows []dialect.Window) {
	for _, w := range windows {
		h.Set(limitPrefix+w.Of+"-limit", strconv.Itoa(w.Limit))
		h.Set(limitPrefix+w.Of+"-remaining", strconv.Itoa(w.Remaining))
		// Rounded up, so that all of it is there at that second.
		reset := time.Now().Add(w.Reset + time.Second - 1).Truncate(time.Second)
		h.Set(limitPrefix+w.Of+"-reset", reset.UTC().Format(time.RFC3339))
	}
}

// Exposes implements dialect.Dialect.
func (api *API) Exposes() []string {
	names := []string{strings.ToLower(idHeader)}
	for _, of := range []string{"requests", "tokens"} {
		for _, what := range []string{"-limit", "-remaining", "-reset"} {
			names = append(names, limitPrefix+of+what)
		}
	}
	return names
}

// schemaHeader lists the parts of the request's schemas that are not enforced.
const schemaHeader = "X-Schema-Not-Enforced"

// decode reads a request.
func (api *API) decode(r *http.Request, table wire.Table[request]) (*request, *fault.Error) {
	req := newRequest()
	notes := wire.Notes{Lenient: api.lenient, Budget: steps.New(r.Context(), steps.PerRequest)}
	how := dialect.Body{
		Service: api.service,
		Notes:   &notes,
		Model:   dialect.NamedModel(&notes),
		Check: func() *fault.Error {
			req.ignored = append(req.ignored, notes.Ignored()...)
			return req.check(notes.Budget)
		},
	}
	if e := dialect.Decode(r, how, table, req); e != nil {
		return nil, e
	}
	return req, nil
}

// messages answers POST /v1/messages.
func (api *API) messages(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.decode(r, fields)
	if e != nil {
		return e
	}

	if len(req.edits) > 0 {
		if e := api.manageFor(r.Context(), req); e != nil {
			return e
		}
	}
	c := req.conversation()
	reply, e := api.service.Converse(r.Context(), req.model, c, req.work(), "messages")
	if e != nil {
		return e
	}
	defer reply.Close()

	wire.AddList(w.Header(), schemaHeader, reply.NotEnforced)
	wire.AddList(w.Header(), wire.NotesHeader, reply.Notes)
	wire.AddList(w.Header(), dialect.IgnoredHeader, req.ignored)

	a := newAnswer(req, reply)
	if req.stream {
		return api.stream(w, r, reply, &encoder{answer: a, id: w.Header().Get(dialect.RequestID)})
	}
	return a.complete(w, r)
}

// manageFor applies a request's edits before it is answered.
func (api *API) manageFor(ctx context.Context, req *request) *fault.Error {
	model, e := api.service.Worker(ctx, req.model, engine.TierDefault)
	if e != nil {
		return e
	}
	defer model.Release()
	_, e = api.manage(ctx, model, req, 0, false)
	return e
}

// countTokens answers POST /v1/messages/count_tokens. It takes every field of a message's request.
func (api *API) countTokens(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.decode(r, countFields)
	if e != nil {
		return e
	}

	model, e := api.service.Model(r.Context(), req.model)
	if e != nil {
		return e
	}
	defer model.Release()

	counts := tokenCounts{}
	if counts.Input, e = api.service.Length(r.Context(), model, req.conversation(), "messages", true); e != nil {
		return e
	}
	if req.managed {
		counts.Managed = &managedCounts{Original: counts.Input}
		if counts.Input, e = api.manage(r.Context(), model, req, counts.Input, true); e != nil {
			return e
		}
	}

	wire.AddList(w.Header(), dialect.IgnoredHeader, req.ignored)
	return wire.WriteJSON(w, counts)
}

// tokenCounts is the answer of POST /v1/messages/count_tokens.
type tokenCounts struct {
	Input   int            `json:"input_tokens"`
	Managed *managedCounts `json:"context_management,omitempty"`
}

// managedCounts is about the conversation before edits.
type managedCounts struct {
	Original int `json:"original_input_tokens"`
}

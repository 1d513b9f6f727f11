// Package openai implements OpenAI's API, and endpoints that llama.cpp, vLLM and Jina have added to it.
package openai

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"serve/archive"
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
	// Perform answers a request that the API makes itself, as the server answers those of clients. The
	// service.Call in its context says for whom.
	Perform http.HandlerFunc
	Archive archive.Store  // stores responses between requests; nil keeps recent ones in memory
	Files   *archive.Files // stores files and batches; nil refuses them
	MaxFile int64          // maximum size of a file that a client stores, in bytes
	MaxBody int64          // maximum size of a request in a batch, in bytes
	// BatchLines is how many lines of batches are computed at the same time.
	BatchLines int
	// Moderator is the name of the Llama Guard model behind moderations; empty for none.
	Moderator string
	Lenient   bool // accepts unknown fields at the top level of requests
	Log       *slog.Logger
}

var _ dialect.Dialect = (*API)(nil)

// API implements dialect.Dialect.
type API struct {
	opts          Options
	service       *service.Service
	background    background
	conversations conversations
	batches       *batches // nil without files
}

// New returns the dialect. The caller must close it.
func New(o Options) (*API, error) {
	if o.Moderator != "" {
		if _, e := o.Service.Named(context.Background(), o.Moderator); e != nil {
			return nil, fmt.Errorf("--moderation %q does not name a served model", o.Moderator)
		}
	}
	if o.Archive == nil {
		o.Archive = archive.NewMemory(memoryBytes, memoryTime)
	}
	api := &API{opts: o, service: o.Service}
	if o.Files != nil {
		api.batches = newBatches(api)
	}
	return api, nil
}

// Resume goes on with the batches that an earlier process has left.
func (api *API) Resume() error {
	if api.batches == nil {
		return nil
	}
	return api.batches.resume()
}

// Drain has batches begin no more lines.
func (api *API) Drain() {
	if api.batches != nil {
		api.batches.drain()
	}
}

// Close cancels background responses and the lines of batches, and waits for their end.
func (api *API) Close() {
	if api.batches != nil {
		api.batches.stop()
	}
	api.background.stop()
}

// Wait returns when no background response is running and, after Drain, no line of a batch, or when ctx
// is done.
func (api *API) Wait(ctx context.Context) {
	if api.batches != nil {
		api.batches.wait(ctx)
	}
	api.background.wait(ctx)
}

// streamed are the content types of answers that may be streamed.
var streamed = []string{"application/json", wire.EventStream}

// Routes implements dialect.Dialect.
func (api *API) Routes() []dialect.Route {
	responses := append(api.responseRoutes(), api.storedResponseRoutes()...)
	routes := slices.Concat(api.modelRoutes(), api.generationRoutes(), api.readingRoutes(), api.tokenRoutes(),
		dialect.WithQuery(responses, responseQuery.Describe()),
		api.conversationRoutes(), api.itemRoutes(), api.fileRoutes(), api.batchRoutes())
	return dialect.WithQuery(routes, commonQuery.Describe())
}

func (api *API) modelRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method: http.MethodGet,
			Path:   "/models",
			Handle: api.listModels,
			Right:  dialect.RightList,
			Doc:    "Lists the models.",
			Query:  modelsQuery.Describe(),
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

// generationRoutes are the endpoints whose answers a model writes.
func (api *API) generationRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method:    http.MethodPost,
			Path:      "/chat/completions",
			Handle:    api.chat,
			Right:     dialect.RightUse,
			Work:      true,
			Pictures:  true,
			Operation: "chat",
			Doc:       "Answers a conversation.",
			Fields:    chatFields.Describe(),
			Produces:  streamed,
		},

		{
			Method:    http.MethodPost,
			Path:      "/completions",
			Handle:    api.completions,
			Right:     dialect.RightUse,
			Work:      true,
			Operation: "text_completion",
			Doc:       "Continues texts.",
			Fields:    completionFields.Describe(),
			Produces:  streamed,
		},
	}
}

// readingRoutes are the endpoints that have a model read texts.
func (api *API) readingRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method:    http.MethodPost,
			Path:      "/embeddings",
			Handle:    api.embeddings,
			Right:     dialect.RightUse,
			Work:      true,
			Operation: "embeddings",
			Doc:       "Returns the embeddings of texts.",
			Fields:    embeddingFields.Describe(),
		},
		{
			Method:    http.MethodPost,
			Path:      "/moderations",
			Handle:    api.moderations,
			Right:     dialect.RightUse,
			Work:      true,
			Operation: "moderation",
			Doc:       "Classifies texts with a Llama Guard model.",
			Fields:    moderationFields.Describe(),
		},

		{
			Method:    http.MethodPost,
			Path:      "/rerank",
			Handle:    api.rerank,
			Right:     dialect.RightUse,
			Work:      true,
			Operation: "rerank",
			Doc:       "Ranks documents by their relevance to a query.",
			Fields:    rerankFields.Describe(),
		},
		{
			Method:    http.MethodPost,
			Path:      "/score",
			Handle:    api.score,
			Right:     dialect.RightUse,
			Work:      true,
			Operation: "rerank",
			Doc:       "Scores how well texts answer queries.",
			Fields:    scoreFields.Describe(),
		},
	}
}

// tokenRoutes are the endpoints about tokens.
func (api *API) tokenRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method:      http.MethodGet,
			Path:        "/tokenizer_info",
			Handle:      api.tokenizerInfo,
			Right:       dialect.RightUse,
			Work:        true,
			Doc:         "Describes a model's tokenizer.",
			Query:       tokenizerQuery.Describe(),
			Unversioned: true,
		},

		{
			Method:      http.MethodPost,
			Path:        "/tokenize",
			Handle:      api.tokenize,
			Right:       dialect.RightUse,
			Work:        true,
			Doc:         "Returns the tokens of a text.",
			Fields:      tokenizeFields.Describe(),
			Unversioned: true,
		},
		{
			Method:      http.MethodPost,
			Path:        "/detokenize",
			Handle:      api.detokenize,
			Right:       dialect.RightUse,
			Work:        true,
			Doc:         "Returns the text of tokens.",
			Fields:      detokenizeFields.Describe(),
			Unversioned: true,
		},

		{
			Method:   http.MethodPost,
			Path:     "/chat/completions/render",
			Handle:   api.renderChat,
			Right:    dialect.RightUse,
			Work:     true,
			Pictures: true,
			Doc:      "Returns the tokens of a conversation's prompt, for routers.",
			Fields:   chatFields.Describe(),
		},
		{
			Method: http.MethodPost,
			Path:   "/completions/render",
			Handle: api.renderCompletions,
			Right:  dialect.RightUse,
			Work:   true,
			Doc:    "Returns the tokens of each prompt, for routers.",
			Fields: completionFields.Describe(),
		},
	}
}

func (api *API) responseRoutes() []dialect.Route {
	fields := responsesFields.Describe()

	return []dialect.Route{
		{
			Method:    http.MethodPost,
			Path:      "/responses",
			Handle:    api.responses,
			Right:     dialect.RightUse,
			Work:      true,
			Pictures:  true,
			Operation: "chat",
			Doc:       "Answers a conversation and stores the response.",
			Fields:    fields,
			Produces:  streamed,
		},
		{
			Method:   http.MethodPost,
			Path:     "/responses/input_tokens",
			Handle:   api.countInput,
			Right:    dialect.RightUse,
			Work:     true,
			Pictures: true,
			Doc:      "Counts the tokens of a conversation.",
			Fields:   fields,
		},
		{
			Method:    http.MethodPost,
			Path:      "/responses/compact",
			Handle:    api.compact,
			Right:     dialect.RightUse,
			Work:      true,
			Pictures:  true,
			Operation: "chat",
			Doc:       "Has the model summarize a conversation, which can then be continued from the summary.",
			Fields:    fields,
		},
	}
}

func (api *API) storedResponseRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method: http.MethodGet,
			Path:   "/responses/:id",
			Handle: api.showResponse,
			Right:  dialect.RightUse,
			Doc:    "Returns a stored response.",
			Query:  storedQuery.Describe(),
		},
		{
			Method: http.MethodGet,
			Path:   "/responses/:id/input_items",
			Handle: api.listInput,
			Right:  dialect.RightUse,
			Doc:    "Lists the input of a stored response.",
			Query:  itemQuery.Describe(),
		},

		{
			Method: http.MethodDelete,
			Path:   "/responses/:id",
			Handle: api.deleteResponse,
			Right:  dialect.RightUse,
			Doc:    "Deletes a stored response.",
		},
		{
			Method: http.MethodPost,
			Path:   "/responses/:id/cancel",
			Handle: api.cancelResponse,
			Right:  dialect.RightUse,
			Doc:    "Cancels a background response.",
		},
	}
}

func (api *API) conversationRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method:   http.MethodPost,
			Path:     "/conversations",
			Handle:   api.createConversation,
			Right:    dialect.RightUse,
			Work:     true,
			Pictures: true,
			Doc:      "Creates a conversation, to which responses add their input and output.",
			Fields:   createFields.Describe(),
		},

		{
			Method: http.MethodGet,
			Path:   "/conversations/:id",
			Handle: api.showConversation,
			Right:  dialect.RightUse,
			Doc:    "Returns a conversation without its items.",
		},
		{
			Method: http.MethodPost,
			Path:   "/conversations/:id",
			Handle: api.updateConversation,
			Right:  dialect.RightUse,
			Work:   true,
			Doc:    "Replaces the metadata of a conversation.",
			Fields: updateFields.Describe(),
		},
		{
			Method: http.MethodDelete,
			Path:   "/conversations/:id",
			Handle: api.deleteConversation,
			Right:  dialect.RightUse,
			Doc:    "Deletes a conversation and its items.",
		},
	}
}

func (api *API) itemRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method:   http.MethodPost,
			Path:     "/conversations/:id/items",
			Handle:   api.createItems,
			Right:    dialect.RightUse,
			Work:     true,
			Pictures: true,
			Doc:      "Adds items to a conversation.",
			Query:    includeQuery.Describe(),
			Fields:   addFields.Describe(),
		},

		{
			Method: http.MethodGet,
			Path:   "/conversations/:id/items",
			Handle: api.listItems,
			Right:  dialect.RightUse,
			Doc:    "Lists the items of a conversation.",
			Query:  itemQuery.Describe(),
		},
		{
			Method: http.MethodGet,
			Path:   "/conversations/:id/items/:item",
			Handle: api.showItem,
			Right:  dialect.RightUse,
			Doc:    "Returns an item of a conversation.",
			Query:  includeQuery.Describe(),
		},
		{
			Method: http.MethodDelete,
			Path:   "/conversations/:id/items/:item",
			Handle: api.deleteItem,
			Right:  dialect.RightUse,
			Doc:    "Deletes an item of a conversation.",
		},
	}
}

// Speaks implements dialect.Dialect: whatever no other API knows as its own is OpenAI's.
func (api *API) Speaks(*http.Request) bool { return true }

// processing is the header with the milliseconds until the response began.
const processing = "Openai-Processing-Ms"

// Limits implements dialect.Dialect: the server sets OpenAI's headers in every API.
func (api *API) Limits(http.Header, []dialect.Window) {}

// Head implements dialect.Dialect.
func (api *API) Head(h http.Header, took time.Duration) {
	h.Set("Openai-Version", "2020-10-01")
	h.Set(processing, wire.Milliseconds(took))
}

// Lenient implements dialect.Dialect.
func (api *API) Lenient() bool { return api.opts.Lenient }

// Exposes implements dialect.Dialect.
func (api *API) Exposes() []string { return []string{strings.ToLower(processing)} }

// notes returns the notes by which a request is decoded.
func (api *API) notes(ctx context.Context) *wire.Notes {
	n := &wire.Notes{Lenient: api.opts.Lenient, Budget: steps.New(ctx, steps.PerRequest)}
	if api.opts.Files != nil {
		n.File = api.namedFiles(ctx)
	}
	return n
}

// decode reads a request body into T by a table of fields, and checks it, unless check is nil. A header names the
// fields that had no effect.
func decode[T any](
	api *API, w http.ResponseWriter, r *http.Request, into *T, table wire.Table[T], check func() *fault.Error,
) *fault.Error {
	how := dialect.Body{Service: api.service, Notes: api.notes(r.Context()), Check: check}
	if table.Has("model") {
		if name := r.PathValue(wire.DeploymentValue); name != "" {
			how.Notes.Defaults = map[string]json.RawMessage{"model": wire.AppendString(nil, name)}
		}
		how.Model = dialect.NamedModel(how.Notes)
		if t, ok := any(into).(interface {
			answeredBy(context.Context, *API, string) string
		}); ok {
			named := how.Model
			how.Model = func(body []byte) string { return t.answeredBy(r.Context(), api, named(body)) }
		}
	}

	if e := dialect.Decode(r, how, table, into); e != nil {
		return e
	}
	if t, ok := any(into).(interface{ yield() }); ok && service.CallOf(r.Context()).Yields {
		t.yield()
	}
	wire.AddList(w.Header(), dialect.IgnoredHeader, how.Notes.Ignored())
	return nil
}

// Package openai implements OpenAI's API, and endpoints that llama.cpp, vLLM and Jina have added to it.
package openai

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"serve/archive"
	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
)

// Options configure an API.
type Options struct {
	Service *service.Service
	Stream  dialect.Stream
	Archive *archive.Archive // stores responses between requests; nil stores none
	// Moderator is the name of the Llama Guard model behind moderations; empty for none.
	Moderator string
	Log       *slog.Logger
}

var _ dialect.Dialect = (*API)(nil)

// API implements dialect.Dialect.
type API struct {
	opts       Options
	service    *service.Service
	background background
}

// New returns the dialect. The caller must close it.
func New(o Options) (*API, error) {
	if o.Moderator != "" {
		if _, e := o.Service.Named(o.Moderator); e != nil {
			return nil, fmt.Errorf("the model named for moderation, %q, is not among those served", o.Moderator)
		}
	}
	return &API{opts: o, service: o.Service}, nil
}

// Close cancels background responses and waits for their end.
func (api *API) Close() { api.background.stop() }

// Wait returns when no background response is running, or when ctx is done.
func (api *API) Wait(ctx context.Context) { api.background.wait(ctx) }

// Routes implements dialect.Dialect.
func (api *API) Routes() []dialect.Route {
	get := func(path string, h dialect.Handler) dialect.Route {
		return dialect.Route{Method: http.MethodGet, Path: path, Handle: h}
	}

	work := func(path, operation string, h dialect.Handler) dialect.Route {
		return dialect.Route{
			Method:    http.MethodPost,
			Path:      path,
			Handle:    h,
			Work:      true,
			Operation: operation,
		}
	}

	return []dialect.Route{
		get("/models", api.listModels),
		get("/models/*id", api.showModel), // a name may have slashes, escaped or not

		work("/chat/completions", "chat", api.chat),
		work("/completions", "text_completion", api.completions),
		work("/embeddings", "embeddings", api.embeddings),
		work("/moderations", "moderation", api.moderations),
		work("/rerank", "rerank", api.rerank),
		work("/tokenize", "", api.tokenize),
		work("/detokenize", "", api.detokenize),

		work("/responses", "chat", api.responses),
		work("/responses/input_tokens", "", api.countInput),
		get("/responses/:id", api.showResponse),
		get("/responses/:id/input_items", api.listInput),
		{Method: http.MethodDelete, Path: "/responses/:id", Handle: api.deleteResponse},
		{Method: http.MethodPost, Path: "/responses/:id/cancel", Handle: api.cancelResponse},
	}
}

// Speaks implements dialect.Dialect: whatever no other API knows as its own is OpenAI's.
func (api *API) Speaks(*http.Request) bool { return true }

// processing is the header with the milliseconds until the response began.
const processing = "Openai-Processing-Ms"

// Head implements dialect.Dialect.
func (api *API) Head(h http.Header, took time.Duration) {
	h.Set("Openai-Version", "2020-10-01")
	h.Set(processing, wire.Milliseconds(took))
}

// Exposes implements dialect.Dialect.
func (api *API) Exposes() []string { return []string{strings.ToLower(processing)} }

// decode reads a request body into T by a table of fields.
func decode[T any](r *http.Request, into *T, table wire.Fields[T], required ...string) *fault.Error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return service.Fault(err, "")
	}
	return wire.Decode(body, into, table, required...)
}

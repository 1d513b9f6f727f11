// Package ollama implements Ollama's own API, /api/*, as its clients use it. What it does otherwise than
// Ollama, and why, is in docs/ollama.md.
package ollama

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"serve/fault"
	"serve/pool"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
	"serve/steps"
)

// Greeting is what Ollama answers programs at /, by which they recognize it.
const Greeting = "Ollama is running"

// apiVersion is the version of Ollama whose API this is. Clients compare it with what they need: it has
// digits and dots only.
const apiVersion = "0.17.4"

// The content types.
const (
	jsonType   = "application/json; charset=utf-8"
	streamType = "application/x-ndjson"
)

// Options configure an API.
type Options struct {
	Service *service.Service
	Pool    *pool.Pool
	Stream  dialect.StreamFunc
}

var _ dialect.Dialect = (*API)(nil)

// API implements dialect.Dialect.
type API struct {
	service *service.Service
	pool    *pool.Pool
	stream  dialect.StreamFunc
}

// New returns the dialect.
func New(o Options) *API { return &API{service: o.Service, pool: o.Pool, stream: o.Stream} }

// Routes implements dialect.Dialect.
func (api *API) Routes() []dialect.Route {
	routes := slices.Concat(api.modelRoutes(), api.workRoutes(), api.manageRoutes())
	for i := range routes {
		routes[i].Unversioned = true
	}
	return routes
}

func (api *API) modelRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method: http.MethodGet,
			Path:   "/api/version",
			Handle: api.version,
			Right:  dialect.RightList,
			Doc:    "Returns the version of Ollama whose API is implemented.",
		},

		{
			Method: http.MethodGet,
			Path:   "/api/tags",
			Handle: api.tags,
			Right:  dialect.RightList,
			Doc:    "Lists the models that the client may use.",
		},
		{
			Method: http.MethodGet,
			Path:   "/api/ps",
			Handle: api.ps,
			Right:  dialect.RightList,
			Doc:    "Lists the models in memory.",
		},
		{
			Method: http.MethodPost,
			Path:   "/api/show",
			Handle: api.show,
			Work:   true,
			Right:  dialect.RightList,
			Doc:    "Describes a model.",
			Fields: showTable.Describe(),
		},
	}
}

func (api *API) workRoutes() []dialect.Route {
	work := func(path, operation string, h dialect.Handler, doc string, t table) dialect.Route {
		return dialect.Route{
			Method:    http.MethodPost,
			Path:      path,
			Handle:    h,
			Right:     dialect.RightUse,
			Work:      true,
			Operation: operation,
			Doc:       doc,
			Fields:    t.Describe(),
		}
	}

	routes := []dialect.Route{
		work("/api/chat", "chat", api.chat, "Answers a conversation, or loads or unloads a model.", chatTable),
		work("/api/generate", "text_completion", api.generate,
			"Answers a prompt, or loads or unloads a model.", generateTable),
		work("/api/embed", "embeddings", api.embed, "Embeds texts.", embedTable),
		work("/api/embeddings", "embeddings", api.embeddings, "Embeds a text.", embeddingsTable),
	}
	routes[0].Pictures = true
	routes[1].Pictures = true
	routes[0].Produces = []string{"application/json", streamType}
	routes[1].Produces = routes[0].Produces
	return routes
}

func (api *API) manageRoutes() []dialect.Route {
	manage := func(method, path string, h dialect.Handler, doc string, t table) dialect.Route {
		return dialect.Route{
			Method: method,
			Path:   path,
			Handle: h,
			Work:   true,
			Right:  dialect.RightManage,
			Doc:    doc,
			Fields: t.Describe(),
		}
	}

	pull := manage(http.MethodPost, "/api/pull", api.pull, "Downloads a model.", pullTable)
	pull.Produces = []string{"application/json", streamType}
	blobs := notImplemented("blobs", "Blobs are not needed: models cannot be created.")
	create := notImplemented("create", "Models are served as they are.")
	push := notImplemented("push", "No data leaves this machine.")
	const not = "Not implemented."
	return []dialect.Route{
		pull,
		manage(http.MethodPost, "/api/copy", api.copy, "Gives a model another name.", copyTable),
		manage(http.MethodDelete, "/api/delete", api.remove, "Deletes a model, or an additional name of one.", removeTable),
		manage(http.MethodPost, "/api/create", create, not, nil),
		manage(http.MethodPost, "/api/push", push, not, nil),
		manage(http.MethodGet, "/api/blobs/:digest", blobs, not, nil),
		manage(http.MethodPost, "/api/blobs/:digest", blobs, not, nil),
	}
}

// Speaks implements dialect.Dialect.
func (api *API) Speaks(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/") }

// Head implements dialect.Dialect. The API has no headers of its own.
func (api *API) Head(http.Header, time.Duration) {}

// Lenient implements dialect.Dialect: Ollama takes what it does not know.
func (api *API) Lenient() bool { return true }

// Limits implements dialect.Dialect: Ollama has none.
func (api *API) Limits(http.Header, []dialect.Window) {}

// Exposes implements dialect.Dialect.
func (api *API) Exposes() []string {
	return []string{
		strings.ToLower(dialect.IgnoredHeader),
		strings.ToLower(truncatedHeader),
		strings.ToLower(truncatedInputsHeader),
	}
}

// notImplemented returns the handler of an endpoint that is Ollama's and not ours.
func notImplemented(name, why string) dialect.Handler {
	return func(http.ResponseWriter, *http.Request) *fault.Error {
		return fault.New(fault.NotImplemented, "", "%s is not implemented by serve. %s", name, why)
	}
}

// asked returns the model that a body has something to do for, rather than to be loaded or unloaded.
func asked(body []byte) string {
	if wire.Member(body, "prompt") == "" && !wire.Has(body, "messages") && !wire.Has(body, "input") {
		return ""
	}
	return wire.Member(body, "model")
}

// read is decode for requests that a model answers, which is asked first whether it has a place.
func (api *API) read(w http.ResponseWriter, r *http.Request, t table) (*request, *fault.Error) {
	return api.decode(w, r, t, asked)
}

// decode reads a request by the endpoint's table of fields, and names in a header those that are ignored.
// The media type of the body does not matter: curl's is that of a form.
func (api *API) decode(
	w http.ResponseWriter, r *http.Request, t table, model func([]byte) string,
) (*request, *fault.Error) {
	req := newRequest()
	req.notes.Budget = steps.New(r.Context(), steps.PerRequest)
	name := ""
	how := dialect.Body{Service: api.service, Notes: &req.notes, Empty: "missing request body"}
	if model != nil {
		how.Model = func(body []byte) string {
			name = model(body)
			return name
		}
	}
	if e := dialect.Decode(r, how, t, req); e != nil {
		if e.Kind == fault.ModelNotFound {
			return nil, notFound(e, name)
		}
		return nil, e
	}

	if req.keepAlive != nil && !service.CallOf(r.Context()).Manages {
		req.notes.Ignore("keep_alive")
	}
	req.setHeader(w.Header())
	return req, nil
}

// keep has a model stay in memory as long as a request says. How long that is concerns everybody, so only those who
// manage models have a say in it.
func (api *API) keep(ctx context.Context, m *pool.Model, req *request) {
	if req.keepAlive != nil && service.CallOf(ctx).Manages {
		api.pool.Keep(m, *req.keepAlive)
	}
}

// write writes an object that is not streamed.
func write(w http.ResponseWriter, body []byte) *fault.Error {
	h := w.Header()
	h.Set("Content-Type", jsonType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	w.Write(body)
	return nil
}

// appendTime appends a time as a JSON string, in UTC.
func appendTime(b []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

package ollama

import (
	"net/http"
	"strings"

	"serve/fault"
	"serve/server/wire"
	"serve/service"
)

// isName reports whether a name can be one of a model.
func isName(name string) bool {
	if name == "" || len(name) > maxName || strings.HasPrefix(name, "/") || strings.HasPrefix(name, ".") ||
		strings.Contains(name, "..") {
		return false
	}
	for _, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("._:/@-", c) {
			return false
		}
	}
	return true
}

var copyTable = table{
	{
		Name: "source",
		Type: wire.StringOf(func(r *request) *string { return &r.source }),
		Doc:  "Name of the model.",
	},
	{
		Name: "destination",
		Type: wire.StringOf(func(r *request) *string { return &r.destination }),
		Doc:  "Another name for the model, until the server stops.",
	},
}

// copy answers POST /api/copy: the model gets another name.
func (api *API) copy(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.decode(w, r, copyTable, nil)
	if e != nil {
		return e
	}
	if !isName(req.source) {
		return fault.New(fault.InvalidValue, "source", "source %q is invalid", req.source)
	}
	if !isName(req.destination) {
		return fault.New(fault.InvalidValue, "destination", "destination %q is invalid", req.destination)
	}

	m, e := api.service.Find(r.Context(), req.source)
	if e != nil {
		if e.Kind == fault.ModelNotFound {
			e = fault.New(fault.ModelNotFound, "source", "model %q not found", req.source)
		}
		return e
	}

	if e := api.service.Name(r.Context(), m, req.destination); e != nil {
		return e
	}

	w.WriteHeader(http.StatusOK)
	return nil
}

var removeTable = modelFields

// remove answers DELETE /api/delete.
func (api *API) remove(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.decode(w, r, removeTable, nil)
	if e != nil {
		return e
	}
	if !isName(req.model) {
		return fault.New(fault.InvalidValue, "model", "name %q is invalid", req.model)
	}
	if e := api.service.Remove(r.Context(), req.model); e != nil {
		return notFound(e, req.model)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

var pullTable = join(modelFields, streamFields, table{
	{Name: "insecure", Type: named("false"), Doc: "Reported in `X-Ignored-Fields`: certificates are always checked."},
	{Name: "username", Type: unseen(), Doc: "For Ollama's registry."},
	{Name: "password", Type: unseen(), Doc: "For Ollama's registry."},
})

// pull answers POST /api/pull.
func (api *API) pull(w http.ResponseWriter, r *http.Request) *fault.Error {
	req, e := api.decode(w, r, pullTable, nil)
	if e != nil {
		return e
	}
	if !isName(req.model) {
		return fault.New(fault.InvalidValue, "model", "invalid model name")
	}
	if !req.stream {
		if e := api.service.Pull(r.Context(), req.model, func(service.PullProgress) {}); e != nil {
			return e
		}
		return write(w, appendStatus(nil, "success"))
	}

	lines := newLines(w, r)
	defer lines.close()
	lines.status("pulling manifest")
	e = api.service.Pull(lines.ctx, req.model, lines.progress)
	if e != nil {
		if e.Kind == fault.ModelNotFound {
			e.Message = "pull model manifest: file does not exist: " + e.Message
		}
		lines.write(appendError(nil, e))
		return nil
	}
	for _, status := range []string{"verifying sha256 digest", "writing manifest", "success"} {
		lines.status(status)
	}
	return nil
}

func appendStatus(b []byte, status string) []byte {
	return append(wire.AppendString(append(b, `{"status":`...), status), '}')
}

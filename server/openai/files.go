package openai

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"serve/archive"
	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
)

// Purposes of files that matter here; the others are only stored.
const (
	purposeBatch       = "batch"
	purposeBatchOutput = "batch_output"
)

// purposes are those of files that clients may store.
var purposes = []string{"assistants", purposeBatch, "fine-tune", "vision", "user_data", "evals"}

// batchFileTime is how long the files of batches are kept unless the client says otherwise.
const batchFileTime = 30 * 24 * time.Hour

// maxFileNameBytes limits the name of a file.
const maxFileNameBytes = 1024

// maxFormOverhead limits what the body of an upload has besides the file, in bytes.
const maxFormOverhead = 1 << 20

func (api *API) fileRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method:   http.MethodPost,
			Path:     "/files",
			Handle:   api.createFile,
			Right:    dialect.RightUse,
			Work:     true,
			MaxBody:  api.opts.MaxFile + maxFormOverhead,
			Doc:      "Stores a file.",
			Fields:   fileFields.Describe(),
			Consumes: "multipart/form-data",
		},

		{
			Method: http.MethodGet,
			Path:   "/files",
			Handle: api.listFiles,
			Right:  dialect.RightUse,
			Doc:    "Lists the stored files.",
			Query:  fileQuery.Describe(),
		},
		{
			Method: http.MethodGet,
			Path:   "/files/:id",
			Handle: api.showFile,
			Right:  dialect.RightUse,
			Doc:    "Describes a stored file.",
		},
		{
			Method:   http.MethodGet,
			Path:     "/files/:id/content",
			Handle:   api.fileContent,
			Right:    dialect.RightUse,
			Doc:      "Returns the content of a stored file.",
			Produces: []string{"application/octet-stream"},
		},

		{
			Method: http.MethodDelete,
			Path:   "/files/:id",
			Handle: api.deleteFile,
			Right:  dialect.RightUse,
			Doc:    "Deletes a stored file.",
		},
	}
}

// fileRequest is the form of POST /v1/files, without the content.
type fileRequest struct {
	name    string
	purpose string
	expires time.Duration // after which the file is deleted; 0 for the default of its purpose
}

var fileFields = wire.Table[fileRequest]{
	{
		Name:     "file",
		Required: true,
		Type: wire.Of(wire.Schema{"type": "string", "format": "binary"}, wire.Value.Text,
			func(r *fileRequest) *string { return &r.name }),
		Doc: "The file, with its name. It is stored as is.",
	},
	{
		Name:     "purpose",
		Required: true,
		Type:     wire.OneOf(func(r *fileRequest, s string) { r.purpose = s }, purposes...),
		Doc:      "What the file is for: `batch` is for batches; the other purposes have no effect.",
	},
	expiryField("expires_after", func(r *fileRequest) *time.Duration { return &r.expires },
		"When the file is deleted: `seconds` after `created_at`. Files of batches are kept for 30 days, others forever."),
}

// Bounds of how long a file is kept, in seconds.
const (
	minExpiry = 3600
	maxExpiry = 2592000
)

// expiryField declares how long a file is kept.
func expiryField[T any](name string, variable func(*T) *time.Duration, doc string) wire.Field[T] {
	return wire.Field[T]{
		Name: name,
		Type: wire.Of(expirySchema, readExpiry, variable),
		Doc:  doc,
	}
}

var expirySchema = wire.Closed(map[string]wire.Schema{
	"anchor":  wire.Enum("created_at"),
	"seconds": wire.Integer(minExpiry, maxExpiry),
}, "anchor", "seconds").Examples(`{"anchor":"created_at","seconds":3600}`)

func readExpiry(v wire.Value) (time.Duration, *fault.Error) {
	object, e := v.Object()
	if e != nil {
		return 0, e
	}
	if e := wire.Only(object, "anchor", "seconds"); e != nil {
		return 0, e
	}

	anchor, e := v.Required(object, "anchor")
	if e != nil {
		return 0, e
	}
	if _, e := anchor.OneOf("created_at"); e != nil {
		return 0, e
	}
	seconds, e := v.Required(object, "seconds")
	if e != nil {
		return 0, e
	}
	n, e := seconds.Integer(minExpiry, maxExpiry)
	return time.Duration(n) * time.Second, e
}

// fileBody describes a file to clients.
type fileBody struct {
	ID        string `json:"id"`
	Object    string `json:"object"`
	Bytes     int64  `json:"bytes"`
	CreatedAt int64  `json:"created_at"`
	ExpiresAt *int64 `json:"expires_at,omitempty"`
	Filename  string `json:"filename"`
	Purpose   string `json:"purpose"`
	Status    string `json:"status"`
}

func newFileBody(f *archive.File) fileBody {
	return fileBody{
		ID:        f.ID,
		Object:    "file",
		Bytes:     f.Bytes,
		CreatedAt: f.Created.Unix(),
		ExpiresAt: unixOrNull(f.Expires),
		Filename:  f.Name,
		Purpose:   f.Purpose,
		Status:    "processed",
	}
}

// unixOrNull returns a time in seconds, or nil if it is zero.
func unixOrNull(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	seconds := t.Unix()
	return &seconds
}

// files returns the store of files, or why there is none.
func (api *API) files() (*archive.Files, *fault.Error) {
	if api.opts.Files == nil {
		return nil, fault.New(fault.NotImplemented, "",
			"Files and batches are only stored on disk: start serve with --data-dir and the name of a folder.")
	}
	return api.opts.Files, nil
}

// fileFailed returns the fault for an error of the store of files.
func (api *API) fileFailed(err error, id string) *fault.Error {
	var known *fault.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, archive.ErrNotFound):
		return fault.New(fault.NotFound, "", "No such File object: %s.", id)
	case errors.Is(err, archive.ErrInUse):
		return fault.New(fault.InvalidValue, "",
			"The file '%s' is in use by an unfinished batch; cancel the batch, or wait for it to finish.", id)
	case errors.Is(err, archive.ErrFull):
		api.opts.Log.Warn("a file is not stored", "error", err)
		return fault.New(fault.StorageFull, "", "The file cannot be stored: %v. Delete files that are not needed.", err)
	}
	return storageFailed(err)
}

// maxListed is the most files that a list has.
const maxListed = 10_000

// listFiles answers GET /v1/files.
func (api *API) listFiles(w http.ResponseWriter, r *http.Request) *fault.Error {
	files, e := api.files()
	if e != nil {
		return e
	}
	page, e := fileQuery.read(r)
	if e != nil {
		return e
	}

	list, err := files.List(r.Context(), archive.FileList{
		Tenant:  ownerOf(r.Context()).Tenant,
		Purpose: page.purpose,
		After:   page.after,
		Oldest:  page.oldest,
		Limit:   page.limit + 1,
	})
	if errors.Is(err, archive.ErrNotFound) {
		return fault.New(fault.InvalidValue, "after", "Invalid 'after': there is no file '%s'.", page.after)
	}
	if err != nil {
		return storageFailed(err)
	}
	bodies := make([]fileBody, len(list))
	for i, f := range list {
		bodies[i] = newFileBody(f)
	}
	return wire.WriteJSON(w, newPage(bodies, page.limit, func(f *fileBody) string { return f.ID }))
}

// showFile answers GET /v1/files/{id}.
func (api *API) showFile(w http.ResponseWriter, r *http.Request) *fault.Error {
	files, e := api.files()
	if e != nil {
		return e
	}
	id := r.PathValue("id")
	f, err := files.Get(r.Context(), keyOf(r.Context(), id))
	if err != nil {
		return api.fileFailed(err, id)
	}
	return wire.WriteJSON(w, newFileBody(f))
}

// fileContent answers GET /v1/files/{id}/content. A browser does not take it for a page.
func (api *API) fileContent(w http.ResponseWriter, r *http.Request) *fault.Error {
	files, e := api.files()
	if e != nil {
		return e
	}
	id := r.PathValue("id")
	f, content, err := files.Open(r.Context(), keyOf(r.Context(), id))
	if err != nil {
		return api.fileFailed(err, id)
	}
	defer content.Close()

	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(f.Bytes, 10))
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.Name}))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(newPatient(w), asked{r.Context(), content}) // a client that is gone has nobody to tell
	}
	return nil
}

// asked reads as long as somebody may have what it reads: not when a key has been revoked.
type asked struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (a asked) Read(p []byte) (int, error) {
	if a.ctx.Err() != nil {
		return 0, context.Cause(a.ctx)
	}
	return a.r.Read(p)
}

// contentStall is how long a client of a content may take nothing before it is considered gone.
const contentStall = 2 * time.Minute

// patient is a writer to a client that may be slow, but not stop.
type patient struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
}

func newPatient(w http.ResponseWriter) patient { return patient{w, http.NewResponseController(w)} }

// Write implements io.Writer.
func (p patient) Write(b []byte) (int, error) {
	// Not every ResponseWriter supports deadlines. The connection may be reused for other responses.
	_ = p.ctrl.SetWriteDeadline(time.Now().Add(contentStall))
	defer func() { _ = p.ctrl.SetWriteDeadline(time.Time{}) }()
	return p.w.Write(b)
}

// deleteFile answers DELETE /v1/files/{id}.
func (api *API) deleteFile(w http.ResponseWriter, r *http.Request) *fault.Error {
	files, e := api.files()
	if e != nil {
		return e
	}
	id := r.PathValue("id")
	if err := files.Delete(r.Context(), keyOf(r.Context(), id)); err != nil {
		return api.fileFailed(err, id)
	}
	return wire.WriteJSON(w, map[string]any{"id": id, "object": "file", "deleted": true})
}

// namedFiles returns how the files that a request names are read. All of them together have the size of
// one request at most.
func (api *API) namedFiles(ctx context.Context) func(id string) (string, []byte, *fault.Error) {
	left := api.opts.MaxBody
	return func(id string) (string, []byte, *fault.Error) {
		f, content, err := api.opts.Files.Open(ctx, keyOf(ctx, id))
		if err != nil {
			return "", nil, api.fileFailed(err, id)
		}
		defer content.Close()
		if f.Bytes > left {
			return "", nil, fault.New(fault.ContextExceeded, "",
				"The files in the request are too large together (maximum %d bytes).", api.opts.MaxBody)
		}
		left -= f.Bytes

		text, err := io.ReadAll(io.LimitReader(content, f.Bytes))
		if err != nil {
			return "", nil, storageFailed(err)
		}
		return f.Name, text, nil
	}
}

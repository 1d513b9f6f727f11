package openai

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"serve/archive"
	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
)

// batchWindow is the time that a batch has, as clients must say it.
const batchWindow = "24h"

// batchTime is the same as a duration.
const batchTime = 24 * time.Hour

// Limits on the batches that have not ended.
const (
	maxOpenBatches = 100 // of a tenant
	maxAllBatches  = 1000
)

// The states of a batch.
const (
	batchValidating = "validating"
	batchFailed     = "failed"
	batchInProgress = "in_progress"
	batchFinalizing = "finalizing"
	batchCompleted  = "completed"
	batchExpired    = "expired"
	batchCancelling = "cancelling"
	batchCancelled  = "cancelled"
)

// batchEndpoints are the endpoints that the requests of a batch may be for.
var batchEndpoints = []string{
	"/v1/chat/completions",
	"/v1/completions",
	"/v1/embeddings",
	"/v1/moderations",
	"/v1/responses",
}

func (api *API) batchRoutes() []dialect.Route {
	return []dialect.Route{
		{
			Method: http.MethodPost,
			Path:   "/batches",
			Handle: api.createBatch,
			Right:  dialect.RightUse,
			Work:   true,
			Doc:    "Creates a batch: requests in a file, which are processed when nobody else needs the model.",
			Fields: batchFields.Describe(),
		},

		{
			Method: http.MethodGet,
			Path:   "/batches",
			Handle: api.listBatches,
			Right:  dialect.RightUse,
			Doc:    "Lists the batches.",
			Query:  batchQuery.Describe(),
		},
		{
			Method: http.MethodGet,
			Path:   "/batches/:id",
			Handle: api.showBatch,
			Right:  dialect.RightUse,
			Doc:    "Returns a batch.",
		},
		{
			Method: http.MethodPost,
			Path:   "/batches/:id/cancel",
			Handle: api.cancelBatch,
			Right:  dialect.RightUse,
			Doc:    "Cancels a batch; its results so far are kept.",
		},
	}
}

// batchRequest is the body of POST /v1/batches.
type batchRequest struct {
	input    string
	endpoint string
	window   string
	metadata json.RawMessage
	kept     time.Duration // how long the files of the results are kept; 0 for the default
}

var batchFields = wire.Table[batchRequest]{
	{
		Name:     "input_file_id",
		Required: true,
		Type:     wire.StringOf(func(r *batchRequest) *string { return &r.input }),
		Doc:      "ID of a file with the purpose `batch`, which has a request on each line.",
	},
	{
		Name:     "endpoint",
		Required: true,
		Type:     wire.OneOf(func(r *batchRequest, s string) { r.endpoint = s }, batchEndpoints...),
		Doc:      "Endpoint that all requests are for.",
	},
	{
		Name:     "completion_window",
		Required: true,
		Type:     wire.OneOf(func(r *batchRequest, s string) { r.window = s }, batchWindow),
		Doc:      "Time after which a batch that is not done expires.",
	},
	{
		Name: "metadata",
		Type: wire.Of(metadataSchema, readMetadata, func(r *batchRequest) *json.RawMessage { return &r.metadata }),
		Doc:  "Metadata, returned with the batch.",
	},
	expiryField("output_expires_after", func(r *batchRequest) *time.Duration { return &r.kept },
		"When the files with the results are deleted: `seconds` after their `created_at`, by default 30 days."),
}

// batchBody is a batch as clients see it.
type batchBody struct {
	ID               string          `json:"id"`
	Object           string          `json:"object"`
	Endpoint         string          `json:"endpoint"`
	Model            string          `json:"model,omitempty"`
	Errors           *batchErrors    `json:"errors"`
	InputFileID      string          `json:"input_file_id"`
	CompletionWindow string          `json:"completion_window"`
	Status           string          `json:"status"`
	OutputFileID     *string         `json:"output_file_id"`
	ErrorFileID      *string         `json:"error_file_id"`
	CreatedAt        int64           `json:"created_at"`
	InProgressAt     *int64          `json:"in_progress_at"`
	ExpiresAt        int64           `json:"expires_at"`
	FinalizingAt     *int64          `json:"finalizing_at"`
	CompletedAt      *int64          `json:"completed_at"`
	FailedAt         *int64          `json:"failed_at"`
	ExpiredAt        *int64          `json:"expired_at"`
	CancellingAt     *int64          `json:"cancelling_at"`
	CancelledAt      *int64          `json:"cancelled_at"`
	RequestCounts    batchCounts     `json:"request_counts"`
	Usage            batchUsage      `json:"usage"`
	Metadata         json.RawMessage `json:"metadata"`
}

// batchErrors is why a batch has failed.
type batchErrors struct {
	Object string        `json:"object"`
	Data   []*batchError `json:"data"`
}

// batchCounts are the numbers of a batch's requests.
type batchCounts struct {
	Total     int `json:"total"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
}

// set changes the status, and notes the time.
func (b *batchBody) set(status string) {
	b.Status = status
	now := time.Now().Unix()
	at := map[string]**int64{
		batchInProgress: &b.InProgressAt,
		batchFinalizing: &b.FinalizingAt,
		batchCompleted:  &b.CompletedAt,
		batchFailed:     &b.FailedAt,
		batchExpired:    &b.ExpiredAt,
		batchCancelling: &b.CancellingAt,
		batchCancelled:  &b.CancelledAt,
	}
	if field := at[status]; field != nil {
		*field = &now
	}
}

// batchState is a batch as it is stored.
type batchState struct {
	Body batchBody     `json:"batch"`
	Kept time.Duration `json:"kept"` // how long the files of the results are kept
}

// stateOf returns the state of a stored batch.
func stateOf(b *archive.Batch) (s batchState, err error) {
	err = json.Unmarshal(b.Body, &s)
	return s, err
}

// createBatch answers POST /v1/batches.
func (api *API) createBatch(w http.ResponseWriter, r *http.Request) *fault.Error {
	files, e := api.files()
	if e != nil {
		return e
	}
	var req batchRequest
	if e := decode(api, w, r, &req, batchFields, nil); e != nil {
		return e
	}

	input, err := files.Get(r.Context(), keyOf(r.Context(), req.input))
	if err != nil {
		e := api.fileFailed(err, req.input)
		e.Field = "input_file_id"
		return e
	}
	if input.Purpose != purposeBatch {
		return fault.New(fault.InvalidValue, "input_file_id",
			"Invalid 'input_file_id': the file's purpose is '%s', but must be '%s'.", input.Purpose, purposeBatch)
	}

	body, e := api.batches.begin(r.Context(), newBatchState(&req))
	if e != nil {
		return e
	}
	return wire.WriteJSON(w, body)
}

func newBatchState(req *batchRequest) batchState {
	now := time.Now()
	s := batchState{
		Body: batchBody{
			ID:               "batch_" + wire.RandomID(),
			Object:           "batch",
			Endpoint:         req.endpoint,
			InputFileID:      req.input,
			CompletionWindow: req.window,
			Status:           batchValidating,
			CreatedAt:        now.Unix(),
			ExpiresAt:        now.Add(batchTime).Unix(),
			Metadata:         req.metadata,
		},
		Kept: req.kept,
	}
	if s.Kept == 0 {
		s.Kept = batchFileTime
	}
	return s
}

// batchNotFound returns the fault for an error of reading a batch.
func batchNotFound(err error, id string) *fault.Error {
	if errors.Is(err, archive.ErrNotFound) {
		return fault.New(fault.NotFound, "", "No batch found with id '%s'.", id)
	}
	return storageFailed(err)
}

// batch returns the batch with the id in the path, and its job if it has not ended.
func (api *API) batch(r *http.Request) (batchBody, *job, *fault.Error) {
	files, e := api.files()
	if e != nil {
		return batchBody{}, nil, e
	}
	key := keyOf(r.Context(), r.PathValue("id"))
	if j := api.batches.find(key); j != nil {
		return j.body(), j, nil
	}

	b, err := files.Batch(r.Context(), key)
	if err != nil {
		return batchBody{}, nil, batchNotFound(err, key.ID)
	}
	state, err := stateOf(b)
	if err != nil {
		return batchBody{}, nil, storageFailed(err)
	}
	return state.Body, nil, nil
}

// showBatch answers GET /v1/batches/{id}.
func (api *API) showBatch(w http.ResponseWriter, r *http.Request) *fault.Error {
	body, _, e := api.batch(r)
	if e != nil {
		return e
	}
	return wire.WriteJSON(w, body)
}

// listBatches answers GET /v1/batches.
func (api *API) listBatches(w http.ResponseWriter, r *http.Request) *fault.Error {
	files, e := api.files()
	if e != nil {
		return e
	}
	page, e := batchQuery.read(r)
	if e != nil {
		return e
	}

	list, err := files.Batches(r.Context(), keyOf(r.Context(), page.after), page.limit+1)
	if errors.Is(err, archive.ErrNotFound) {
		return fault.New(fault.InvalidValue, "after", "Invalid 'after': there is no batch '%s'.", page.after)
	}
	if err != nil {
		return storageFailed(err)
	}

	bodies := make([]batchBody, len(list))
	for i, b := range list {
		if j := api.batches.find(keyOf(r.Context(), b.ID)); j != nil {
			bodies[i] = j.body()
			continue
		}
		state, err := stateOf(b)
		if err != nil {
			return storageFailed(err)
		}
		bodies[i] = state.Body
	}
	return wire.WriteJSON(w, newPage(bodies, page.limit, func(b *batchBody) string { return b.ID }))
}

// cancelBatch answers POST /v1/batches/{id}/cancel.
func (api *API) cancelBatch(w http.ResponseWriter, r *http.Request) *fault.Error {
	body, j, e := api.batch(r)
	if e != nil {
		return e
	}
	if j != nil {
		if body, e = j.stop(r.Context()); e != nil {
			return e
		}
	}
	if !slices.Contains([]string{batchCancelling, batchCancelled}, body.Status) {
		return fault.New(fault.InvalidValue, "", "Cannot cancel a batch with status '%s'.",
			strings.ReplaceAll(body.Status, "_", " "))
	}
	return wire.WriteJSON(w, body)
}

package ollama

import (
	"net/http"
	"strconv"

	"serve/fault"
	"serve/server/wire"
)

// statuses is the only table from kinds of faults to statuses. Ollama's errors are a text and have
// neither type nor code.
var statuses = map[fault.Kind]int{
	fault.Internal: http.StatusInternalServerError,

	fault.Malformed:       http.StatusBadRequest,
	fault.MissingField:    http.StatusBadRequest,
	fault.UnknownField:    http.StatusBadRequest,
	fault.WrongType:       http.StatusBadRequest,
	fault.InvalidValue:    http.StatusBadRequest,
	fault.IntegerTooSmall: http.StatusBadRequest,
	fault.IntegerTooLarge: http.StatusBadRequest,
	fault.DecimalTooSmall: http.StatusBadRequest,
	fault.DecimalTooLarge: http.StatusBadRequest,
	fault.ArrayEmpty:      http.StatusBadRequest,
	fault.ArrayTooLong:    http.StatusBadRequest,
	fault.StringTooLong:   http.StatusBadRequest,
	fault.Unsupported:     http.StatusBadRequest,
	fault.InvalidSchema:   http.StatusBadRequest,

	fault.ImageURL:         http.StatusBadRequest,
	fault.ImageBase64:      http.StatusBadRequest,
	fault.ImageEmpty:       http.StatusBadRequest,
	fault.ImageFormat:      http.StatusBadRequest,
	fault.ImageTooLarge:    http.StatusBadRequest,
	fault.ImageFileTooBig:  http.StatusBadRequest,
	fault.ImageUnreachable: http.StatusBadRequest,

	fault.ModelNotFound:      http.StatusNotFound,
	fault.UnsupportedModel:   http.StatusBadRequest,
	fault.InsufficientMemory: http.StatusInternalServerError, // as Ollama says it
	fault.ContextExceeded:    http.StatusBadRequest,
	fault.NotFound:           http.StatusNotFound,
	fault.PreviousNotFound:   http.StatusNotFound,
	fault.ConversationLocked: http.StatusConflict,

	fault.UnknownEncoding:  http.StatusUnsupportedMediaType,
	fault.BodyTooLarge:     http.StatusRequestEntityTooLarge,
	fault.TooExpensive:     http.StatusBadRequest,
	fault.BodyTooSlow:      http.StatusRequestTimeout,
	fault.UnknownPath:      http.StatusNotFound,
	fault.MethodNotAllowed: http.StatusMethodNotAllowed,
	fault.NotImplemented:   http.StatusNotImplemented,
	fault.Forbidden:        http.StatusForbidden,
	fault.Unauthenticated:  http.StatusUnauthorized,
	fault.MissingScope:     http.StatusForbidden,
	fault.UnknownHost:      http.StatusForbidden,
	fault.OriginNotAllowed: http.StatusForbidden,

	fault.LimitReached: http.StatusTooManyRequests,

	// A full queue is 503 here, and 429 in OpenAI's API.
	fault.RateLimited: http.StatusServiceUnavailable,
	fault.QueueFull:   http.StatusServiceUnavailable,
	fault.QueueWait:   http.StatusServiceUnavailable,
	fault.Overloaded:  http.StatusServiceUnavailable,
	fault.Stopping:    http.StatusServiceUnavailable,
	fault.Loading:     http.StatusServiceUnavailable,
	fault.DeviceLost:  http.StatusServiceUnavailable,

	fault.Crashed:         http.StatusInternalServerError,
	fault.LoadFailed:      http.StatusInternalServerError,
	fault.SchemaViolation: http.StatusInternalServerError,
	fault.Unrecorded:      http.StatusServiceUnavailable,
	fault.Storage:         http.StatusInternalServerError,
	fault.StorageFull:     http.StatusInsufficientStorage,
	fault.Download:        http.StatusBadGateway,
	fault.Deadline:        http.StatusGatewayTimeout,
	fault.Canceled:        499, // nobody reads this
}

// busy is what Ollama says of a full queue, which clients look for.
const busy = "server busy, please try again.  maximum pending requests exceeded"

// text returns the text of an error.
func text(e *fault.Error) string {
	if e.Kind == fault.RateLimited || e.Kind == fault.QueueFull {
		return busy + ": " + e.Message
	}
	return e.Message
}

// appendError appends the object of an error.
func appendError(b []byte, e *fault.Error) []byte {
	return append(wire.AppendString(append(b, `{"error":`...), text(e)), '}')
}

// Code implements dialect.Dialect. Ollama's API has no codes.
func (api *API) Code(*fault.Error) string { return "" }

// Fail implements dialect.Dialect.
func (api *API) Fail(w http.ResponseWriter, e *fault.Error) {
	body := appendError(nil, e)
	h := w.Header()
	h.Set("Content-Type", jsonType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if e.RetryAfter > 0 {
		h.Set("Retry-After", wire.RetryAfter(e.RetryAfter))
	}
	w.WriteHeader(statuses[e.Kind])
	w.Write(body)
}

// notFound puts the error for an unknown model in Ollama's words, which clients look for.
func notFound(e *fault.Error, name string) *fault.Error {
	if e == nil || e.Kind != fault.ModelNotFound {
		return e
	}
	return fault.New(fault.ModelNotFound, "model", "model '%s' not found", name)
}

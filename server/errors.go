package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"serve/engine"
)

// Error is OpenAI's error: what a client reads, and the status it comes with.
type Error struct {
	Status     int
	Message    string
	Type       string
	Param      string            // the field at fault, empty for none
	Code       string            // empty for none
	RetryAfter time.Duration     // 0 for none
	Final      bool              // trying again is useless, though the status is a 5xx
	Busy       *engine.BusyError // nil unless there is no room
}

func (e *Error) Error() string { return e.Message }

// MarshalJSON writes the envelope, with all four keys.
func (e *Error) MarshalJSON() ([]byte, error) {
	type body struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	return json.Marshal(map[string]body{"error": {e.Message, e.Type, optional(e.Param), optional(e.Code)}})
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

const invalidRequest = "invalid_request_error"

func badRequest(param, code, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Type: invalidRequest, Param: param, Code: code, Message: fmt.Sprintf(format, args...)}
}

func unsupported(param, format string, args ...any) *Error {
	return badRequest(param, "unsupported_parameter", format, args...)
}

// toError is the one table of what the engine's errors mean to a client. A
// failure that trying again cannot mend is a 4xx: clients repeat every 5xx.
// Param is the field that held the prompt or the input.
func toError(err error, param string) *Error {
	var e *Error
	var length *engine.LengthError
	var tooLarge *http.MaxBytesError
	var noRoom *NoRoomError
	var missing *DeviceError
	var busy *engine.BusyError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &length):
		return badRequest(param, "context_length_exceeded",
			"This model's context has room for %d tokens of %s, but yours has %s. Shorten it, or start the server with a larger --ctx-size.",
			length.Limit, param, length.Count())
	case errors.As(err, &tooLarge):
		return &Error{Status: http.StatusRequestEntityTooLarge, Type: invalidRequest, Code: "request_too_large",
			Message: fmt.Sprintf("The request body is larger than %d bytes.", tooLarge.Limit)}
	case errors.Is(err, engine.ErrCrashed):
		return &Error{Status: http.StatusInternalServerError, Type: "server_error", Code: "engine_crashed", Final: true,
			Message: "The engine crashed on this request, twice. Others go on; this one is better not repeated."}
	case errors.Is(err, engine.ErrCannot):
		return badRequest("model", "unsupported_model", "This endpoint cannot use the model: %v.", err)
	case errors.Is(err, engine.ErrRequest):
		return badRequest(param, "invalid_value", "%v.", err)
	case errors.As(err, &busy):
		return busyError(busy)
	case errors.Is(err, engine.ErrStopped):
		return &Error{Status: http.StatusServiceUnavailable, Type: "server_error", Code: "model_unavailable", RetryAfter: 5 * time.Second,
			Message: "The model is not available: the server is stopping, or its engine failed."}
	case errors.Is(err, errLoading), errors.Is(err, errBusy):
		return &Error{Status: http.StatusServiceUnavailable, Type: "server_error", Code: "model_loading", RetryAfter: 15 * time.Second,
			Message: "The model is not in memory yet: " + err.Error() + ". Try again later."}
	case errors.As(err, &missing):
		return &Error{Status: http.StatusServiceUnavailable, Type: "server_error", Code: "device_unavailable",
			RetryAfter: deviceRetry, Message: fmt.Sprintf("The model's GPU cannot be used: %v.", missing)}
	case errors.As(err, &noRoom):
		return badRequest("model", "insufficient_memory", "The model does not fit: %v.", err)
	case errors.Is(err, errLoad):
		return &Error{Status: http.StatusInternalServerError, Type: "server_error", Param: "model", Code: "model_load_failed", Final: true,
			Message: "The model cannot be loaded; the server's log says why."}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Status: http.StatusGatewayTimeout, Type: "server_error", Code: "deadline_exceeded", Final: true,
			Message: "The time that the request gave itself in " + timeoutHeader + " has passed."}
	case errors.Is(err, context.Canceled):
		// Nobody reads this: the client has gone.
		return &Error{Status: 499, Type: "server_error", Code: "client_closed_request", Message: "The client closed the request."}
	}
	return &Error{Status: http.StatusInternalServerError, Type: "server_error", Code: "internal_error", Message: "The server failed: " + err.Error() + "."}
}

// longestRetry is the longest that OpenAI's clients let themselves be told to wait.
const longestRetry = time.Minute

// busyError says why there is no room, and when there may be.
func busyError(busy *engine.BusyError) *Error {
	e := &Error{Status: http.StatusTooManyRequests, Type: "rate_limit_error", Code: "rate_limit_exceeded", Busy: busy,
		RetryAfter: min(max(busy.Retry, time.Second), longestRetry)}
	switch {
	case errors.Is(busy, engine.ErrShare):
		e.Message = "You have as many requests in the server's queue as one client may have."
	case errors.Is(busy, engine.ErrWait):
		e.Status, e.Type, e.Code = http.StatusServiceUnavailable, "server_error", "queue_wait_too_long"
		e.Message = "The request would wait in the server's queue, or has waited there, for longer than it may."
	default:
		e.Message = "The server's queue is full."
	}
	e.Message += fmt.Sprintf(" %d requests wait. Try again in %d seconds.", busy.Waiting, retrySeconds(e.RetryAfter))
	return e
}

func retrySeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// writeError answers with an error. It must come before any other write.
func writeError(w http.ResponseWriter, e *Error) {
	body, err := json.Marshal(e)
	if err != nil {
		body = []byte(`{"error":{"message":"internal error","type":"server_error","param":null,"code":null}}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(retrySeconds(e.RetryAfter)))
	}
	if e.Busy != nil {
		h.Set("X-Queue-Position", strconv.Itoa(e.Busy.Position))
		if e.Busy.Expected > 0 {
			h.Set("X-Queue-Expected-Ms", milliseconds(e.Busy.Expected))
		}
	}
	if e.Final {
		h.Set("X-Should-Retry", "false")
	}
	w.WriteHeader(e.Status)
	w.Write(body)
}

package service

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"serve/access"
	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/quota"
)

// Fault converts any error to a fault. It is the only place that knows what errors of the engine and
// the pool mean to clients. Field is the request's field with the prompt or input.
func Fault(err error, field string) *fault.Error {
	var known *fault.Error
	if errors.As(err, &known) {
		return known
	}
	if e := requestFault(err, field); e != nil {
		return e
	}
	if e := modelFault(err); e != nil {
		return e
	}
	if e := quotaFault(err); e != nil {
		return e
	}
	if e := accessFault(err); e != nil {
		return e
	}
	if e := fault.OfContext(err); e != nil {
		return e
	}
	return fault.New(fault.Internal, "", "Internal server error: %v.", err)
}

// requestFault converts errors caused by the request. It returns nil for other errors.
func requestFault(err error, field string) *fault.Error {
	var length *engine.LengthError
	switch {
	case errors.As(err, &length):
		e := fault.New(fault.ContextExceeded, field,
			"The prompt in '%s' has %s tokens, but the model's context has room for %d. "+
				"Shorten it, or start the server with a larger --ctx-size.",
			field, length.Count(), length.Limit)
		e.Length = &fault.Length{
			Tokens:  length.Tokens,
			Limit:   length.Limit,
			AtLeast: length.AtLeast,
		}
		return e
	case errors.Is(err, engine.ErrCrashed):
		return fault.New(fault.Crashed, "",
			"The engine crashed twice on this request. Other requests were not affected. Do not retry this one.")
	case errors.Is(err, engine.ErrNotReproducible):
		return fault.New(fault.UnsupportedModel, "",
			"The model's answers cannot be reproducible as it is loaded: they need the CPU alone, a buffer for each "+
				"sequence and weights as they are in the file. Start the server with --reproducible.")
	case errors.Is(err, engine.ErrCannot):
		return fault.New(fault.UnsupportedModel, "model", "The model cannot be used with this endpoint: %s.",
			strings.TrimPrefix(err.Error(), engine.ErrCannot.Error()+": "))
	case errors.Is(err, engine.ErrTooComplex):
		return fault.New(fault.InvalidValue, field,
			"Invalid '%s': %s. Other requests were not affected. Do not retry this one.", field,
			strings.TrimPrefix(err.Error(), engine.ErrRequest.Error()+": "))
	case errors.Is(err, engine.ErrRequest):
		why := strings.TrimPrefix(err.Error(), engine.ErrRequest.Error()+": ")
		return fault.New(fault.InvalidValue, field, "Invalid request: %s.", why)
	}
	return nil
}

// modelFault converts errors about a model that cannot answer now. It returns nil for other errors.
func modelFault(err error) *fault.Error {
	var noRoom *pool.NoRoomError
	var busy *engine.BusyError
	switch {
	case errors.As(err, &busy):
		return busyFault(busy)
	case errors.Is(err, engine.ErrDevice):
		return later(fault.DeviceLost, pool.DeviceRetry, "The model's GPU cannot be used: %v.", err)
	case errors.Is(err, engine.ErrStopped):
		return later(fault.Stopping, 5*time.Second,
			"The model is not available: the server is stopping, or its engine failed.")
	case errors.Is(err, pool.ErrLoading), errors.Is(err, pool.ErrNoMemory):
		return later(fault.Loading, 15*time.Second, "The model is not in memory yet: %v. Try again later.", err)
	case errors.As(err, &noRoom):
		return fault.New(fault.InsufficientMemory, "model", "The model does not fit: %v.", err)
	case errors.Is(err, pool.ErrLoad):
		return fault.New(fault.LoadFailed, "model", "The model cannot be loaded; the server's log says why.")
	}
	return nil
}

// unrecordedRetry is after which time a log that cannot be written may be written again.
const unrecordedRetry = 5 * time.Second

// Unrecorded returns the fault for what cannot be recorded, and is not done for that.
func Unrecorded() *fault.Error {
	return later(fault.Unrecorded, unrecordedRetry,
		"The server's audit log cannot be written, so that no request is answered.")
}

// quotaRetry is after which time a request may have what others have now. Most are read in milliseconds.
const quotaRetry = time.Second

// quotaFault converts errors about what a request may use of the server. It returns nil for other errors.
func quotaFault(err error) *fault.Error {
	var expensive *quota.TimeError
	var exceeded *quota.ExceededError
	switch {
	case errors.As(err, &expensive):
		return fault.New(fault.TooExpensive, "",
			"The request takes more than %v of CPU time to read. Make it smaller or simpler, or start the server "+
				"with a larger --max-cpu.", expensive.Limit)
	case !errors.As(err, &exceeded):
		return nil
	case exceeded.Given && exceeded.Never:
		return fault.New(fault.BodyTooLarge, "",
			"The request body is too large (maximum %d bytes at a time for your API key).", exceeded.Limit)
	case exceeded.Given:
		return later(fault.LimitReached, quotaRetry,
			"Rate limit reached for your API key: %d %s at the same time. Try again in 1 second.",
			exceeded.Limit, exceeded.What)
	case exceeded.Never:
		return fault.New(fault.BodyTooLarge, "",
			"The request body is too large (maximum %d bytes, a client's share of --body-memory).", exceeded.Limit)
	case exceeded.Own:
		return later(fault.RateLimited, quotaRetry,
			"You have reached your limit of %s: you have %d, and all clients together may have %d. "+
				"Try again in 1 second.", exceeded.What, exceeded.Used, exceeded.Limit)
	}
	return later(fault.Overloaded, quotaRetry,
		"The server has reached its limit of %s (%d). Try again in 1 second.", exceeded.What, exceeded.Limit)
}

// accessFault converts errors about keys. It returns nil for other errors.
func accessFault(err error) *fault.Error {
	var limit *access.LimitError
	var failures *access.FailuresError
	var beyond *access.BeyondError
	var invalid *access.InvalidError
	switch {
	case errors.As(err, &limit) && limit.Want > 0:
		e := fault.New(fault.LimitReached, "", "Request too large for your API key: it takes %d of %d %s.",
			limit.Want, limit.Limit, limit.What)
		e.Final = true
		return e
	case errors.As(err, &limit):
		return later(fault.LimitReached, limit.Retry, "Rate limit reached for your API key: %d %s. Try again in %s.",
			limit.Limit, limit.What, limit.Retry.Round(time.Millisecond))
	case errors.As(err, &failures):
		return later(fault.LimitReached, failures.Retry, "Too many requests with an incorrect API key.")
	case errors.Is(err, access.ErrUnknown):
		return fault.New(fault.Unauthenticated, "", "Incorrect API key provided.")
	case errors.Is(err, access.ErrEnded):
		return fault.New(fault.Unauthenticated, "", "The API key was revoked, has expired, or was changed.")
	case errors.As(err, &beyond):
		return fault.New(fault.Forbidden, "", "Your API key manages only keys that may do no more than it may itself: it "+
			"lacks %s.", beyond.Right)
	case errors.Is(err, access.ErrOpen):
		return fault.New(fault.Forbidden, "", "This server requires no API keys, so that it manages none by requests. On "+
			"its machine, serve key create NAME --scope inference,models,metrics,admin makes the first.")
	case errors.Is(err, access.ErrNoKey):
		return fault.New(fault.NotFound, "", "There is no such API key.")
	case errors.As(err, &invalid):
		return fault.New(fault.InvalidValue, "", "Invalid key: %v.", invalid)
	}
	return nil
}

// later returns a fault that may be over after a while.
func later(kind fault.Kind, after time.Duration, format string, args ...any) *fault.Error {
	e := fault.New(kind, "", format, args...)
	e.RetryAfter = after
	return e
}

// longestRetry is the longest Retry-After that OpenAI's clients respect.
const longestRetry = time.Minute

// busyFault converts the error for a full queue. Its counts are of the client's tenant.
func busyFault(busy *engine.BusyError) *fault.Error {
	after := min(max(busy.Retry, time.Second), longestRetry)
	e := later(fault.QueueFull, after, "The server's queue is full.")
	e.Queue = &fault.Queue{Position: busy.Position, Expected: busy.Expected}

	switch {
	case errors.Is(busy, engine.ErrShare):
		e.Kind = fault.RateLimited
		e.Message = "You have reached your limit of queued requests."
	case errors.Is(busy, engine.ErrWait):
		e.Kind = fault.QueueWait
		e.Message = "The wait in the queue would exceed the limit (--max-wait)."
	}
	seconds := int(math.Ceil(after.Seconds()))
	if busy.Waiting > 0 {
		e.Message += fmt.Sprintf(" %s waiting.", count(busy.Waiting, "request is", "requests are"))
	}
	e.Message += fmt.Sprintf(" Try again in %s.", count(seconds, "second", "seconds"))
	return e
}

// count returns a number and the noun for it.
func count(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}

// Package fault is what went wrong with a request, in no API's words. Whoever speaks an
// API maps a Kind to its status, type and code, in one place.
package fault

import (
	"fmt"
	"time"
)

// Kind is what went wrong: all that a program needs to know of a failure. The zero value is
// a failure of the server's own.
type Kind int

// The kinds. Every one has a row in each API's table of errors.
const (
	Internal Kind = iota

	// The body or one of its fields is not what the endpoint reads.
	Malformed       // the body is no JSON object, or no UTF-8
	MissingField    // a required field is absent
	UnknownField    // a field that the endpoint does not read
	WrongType       // a value of another JSON type
	InvalidValue    // a value of the right type that cannot be used
	IntegerTooSmall // and so on: out of the field's bounds
	IntegerTooLarge
	DecimalTooSmall
	DecimalTooLarge
	ArrayEmpty
	ArrayTooLong
	Unsupported   // a feature that the server or the model does not have
	InvalidSchema // a JSON Schema that cannot be compiled

	// An image of the request.
	ImageURL         // the URL is invalid, or of a host that is not allowed
	ImageBase64      // a data URL that is not Base64
	ImageEmpty       // a file of no bytes
	ImageFormat      // a file that cannot be decoded
	ImageTooLarge    // too many pixels
	ImageFileTooBig  // too many bytes to fetch
	ImageUnreachable // the host did not send it

	// What the request names, or asks of it.
	ModelNotFound
	UnsupportedModel   // the model cannot do what the endpoint is for
	InsufficientMemory // the model does not fit
	ContextExceeded    // more tokens than the context has room for
	NotFound           // something that was kept
	PreviousNotFound   // what the conversation goes on from

	// HTTP's own.
	BodyTooLarge
	UnknownPath
	MethodNotAllowed
	UnknownHost
	OriginNotAllowed

	// Not now.
	RateLimited // no room in the queue
	QueueWait   // the wait in the queue would be too long
	Stopping    // the server stops, or the model's engine has failed
	Loading     // the model is not in memory yet
	DeviceLost  // the model's GPU cannot be used

	// The answer failed.
	Crashed         // the engine died of this request
	LoadFailed      // the model cannot be loaded
	SchemaViolation // the model wrote what the request's schema forbids
	Storage         // what is kept cannot be read or written
	Deadline        // the time that the request gave itself has passed
	Canceled        // the client has gone

	kinds // how many there are
)

// Kinds returns all of them, for a table to be held against.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Error is one failure.
type Error struct {
	Kind       Kind
	Message    string        // a sentence that a client may read
	Field      string        // of the request that is at fault, as the client spells it; empty for none
	RetryAfter time.Duration // after which trying again makes sense; 0 if unknown
	Queue      *Queue        // where the request would have stood; nil unless there was no room
}

// Queue is what a refused request would have had before it.
type Queue struct {
	Position int           // requests before it
	Expected time.Duration // how long it would have waited, 0 if unknown
}

// New makes an Error. The field may be empty.
func New(kind Kind, field, format string, args ...any) *Error {
	return &Error{Kind: kind, Field: field, Message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Package fault represents failures of requests independently of any API. Each API maps kinds to its
// own statuses, types and codes, in one table.
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind classifies a failure. The zero value is an internal error.
type Kind int

// All kinds. Each API's table of errors has a row for every one.
const (
	Internal Kind = iota

	// Errors in the body or its fields.
	Malformed       // the body is not a JSON object, or not UTF-8
	MissingField    // a required field is absent
	UnknownField    // the endpoint has no such field
	WrongType       // the value has another JSON type
	InvalidValue    // the value has the right type but is not allowed
	IntegerTooSmall // out of bounds, like the next three
	IntegerTooLarge
	DecimalTooSmall
	DecimalTooLarge
	ArrayEmpty
	ArrayTooLong
	StringTooLong
	Unsupported   // the server or the model lacks the feature
	InvalidSchema // the JSON Schema cannot be compiled

	// Errors in images.
	ImageURL         // the URL is invalid, or its host is not allowed
	ImageBase64      // the data URL is not valid Base64
	ImageEmpty       // the file is empty
	ImageFormat      // the file cannot be decoded
	ImageTooLarge    // too many pixels
	ImageFileTooBig  // too many bytes to download
	ImageUnreachable // the download failed

	// Errors about the model and stored objects.
	ModelNotFound
	UnsupportedModel   // the model cannot do what the endpoint is for
	InsufficientMemory // the model does not fit
	ContextExceeded    // the prompt is longer than the context
	NotFound           // a stored object does not exist
	PreviousNotFound   // the response to continue from does not exist
	ConversationLocked // another response to the conversation is being made

	// Errors at the level of HTTP.
	BodyTooLarge
	TooExpensive    // reading the request takes more CPU time than a request may have
	BodyTooSlow     // the client did not send it in time
	UnknownEncoding // the body is compressed in a way that is not known
	UnknownPath
	MethodNotAllowed
	NotImplemented  // the endpoint is one of the API's, but the server does not have it
	Forbidden       // the client may not do that
	Unauthenticated // the client has no key, or not a valid one
	MissingScope    // the client's key is not for that
	UnknownHost
	OriginNotAllowed

	// Temporary conditions.
	LimitReached // the client's key has used what it may, or too many wrong keys came from its address
	RateLimited  // the client has its share of the queue, or of the memory for requests
	QueueFull    // the queue is full
	QueueWait    // the wait in the queue would be too long
	Overloaded   // there is no memory for another request
	Stopping     // the server is stopping, or the model's engine has failed
	Loading      // the model is not in memory yet
	DeviceLost   // the model's GPU cannot be used

	// Failures while answering.
	Crashed         // the engine crashed on this request
	LoadFailed      // the model cannot be loaded
	SchemaViolation // the answer does not match the request's schema
	Unrecorded      // the audit log cannot be written, so nothing may be done
	Storage         // stored responses or files cannot be read or written
	StorageFull     // there is no room for more files
	Download        // a model cannot be downloaded
	Deadline        // the request's own time limit has passed
	Canceled        // the client closed the request

	kinds // number of kinds
)

// Kinds returns all kinds, for tests that a table is complete.
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
	Message    string        // shown to the client
	Field      string        // the request's field at fault, as the client spells it; empty for none
	RetryAfter time.Duration // when to retry; 0 if unknown
	Final      bool          // repeating the request does not help, although its kind often means that it does
	Queue      *Queue        // the request's place in the queue; nil unless the queue was full
	Length     *Length       // the length of the prompt; nil unless it is too long
}

// Length is the length of a prompt or input that is too long.
type Length struct {
	Tokens  int  // it has
	Limit   int  // it may have
	AtLeast bool // it has at least Tokens: it was not split to the end
}

// Queue is the place that a refused request would have had in the queue.
type Queue struct {
	Position int           // number of requests ahead
	Expected time.Duration // wait, 0 if unknown
}

// New returns an Error. The field may be empty.
func New(kind Kind, field, format string, args ...any) *Error {
	return &Error{Kind: kind, Field: field, Message: fmt.Sprintf(format, args...)}
}

// OfContext returns the failure of a request whose context has ended, which err says or wraps; nil for other errors.
func OfContext(err error) *Error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return New(Deadline, "", "The time limit set by X-Request-Timeout-Ms has passed.")
	case errors.Is(err, context.Canceled):
		return New(Canceled, "", "The client closed the request.")
	}
	return nil
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

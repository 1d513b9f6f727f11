// Package dialect is the seam between the server and the APIs that it speaks. An API, a dialect,
// says which routes it has and how it writes errors, and encodes streamed answers; the server
// does what does not depend on the API. Dialects do not know each other.
package dialect

import (
	"net/http"

	"serve/engine"
	"serve/fault"
	"serve/service"
)

// A Handler answers a request, or returns what to answer instead. It must not return a fault
// after it has written.
type Handler func(http.ResponseWriter, *http.Request) *fault.Error

// Route is an endpoint.
type Route struct {
	Method string // GET has HEAD with it
	Path   string // without /v1, which clients may leave out; parameters are :name and *name
	Handle Handler
	// Work says that a model has to work for it: its body and its time are limited, and the
	// server refuses it while it stops.
	Work bool
	// Operation is what traces call the work, one of GenAI's operations; empty for none.
	Operation string
}

// A Dialect is an API.
type Dialect interface {
	Routes() []Route
	// Fail answers with an error. It comes before any other write.
	Fail(http.ResponseWriter, *fault.Error)
	// Code is the API's word for an error; empty for none.
	Code(*fault.Error) string
}

// An Encoder encodes one streamed answer in a dialect's form. Its methods append to b what is to
// be sent; they are called one at a time. The stream loop owns writing, flushing, pings, clients
// that stall and clients that leave.
type Encoder interface {
	ContentType() string
	// Begin comes first, when nothing can fail any more that a status could tell.
	Begin(b []byte) []byte
	// Delta is what came anew of an answer: of the stream of that index of a reply.
	Delta(b []byte, stream int, e *engine.Event) []byte
	// End comes last, with what each stream has cost.
	End(b []byte, usage []engine.Usage) []byte
	// Fail comes last when something failed, unless the client has gone.
	Fail(b []byte, e *fault.Error) []byte
	// Ping is what keeps a connection that is silent for long; nothing if the form has none.
	Ping(b []byte) []byte
}

// Stream is the server's stream loop: it sends a reply as an encoder writes it. It returns a
// fault if nothing has been sent yet.
type Stream func(http.ResponseWriter, *http.Request, *service.Reply, Encoder) *fault.Error

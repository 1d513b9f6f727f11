// Package dialect is the interface between the server and the APIs that it speaks. A dialect is
// one API: it declares routes, writes errors and encodes streamed answers. The server does
// everything that does not depend on the API. Dialects never import each other.
package dialect

import (
	"net/http"
	"slices"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/server/wire"
	"serve/service"
)

// A Handler answers a request, or returns a fault for the server to answer with. It must not
// return a fault after it has written.
type Handler func(http.ResponseWriter, *http.Request) *fault.Error

// Route declares an endpoint. The mux, the documents and the description of the API are made from it.
type Route struct {
	Method string // GET implies HEAD
	Path   string // without /v1, which is optional; parameters are :name and *name
	Handle Handler
	// Work marks endpoints that use a model or read a body: body size and time are limited, and requests
	// are refused while the server is draining.
	Work bool
	// MaxBody limits the size of a body, in bytes, that is not kept in memory; 0 for one that is.
	MaxBody int64
	// Pictures marks endpoints whose bodies may contain pictures, which have the server's limit; others have MaxText.
	Pictures bool
	// Operation is the name of the work in traces, a GenAI operation; empty for no trace.
	Operation string

	// AnyHost marks endpoints that are answered under any host name: load balancers probe them with names
	// of their own. Such an answer contains nothing that a stranger may not know.
	AnyHost bool
	// AnyQuery marks endpoints that have no parameters and take any query: those that load balancers probe, and those
	// of the page, whose query is for its script.
	AnyQuery bool

	Right    Right              // what a client needs to be allowed
	Doc      string             // one sentence for people
	Fields   []wire.Description // of the request's body; nil for no body
	Query    []wire.Description // the parameters of the URL's query; others are refused
	Consumes string             // content type of the body; empty for JSON
	Produces []string           // content types of answers; nil for JSON
	// Unversioned marks endpoints whose documented path is without /v1.
	Unversioned bool
}

// WithQuery returns routes that have further parameters in their queries.
func WithQuery(routes []Route, parameters []wire.Description) []Route {
	for i := range routes {
		routes[i].Query = slices.Concat(routes[i].Query, parameters)
	}
	return routes
}

// Right is what a client must be allowed to do to use an endpoint. Its zero value is a right that no key has: every
// endpoint names one.
type Right uint8

// The rights.
const (
	_           Right = iota
	RightUse          // ask models, and use what is stored for that
	RightNone         // anybody may
	RightList         // list and describe the models
	RightStatus       // read what the server does and has: status and metrics
	RightManage       // change what the server has: load, pull and delete models, and keys
	RightAny          // what every client may that is known: it concerns nobody else
)

// String returns the right's name in documents.
func (r Right) String() string {
	return [...]string{"", "use", "none", "list", "status", "manage", "any"}[r]
}

// RequestID is the response header with the request's id. The server sets it before a handler is
// called.
const RequestID = "X-Request-Id"

// IgnoredHeader is the response header that lists the parts of the request that are not known, and were left out.
const IgnoredHeader = "X-Ignored-Fields"

// Window is what is left of a limit per minute.
type Window struct {
	Of        string // "requests" or "tokens"
	Limit     int
	Remaining int
	Reset     time.Duration // until all of it is there again
}

// A Dialect is an API.
type Dialect interface {
	Routes() []Route
	// Speaks reports whether a request is in this API. It is asked where the path leaves that open:
	// when several dialects have the path, or none has. The path comes as in Route.
	Speaks(*http.Request) bool
	// Head sets the API's own headers of a response that is about to begin, took after the request
	// came.
	Head(h http.Header, took time.Duration)
	// Limits sets the API's own headers for what is left of the limits of whoever asks.
	Limits(h http.Header, windows []Window)
	// Exposes lists the API's own response headers that web pages may read, in lower case.
	Exposes() []string
	// Lenient reports whether parameters that are not declared are named in IgnoredHeader. Otherwise they are refused.
	Lenient() bool
	// Fail writes an error response. Nothing may have been written before.
	Fail(http.ResponseWriter, *fault.Error)
	// Code returns the API's code for an error; empty if it has none.
	Code(*fault.Error) string
}

// An Encoder encodes one streamed answer. Its methods append the bytes to send to b and return
// the extended slice. They are never called concurrently. The stream loop takes care of writing,
// flushing, pings, stalled clients and disconnects.
type Encoder interface {
	ContentType() string
	// Begin is called first.
	Begin(b []byte) []byte
	// Delta encodes an event of the reply's stream with the given index.
	Delta(b []byte, stream int, e *engine.Event) []byte
	// End is called last, with the usage of each stream.
	End(b []byte, usage []engine.Usage) []byte
	// Fail is called instead of End after an error, unless the client is gone.
	Fail(b []byte, e *fault.Error) []byte
	// Ping encodes a keep-alive message; it may append nothing.
	Ping(b []byte) []byte
}

// A Keeper is an Encoder whose answer is stored. Keep stores it, after End or Fail have encoded it and it is recorded,
// and before their bytes are sent.
type Keeper interface {
	Keep() *fault.Error
}

// StreamFunc is the server's stream loop, which sends a reply as an Encoder writes it. It returns a
// fault only if nothing has been sent.
type StreamFunc func(http.ResponseWriter, *http.Request, *service.Reply, Encoder) *fault.Error

package server

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
)

// exchange is a request and its answer, as far as no endpoint matters: who asks, until when, and
// how it came along. It is the ResponseWriter; its call is in the request's context.
type exchange struct {
	gin.ResponseWriter
	id      string
	start   time.Time
	call    *service.Call
	dialect dialect.Dialect

	server    trace.Span // nil without traces
	tracer    trace.Tracer
	operation string

	told bool // the headers that depend on the answer are set
}

// begin makes a request's exchange.
func (s *Server) begin(c *gin.Context) *exchange {
	x := &exchange{
		ResponseWriter: c.Writer,
		id:             newID(),
		start:          time.Now(),
		call:           &service.Call{Client: client(c.Request)},
		dialect:        s.dialectOf(c),
	}
	x.call.Report = x.traceWork
	c.Writer = x

	ctx := service.WithCall(c.Request.Context(), x.call)
	operation := s.operations[c.FullPath()]
	c.Request = x.span(s.opts.Tracer, operation, c.Request.WithContext(ctx), c.FullPath())
	return x
}

func newID() string {
	var b [12]byte
	rand.Read(b[:])
	return "req_" + hex.EncodeToString(b[:])
}

// client names who asks: by a hash of the key, or by the address if there is none. Keys
// are not checked, so that this divides the machine among those who are honest.
func client(r *http.Request) string {
	if key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && key != "" {
		sum := sha256.Sum256([]byte(key))
		return "key " + hex.EncodeToString(sum[:8])
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "address " + host
}

// tell says in headers how long the answer's beginning took, and what of that was the wait in the
// queue. It comes before the first byte.
func (x *exchange) tell() {
	if x.told {
		return
	}
	x.told = true

	h := x.Header()
	h.Set("Openai-Processing-Ms", wire.Milliseconds(time.Since(x.start)))
	if stream := x.call.First(); stream != nil {
		t := stream.Timeline()
		h.Set("X-Queue-Position", strconv.Itoa(t.Position))
		h.Set("X-Queue-Wait-Ms", wire.Milliseconds(t.Waited()))
	}
}

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	x.tell()
	x.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(b []byte) (int, error) {
	x.tell()
	return x.ResponseWriter.Write(b)
}

// WriteString implements io.StringWriter.
func (x *exchange) WriteString(s string) (int, error) {
	x.tell()
	return x.ResponseWriter.WriteString(s)
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

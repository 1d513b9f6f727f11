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

	"serve/certs"
	"serve/fault"
	"serve/server/wire"
	"serve/service"
)

// exchange is the part of a request and its response that does not depend on the endpoint. It is
// the ResponseWriter; its call is in the request's context.
type exchange struct {
	gin.ResponseWriter
	id       string
	request  *http.Request // as it came
	start    time.Time
	call     *service.Call
	endpoint endpoint

	ctrl  *http.ResponseController
	stall time.Duration // how long the client may accept nothing

	server trace.Span // nil without traces
	tracer trace.Tracer

	headed bool // the headers that are set last are

	ledger *ledger      // nil without an audit log
	api    string       // its name in documents
	hold   bool         // the end of the answer is held back
	held   []byte       // of the answer
	failed *fault.Error // that is the answer; nil for none
}

// begin creates the exchange of a request.
func (s *Server) begin(c *gin.Context) *exchange {
	x := &exchange{
		ResponseWriter: c.Writer,
		id:             newID(),
		request:        c.Request,
		start:          time.Now(),
		call:           s.callOf(c.Request),
		endpoint:       s.endpointOf(c),
		ctrl:           http.NewResponseController(c.Writer),
		stall:          s.opts.WriteStall,
	}
	x.api = x.endpoint.api
	x.call.Report = x.report
	x.ledger = s.newLedger(x, c)
	if x.ledger != nil {
		x.call.Audit = x.ledger
	}
	c.Writer = x

	ctx := service.WithCall(c.Request.Context(), x.call)
	c.Request = x.span(s.opts.Tracer, c.Request.WithContext(ctx), c.FullPath())
	return x
}

// callOf returns the call of a request as it is without keys; a client's certificate is a tenant of its own. One that
// the server itself makes brings its call, with the client and the tenant that it is made for; others bring their
// tenant, if whatever is before the server knows it.
func (s *Server) callOf(r *http.Request) *service.Call {
	given := service.CallOf(r.Context())
	if given.Yields {
		return given
	}
	call := &service.Call{
		Client:  client(r),
		Tenant:  given.Tenant,
		Manages: isLocal(r) && !s.isProxy(r),
	}
	if name, ok := certs.Identity(r.TLS); ok {
		call.Client = clientCertificate + name
		call.Tenant = clientCertificate + name
	}
	return call
}

// exchangeOf returns the exchange of a request.
func exchangeOf(c *gin.Context) *exchange { return c.Writer.(*exchange) }

func newID() string {
	var b [12]byte
	rand.Read(b[:])
	return "req_" + hex.EncodeToString(b[:])
}

// client identifies the caller of a server without keys: by a hash of what it sends as one, or by the address if it
// sends none. That is for fair sharing among honest clients only.
func client(r *http.Request) string {
	if keys := secrets(r.Header); len(keys) > 0 {
		sum := sha256.Sum256([]byte(keys[0]))
		return clientKey + hex.EncodeToString(sum[:8])
	}
	return clientAddress + address(r)
}

// clientAddress is what the name of a client begins with that is known by nothing else.
const clientAddress = "address "

// clientKey is what the name of a client that has a key begins with.
const clientKey = "key "

// clientCertificate is what the name of a client that has a certificate begins with, and that of its tenant: no
// tenant of a key has such a name.
const clientCertificate = "certificate "

// address returns the address that a request has come from.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// isLocal reports whether a request comes from a program of this machine: not through a proxy, and not from
// a page of another site, which a browser of this machine would send for it.
func isLocal(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return false
	}
	for _, name := range proxyHeaders {
		if len(r.Header.Values(name)) > 0 {
			return false
		}
	}
	return !fromForeignPage(r)
}

// fromForeignPage reports whether a page sent the request that is not this server's own. Browsers name the
// page's origin with everything that changes something. A site that uses DNS rebinding has the server's
// address under its own name, so the name has to be this machine's.
func fromForeignPage(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return fromOtherSite(r)
	}

	scheme, host, named := strings.Cut(origin, "://")
	if named && scheme != "http" && scheme != "https" {
		return false // a program's, or that of an extension: guardOrigin knows which may come
	}
	return !isOwn(r, origin) || fromOtherSite(r) || !isLoopback(hostName(host))
}

// head sets the headers of the dialect, and those with the place and the time in the queue. It is
// called before the first byte is written.
func (x *exchange) head() {
	if x.headed {
		return
	}
	x.headed = true

	h := x.Header()
	x.endpoint.dialect.Head(h, time.Since(x.start))
	if stream := x.call.First(); stream != nil {
		t := stream.Timeline()
		h.Set("X-Queue-Position", strconv.Itoa(t.Position))
		h.Set("X-Queue-Wait-Ms", wire.Milliseconds(t.Waited()))
		if stream.Reproducible() {
			h.Set(reproducibleHeader, "seed="+strconv.FormatUint(uint64(stream.Seed()), 10))
		}
	}
	x.setLimits(h)
}

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	x.head()
	x.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. It writes in parts, each of which the client must accept in time.
func (x *exchange) Write(b []byte) (n int, err error) {
	x.head()
	if x.hold {
		return x.keep(b)
	}
	return x.send(b)
}

// send writes to the client.
func (x *exchange) send(b []byte) (n int, err error) {
	x.ledger.sends(b)
	for {
		_ = x.ctrl.SetWriteDeadline(time.Now().Add(x.stall))
		written, err := x.ResponseWriter.Write(b[:min(len(b), writePart)])
		n += written
		b = b[written:]
		if err != nil || len(b) == 0 {
			return n, err
		}
	}
}

// WriteString implements io.StringWriter.
func (x *exchange) WriteString(s string) (int, error) { return x.Write([]byte(s)) }

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

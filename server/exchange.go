package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"serve/engine"
	"serve/fault"
	"serve/pool"
)

// exchange is a request and its answer, as far as no endpoint matters: who asks, until
// when, and how it came along. It is the ResponseWriter, and in the request's context.
type exchange struct {
	gin.ResponseWriter
	id     string
	start  time.Time
	client string

	server    trace.Span // nil without traces
	tracer    trace.Tracer
	operation string
	detached  bool // work goes on when the answer has been written

	mu   sync.Mutex
	work []work
	told bool
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

// timeoutHeader is the header in which a request says how many milliseconds it has.
const timeoutHeader = "X-Request-Timeout-Ms"

// maxTimeout is the longest that may be asked for: a day.
const maxTimeout = 24 * time.Hour

// begin makes a request's exchange.
func begin(c *gin.Context) *exchange {
	x := &exchange{ResponseWriter: c.Writer, id: "req_" + randomID(), start: time.Now(), client: client(c.Request)}
	c.Writer = x
	c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), exchangeKey{}, x))
	return x
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

// limitTime gives a request that says how long it has that long.
func limitTime(c *gin.Context) {
	given := c.Request.Header.Get(timeoutHeader)
	if given == "" {
		return
	}
	ms, err := strconv.ParseInt(given, 10, 64)
	if err != nil || ms < 1 || ms > maxTimeout.Milliseconds() {
		writeError(c.Writer, fault.New(fault.InvalidValue, "",
			"Invalid header '%s': a whole number of milliseconds from 1 to %d is expected.", timeoutHeader, maxTimeout.Milliseconds()))
		c.Abort()
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), time.Duration(ms)*time.Millisecond)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// caller is in whose name a model works.
func caller(ctx context.Context) engine.Caller {
	return engine.Caller{Client: exchangeOf(ctx).client}
}

// generate asks a model for an answer in the name of who asked the server.
func generate(ctx context.Context, model *pool.Lease, er engine.Request) (*engine.Stream, error) {
	x := exchangeOf(ctx)
	er.Client = x.client
	stream, err := model.Engine.Generate(ctx, er)
	if err != nil {
		return nil, err
	}
	x.did(work{model: model.ID, request: &er, stream: stream})
	return stream, nil
}

// embed asks a model for vectors in the same way.
func embed(ctx context.Context, model *pool.Lease, inputs [][]engine.Token) ([][]float32, error) {
	w := work{model: model.ID, begun: time.Now()}
	for _, in := range inputs {
		w.tokens += len(in)
	}
	vectors, err := model.Engine.Embed(ctx, caller(ctx), inputs)
	w.ended, w.err = time.Now(), err
	exchangeOf(ctx).did(w)
	return vectors, err
}

// rank asks a model for scores in the same way.
func rank(ctx context.Context, model *pool.Lease, query string, documents []string) (scores []float32, tokens int, err error) {
	w := work{model: model.ID, begun: time.Now()}
	scores, w.tokens, w.err = model.Engine.Rank(ctx, caller(ctx), query, documents)
	w.ended = time.Now()
	exchangeOf(ctx).did(w)
	return scores, w.tokens, w.err
}

// did notes what a model does for the request.
func (x *exchange) did(w work) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.work = append(x.work, w)
}

// tell says in headers how long the answer's beginning took, and what of that was the
// wait in the queue. It comes before the first byte.
func (x *exchange) tell() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.told {
		return
	}
	x.told = true
	h := x.Header()
	h.Set("Openai-Processing-Ms", milliseconds(time.Since(x.start)))
	if len(x.work) > 0 && x.work[0].stream != nil {
		t := x.work[0].stream.Timeline()
		h.Set("X-Queue-Position", strconv.Itoa(t.Position))
		h.Set("X-Queue-Wait-Ms", milliseconds(t.Waited()))
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) { x.tell(); x.ResponseWriter.WriteHeader(status) }

// Write implements http.ResponseWriter.
func (x *exchange) Write(b []byte) (int, error) { x.tell(); return x.ResponseWriter.Write(b) }

// WriteString implements io.StringWriter.
func (x *exchange) WriteString(s string) (int, error) {
	x.tell()
	return x.ResponseWriter.WriteString(s)
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

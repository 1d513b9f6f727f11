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

	"serve/engine"
)

// exchange is a request and its answer, as far as no endpoint matters: who asks, until
// when, and how it came along. It is the ResponseWriter, and in the request's context.
type exchange struct {
	gin.ResponseWriter
	id     string
	start  time.Time
	client string

	mu      sync.Mutex
	streams []*engine.Stream
	told    bool
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

// TimeoutHeader is the header in which a request says how many milliseconds it has.
const TimeoutHeader = "X-Request-Timeout-Ms"

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
	given := c.Request.Header.Get(TimeoutHeader)
	if given == "" {
		return
	}
	ms, err := strconv.ParseInt(given, 10, 64)
	if err != nil || ms < 1 || ms > maxTimeout.Milliseconds() {
		writeError(c.Writer, badRequest("", "invalid_value",
			"Invalid header '%s': a whole number of milliseconds from 1 to %d is expected.", TimeoutHeader, maxTimeout.Milliseconds()))
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
func generate(ctx context.Context, model *lease, er engine.Request) (*engine.Stream, error) {
	x := exchangeOf(ctx)
	er.Client = x.client
	stream, err := model.Engine.Generate(ctx, er)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.streams = append(x.streams, stream)
	return stream, nil
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
	if len(x.streams) > 0 {
		t := x.streams[0].Timeline()
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

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"serve/engine"
	"serve/fault"
	"serve/server/dialect"
	"serve/server/wire"
	"serve/service"
)

// identify assigns an id to every request and logs its outcome, never its contents.
func (s *Server) identify(c *gin.Context) {
	x := s.begin(c)
	x.Header().Set(dialect.RequestID, x.id)
	protect(x.Header())
	defer func() {
		if !x.call.Detached() {
			x.report(c.Request.Context())
		}
	}()
	c.Next()

	took := time.Since(x.start)
	status := c.Writer.Status()
	x.endSpan(status)
	s.ops.Count(c.FullPath(), c.Request.Method, status, took)

	key := ""
	if x.call.Principal != nil {
		key = x.call.Principal.ID
	}
	level := slog.LevelInfo
	if c.Request.Method != http.MethodPost && status < 400 {
		level = slog.LevelDebug // probes, scrapes and the page poll every few seconds
	}
	s.opts.Log.Log(c.Request.Context(), level, "request",
		"id", x.id,
		"method", c.Request.Method,
		"path", c.FullPath(),
		"key", key,
		"status", status,
		"bytes", c.Writer.Size(),
		"took", took.Round(time.Millisecond))
}

// protect sets the headers that keep an answer from where it does not belong: caches, pages of other origins that
// embed it, and interpreters of other types of contents. The page's files, which say how long they may be cached,
// set their own.
func protect(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// recovered turns a panic, which is a bug, into a 500 response and a log line.
func (s *Server) recovered(c *gin.Context) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			s.opts.Log.Error("panic", "path", c.FullPath(), "panic", p, "stack", string(debug.Stack()))
			if exchangeOf(c).discard() {
				s.fail(c, service.Fault(fmt.Errorf("internal error"), ""))
			}
		}
	}()
	c.Next()
}

// exposes are the response headers of every API that web pages may read.
var exposes = []string{
	"x-request-id",
	"x-queue-position",
	"x-queue-wait-ms",
	"x-queue-expected-ms",
	"retry-after",
	"x-ratelimit-limit-requests",
	"x-ratelimit-remaining-requests",
	"x-ratelimit-reset-requests",
	"x-ratelimit-limit-tokens",
	"x-ratelimit-remaining-tokens",
	"x-ratelimit-reset-tokens",
	strings.ToLower(reproducibleHeader),
	"x-schema-not-enforced",
	"x-ignored-fields",
	"x-tools-not-offered",
	"x-items-not-read",
	strings.ToLower(wire.NotesHeader),
}

// exposed lists the response headers that web pages may read.
func (s *Server) exposed() string {
	names := slices.Clone(exposes)
	for _, d := range s.dialects {
		names = append(names, d.Exposes()...)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// reproducibleHeader is the header by which a client asks for an answer that does not depend on other requests. Such an
// answer has it, too, with the seed that it was drawn with.
const reproducibleHeader = "X-Serve-Reproducible"

// readReproducible reads whether the client asks for a reproducible answer.
func (s *Server) readReproducible(c *gin.Context) {
	given := c.Request.Header.Get(reproducibleHeader)
	if given == "" || !exchangeOf(c).endpoint.Work {
		return
	}
	wanted, err := strconv.ParseBool(given)
	if err != nil {
		s.fail(c, fault.New(fault.InvalidValue, "", "Invalid header '%s': it must be true or false.", reproducibleHeader))
		c.Abort()
		return
	}
	exchangeOf(c).call.Reproducible = wanted
}

// seedHeader is the header by which a client says what the answers are drawn with: in any API, and instead of what the
// body says.
const seedHeader = "X-Serve-Seed"

// readSeed reads the seed that the client gives, if any.
func (s *Server) readSeed(c *gin.Context) {
	given := c.Request.Header.Get(seedHeader)
	if given == "" || !exchangeOf(c).endpoint.Work {
		return
	}
	n, err := strconv.ParseInt(given, 10, 64)
	if err != nil {
		s.fail(c, fault.New(fault.InvalidValue, "", "Invalid header '%s': it must be a whole number.", seedHeader))
		c.Abort()
		return
	}
	var sampling engine.Sampling
	sampling.SetSeed(n)
	exchangeOf(c).call.Seed = &sampling.Seed
}

// timeoutHeader is the header by which a client limits the time of a request, in milliseconds.
const timeoutHeader = "X-Request-Timeout-Ms"

// maxTimeout is the largest limit that a client may set.
const maxTimeout = 24 * time.Hour

// limitTime applies the time limit that the client has set, if any.
func (s *Server) limitTime(c *gin.Context) {
	given := c.Request.Header.Get(timeoutHeader)
	if given == "" || !exchangeOf(c).endpoint.Work {
		return
	}
	ms, err := strconv.ParseInt(given, 10, 64)
	if err != nil || ms < 1 || ms > maxTimeout.Milliseconds() {
		s.fail(c, fault.New(fault.InvalidValue, "",
			"Invalid header '%s': it must be a whole number of milliseconds from 1 to %d.",
			timeoutHeader, maxTimeout.Milliseconds()))
		c.Abort()
		return
	}

	ctx, cancel := context.WithTimeout(c.Request.Context(), time.Duration(ms)*time.Millisecond)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

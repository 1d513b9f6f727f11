package server

import (
	"errors"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"serve/engine"
	"serve/fault"
	"serve/quota"
	"serve/server/dialect"
	"serve/service"
)

// limitWork refuses work while the server is draining. Before it reads a byte of the body it takes a reading place
// and memory for it, which the request has until nothing of it is in memory.
func (s *Server) limitWork(c *gin.Context) {
	x := exchangeOf(c)
	if !x.endpoint.Work {
		return
	}

	e := s.takeBody(c)
	if e != nil {
		s.fail(c, e)
		c.Abort()
		return
	}
	defer c.Request.Body.Close()
	defer func() {
		if !x.call.Detached() {
			x.call.Reservation.Release()
		}
	}()
	c.Next()
}

// takeBody prepares the body of a request to be read: it is decoded, and limited in size.
func (s *Server) takeBody(c *gin.Context) *fault.Error {
	if s.draining.Load() {
		return service.Fault(engine.ErrStopped, "")
	}

	x := exchangeOf(c)
	limit := s.limitOf(x.endpoint.Route)
	size := max(c.Request.ContentLength, 0)
	if size > limit {
		return tooLarge(limit)
	}
	if x.endpoint.MaxBody > 0 {
		size = min(size, dialect.MaxText) // a part of it at a time is in memory
	}

	client := quota.Client{Name: x.call.Client}
	if p := x.call.Principal; p != nil {
		client.Most = int64(p.Account().Limits().BytesInFlight)
	}
	reservation, err := s.bodies.Begin(client, size)
	if err != nil {
		return service.Fault(err, "")
	}
	body, e := decodeBody(c.Writer, c.Request, limit)
	if e != nil {
		reservation.Release()
		return e
	}

	x.call.Reservation = reservation
	x.call.Workers = s.workers
	c.Request.Body = &reservedBody{
		ReadCloser:  body,
		reservation: reservation,
		kept:        x.endpoint.MaxBody == 0,
		reserved:    size,
	}
	return nil
}

// limitOf returns how large the bodies of an endpoint may be, in bytes.
func (s *Server) limitOf(r dialect.Route) int64 {
	switch {
	case r.MaxBody > 0:
		return r.MaxBody
	case r.Pictures && s.service.SeesAny():
		return s.opts.MaxBody
	}
	return min(s.opts.MaxBody, dialect.MaxText)
}

// tooLarge returns the error for a body that is too large.
func tooLarge(limit int64) *fault.Error {
	return fault.New(fault.BodyTooLarge, "", "The request body is too large (maximum %d bytes).", limit)
}

// reservedBody reserves memory for a body as it grows, and gives the reading place back at its end.
type reservedBody struct {
	io.ReadCloser
	reservation *quota.Reservation
	kept        bool  // all of it is kept in memory
	size        int64 // what has been read
	reserved    int64
}

// reserveStep is how much is reserved at a time for a body of unknown size, in bytes.
const reserveStep = 64 << 10

// Read implements io.Reader.
func (b *reservedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.size += int64(n)
	if b.kept && b.size > b.reserved {
		b.reserved = (b.size + reserveStep - 1) / reserveStep * reserveStep
		if full := b.reservation.Grow(b.reserved); full != nil {
			return 0, service.Fault(full, "")
		}
	}
	if err != nil {
		b.reservation.Done()
	}
	return n, err
}

// limitedBody turns the error for a body that is too large into a fault.
type limitedBody struct{ io.ReadCloser }

// Read implements io.Reader.
func (b limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		err = tooLarge(large.Limit)
	}
	return n, err
}

// Bodies returns how many requests have memory for their bodies, how many of them are being read, and the bytes.
func (s *Server) Bodies() (requests, reading int, bytes int64) { return s.bodies.Used() }

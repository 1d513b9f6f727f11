package server

import (
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"serve/fault"
)

// Headers of llm-d's router and of the clients behind it.
const (
	// fairnessHeader names for whom of its clients a router asks. It is believed only of proxies that are trusted
	// (believe): whoever could name himself anew with each request would have the share of many.
	fairnessHeader = "X-Llm-D-Inference-Fairness-Id"

	// firstTokenHeader is how long the first token may take, in milliseconds. A request that cannot begin in that time
	// is refused rather than kept, so that the router can send it to another server.
	firstTokenHeader = "X-Llm-D-Slo-Ttft-Ms"
)

// maxFlow is the maximum length of the name of a router's client, in bytes.
const maxFlow = 256

// readRouter reads what a router says of a request.
func (s *Server) readRouter(c *gin.Context) {
	x := exchangeOf(c)
	if !x.endpoint.Work {
		return
	}
	if e := x.readFlow(c.Request.Header.Get(fairnessHeader)); e != nil {
		s.fail(c, e)
		c.Abort()
		return
	}
	if e := x.readPatience(c.Request.Header.Get(firstTokenHeader)); e != nil {
		s.fail(c, e)
		c.Abort()
	}
}

func (x *exchange) readFlow(given string) *fault.Error {
	if len(given) > maxFlow {
		return fault.New(fault.InvalidValue, "", "Invalid header '%s': it has %d bytes (maximum %d).",
			fairnessHeader, len(given), maxFlow)
	}
	x.call.Flow = given
	return nil
}

func (x *exchange) readPatience(given string) *fault.Error {
	if given == "" {
		return nil
	}
	ms, err := strconv.ParseInt(given, 10, 64)
	if err != nil || ms < 1 || ms > maxTimeout.Milliseconds() {
		return fault.New(fault.InvalidValue, "",
			"Invalid header '%s': it must be a whole number of milliseconds from 1 to %d.",
			firstTokenHeader, maxTimeout.Milliseconds())
	}
	x.call.Patience = time.Duration(ms) * time.Millisecond
	return nil
}

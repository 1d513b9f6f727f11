package service

import (
	"context"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
)

// Auditor records what is done for a call. Its methods may be called by any of the call's goroutines.
type Auditor interface {
	// Received is called with the body of the request, which must not be changed, before anything else.
	Received(body []byte)
	// Reads is called with a conversation that becomes a prompt.
	Reads(*prompt.Conversation)
	// Begins is called before a model computes for the call, which must not happen if it returns an error. The works are
	// numbered from first on.
	Begins(ctx context.Context, model *pool.Lease, works []Asked) (first int, err error)
	// Answers is called with the stream of a work, and Drew with its events, in the form that the client gets.
	Answers(work int, stream *engine.Stream)
	Drew(work int, e *engine.Event)
	// Computed is called when an embedding or scores were computed, of so many tokens.
	Computed(work, tokens int, err error)
	// Acted is called when something was done to the server.
	Acted(a Act) error
	// Ends is called before the last byte of the answer is sent, which must not happen if it returns a fault: with why
	// the answer has failed, if it has, and with its last bytes, unless they are written before the handler returns.
	// Those of work that continues after the response are the whole answer. Only the first call counts.
	Ends(failed *fault.Error, last []byte) *fault.Error
}

// Asked is what a model is asked to compute.
type Asked struct {
	Request *engine.Request  // nil for embeddings and scores
	Inputs  [][]engine.Token // of embeddings
	Texts   []string         // of scores
}

// Act is something that a client has done to the server's models.
type Act struct {
	Kind   string // as in package audit
	Object string // the model
	Detail map[string]string
	Err    error
}

// begins tells the call's auditor that a model is going to compute.
func (c *Call) begins(ctx context.Context, model *pool.Lease, works []Asked) (first int, err error) {
	if c.Audit == nil {
		return 0, nil
	}
	return c.Audit.Begins(ctx, model, works)
}

// computed tells the call's auditor about an embedding or scores.
func (c *Call) computed(work, tokens int, err error) {
	if c.Audit != nil {
		c.Audit.Computed(work, tokens, err)
	}
}

// Received notes the size of the request's body, and tells the call's auditor about it.
func (c *Call) Received(body []byte) {
	c.size = len(body)
	if c.Audit != nil {
		c.Audit.Received(body)
	}
}

// Ends records the end of the call, before the last bytes of its answer are sent; see Auditor.
func (c *Call) Ends(failed *fault.Error, last []byte) *fault.Error {
	if c.Audit == nil {
		return nil
	}
	return c.Audit.Ends(failed, last)
}

// act records what the context's client has done, and returns its failure, or that of recording it.
func act(ctx context.Context, kind, object string, detail map[string]string, done *fault.Error) *fault.Error {
	call := CallOf(ctx)
	if call.Audit == nil {
		return done
	}
	a := Act{Kind: kind, Object: object, Detail: detail}
	if done != nil {
		a.Err = done
	}
	if err := call.Audit.Acted(a); err != nil && done == nil {
		return Fault(err, "")
	}
	return done
}

// Kinds of acts, as package audit names them.
const (
	actPulled  = "model.pulled"
	actNamed   = "model.named"
	actDeleted = "model.deleted"
)

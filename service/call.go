package service

import (
	"context"
	"strings"
	"sync"
	"time"

	"serve/access"
	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/quota"
)

// Call is the part of a request that does not depend on the endpoint: the client, and the work that
// models do for it. It is passed in the request's context.
type Call struct {
	Client string // identifies the caller, for fair sharing of the models
	// Tenant is whose the request is, and what it leaves: clients of one tenant share both. Empty without keys.
	Tenant string
	// Guarded says that the server has keys: what needs a scope needs a principal that has it.
	Guarded bool
	// Principal is who asks, if the server has keys; nil for nobody, where nobody has to be known.
	Principal *access.Principal
	// Use is what the request takes of what its principal may use; nil for no limits.
	Use *access.Use
	// Manages says that the caller may manage the server's models: by its key's scope, and where the server has no
	// keys as a program of this machine.
	Manages bool
	// Reproducible asks for what does not depend on other requests; see engine.Caller.
	Reproducible bool
	// Flow is for whom of its clients the caller asks, if it is a router that says so: they share fairly, as clients do.
	Flow string
	// Patience is the longest time that the work may be in the queue of a model; 0 for that of the queue.
	Patience time.Duration
	// Seed is what its answers are drawn with, whatever the request says; nil for what that says.
	Seed *uint32
	// Yields marks work that nobody waits for: it takes what others leave, whatever tier it asks for.
	Yields bool

	// Audit records what is done for the call; nil for nobody.
	Audit Auditor

	// Report, if not nil, is called when the work of a detached call has ended.
	Report func(context.Context)

	// Workers computes what has to be computed to read the request; nil for no limit.
	Workers *quota.Workers
	// Reservation is the memory of the request, which a detached call releases when its work has ended; may be nil.
	Reservation *quota.Reservation

	account quota.Account // of the CPU time that reading it has taken
	size    int           // of its body, in bytes, when it has been received

	mu       sync.Mutex
	work     []Work
	detached bool
}

// Work is what a model did for a request.
type Work struct {
	Model   string
	Request *engine.Request // nil for embeddings and scores
	Stream  *engine.Stream  // nil for embeddings and scores
	Tokens  int             // of the inputs of embeddings and scores
	Begun   time.Time
	Ended   time.Time
	Err     error
}

// Reproducible reports whether the work depends on nothing but its request, whether the client asked for that or the
// server's own configuration.
func (w *Work) Reproducible() bool { return w.Stream != nil && w.Stream.Reproducible() }

// Counted returns how many tokens the work has read and written: none if it has failed as a whole, or never begun.
func (w *Work) Counted() int {
	switch {
	case w.Stream == nil && w.Err != nil:
		return 0
	case w.Stream == nil:
		return w.Tokens
	case w.Stream.Timeline().Begun.IsZero():
		return 0
	}
	usage := w.Stream.Usage()
	return usage.Prompt + usage.Completion
}

type callKey struct{}

// WithCall puts a call into a context.
func WithCall(ctx context.Context, c *Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// CallOf returns the call of a context, or an empty one.
func CallOf(ctx context.Context) *Call {
	if c, ok := ctx.Value(callKey{}).(*Call); ok {
		return c
	}
	return &Call{}
}

// caller returns how a model sees the call, which asks for a tier.
func (c *Call) caller(asked engine.Tier) engine.Caller {
	if c.Yields {
		asked = engine.TierFlex
	}
	by := engine.Caller{
		Client:       c.Client,
		Tenant:       c.Tenant,
		Tier:         asked,
		Patience:     c.Patience,
		Reproducible: c.Reproducible,
	}
	if c.Flow != "" {
		by.Client += flowMark + c.Flow
	}
	return by
}

// flowMark is between the name of a client and that of one of its flows in the queues of models.
const flowMark = "\x00"

// WithoutFlow returns the client that something waits for in the queue of a model.
func WithoutFlow(queued string) string {
	client, _, _ := strings.Cut(queued, flowMark)
	return client
}

// Require returns a fault unless the caller has one of some scopes. Without keys everybody has all.
func (c *Call) Require(one access.Scope) *fault.Error {
	switch {
	case !c.Guarded:
		return nil
	case c.Principal == nil:
		return Anonymous()
	case !c.Principal.May(one):
		return MissingScope(one)
	}
	return nil
}

// Anonymous returns the fault for a client that has sent no key.
func Anonymous() *fault.Error {
	return fault.New(fault.Unauthenticated, "", "You didn't provide an API key. You need to provide your API key in an "+
		"Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).")
}

// RequireManager refuses what only those may do who manage the server's models.
func RequireManager(ctx context.Context) *fault.Error {
	call := CallOf(ctx)
	switch {
	case call.Manages:
		return nil
	case call.Guarded:
		return MissingScope(access.Admin)
	}
	return fault.New(fault.Forbidden, "", "Only programs on the server's own machine may manage its models.")
}

// MissingScope returns the fault for a key without a scope that is needed; of several, one.
func MissingScope(needed access.Scope) *fault.Error {
	return fault.New(fault.MissingScope, "", "You have insufficient permissions for this operation. Missing scopes: %s.",
		strings.Join(needed.Names(), " or "))
}

func (c *Call) note(w Work) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.work = append(c.work, w)
}

// First returns the stream of the first work, or nil.
func (c *Call) First() *engine.Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.work) == 0 {
		return nil
	}
	return c.work[0].Stream
}

// TakeWork returns the work so far and removes it from the call.
func (c *Call) TakeWork() []Work {
	c.mu.Lock()
	defer c.mu.Unlock()
	work := c.work
	c.work = nil
	return work
}

// Detach marks work that continues after the response. The caller calls done when it has ended.
func (c *Call) Detach() (done func(context.Context)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.detached = true
	return func(ctx context.Context) {
		if c.Report != nil {
			c.Report(ctx)
		}
		if c.Reservation != nil {
			c.Reservation.Release()
		}
	}
}

// Detached reports whether work continues after the response.
func (c *Call) Detached() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.detached
}

// Embed computes embeddings on behalf of the context's client.
func Embed(ctx context.Context, model *pool.Lease, inputs [][]engine.Token) ([][]float32, error) {
	call := CallOf(ctx)
	var vectors [][]float32
	_, err := call.read(ctx, model, inputs, Asked{Inputs: inputs}, func() (err error) {
		vectors, err = model.Engine.Embed(ctx, call.caller(engine.TierDefault), inputs)
		return err
	})
	return vectors, err
}

// read counts the tokens of inputs, and has a model compute them if they may be.
func (c *Call) read(
	ctx context.Context, model *pool.Lease, inputs [][]engine.Token, asked Asked, compute func() error,
) (tokens int, err error) {
	for _, in := range inputs {
		tokens += len(in)
	}
	if _, err := c.Use.Reserve(access.Need{Prompt: tokens}); err != nil {
		return 0, err
	}

	work, err := c.begins(ctx, model, []Asked{asked})
	if err != nil {
		return 0, err
	}
	w := Work{Model: model.ID, Tokens: tokens, Begun: time.Now()}
	err = compute()
	c.computed(work, tokens, err)
	w.Ended = time.Now()
	w.Err = err
	c.note(w)
	return tokens, err
}

// Rank scores documents by their relevance to a query, on behalf of the context's client.
func Rank(
	ctx context.Context, model *pool.Lease, query string, documents []string,
) (scores []float32, tokens int, err error) {
	call := CallOf(ctx)
	by := call.caller(engine.TierDefault)
	inputs, err := model.Engine.RankInputs(ctx, by, query, documents)
	if err != nil {
		return nil, 0, err
	}
	tokens, err = call.read(ctx, model, inputs, Asked{Texts: append([]string{query}, documents...)}, func() (err error) {
		scores, err = model.Engine.Rank(ctx, by, inputs)
		return err
	})
	return scores, tokens, err
}

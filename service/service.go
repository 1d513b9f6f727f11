// Package service is the API-independent layer between dialects and models: it finds models, loads
// them, runs conversations, and converts errors to faults.
package service

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
	"serve/quota"
)

// Options configure a Service.
type Options struct {
	Pool     *pool.Pool
	Models   []*pool.Model
	LoadWait time.Duration // how long a request waits for its model to load
	Fetch    prompt.Fetch  // downloads images
	Library  Library       // manages the models that are stored here; nil if only Models are served
	Workers  int           // requests that are rendered and tokenized for a model at the same time, 1
	Shares   *quota.Shares // by which clients have the workers; nil for shares of each model
}

// Service provides access to a set of models.
type Service struct {
	opts      Options
	templates prompt.Templates
	opening   sync.Mutex // held while a stored model is opened
	workers   sync.Map   // *quota.Workers by the ID of a model
	vision    sync.Map   // whether a *pool.Model that has been loaded reads pictures

	mu       sync.Mutex // guards what follows
	models   []*pool.Model
	byName   map[string]*pool.Model
	byFolded map[string]*pool.Model // see fold
	given    map[string]*pool.Model // names that clients have given, which are in byName, too
}

// New returns a Service. It returns an error if two models share a name.
func New(o Options) (*Service, error) {
	s := &Service{
		opts:     o,
		models:   slices.Clone(o.Models),
		byName:   map[string]*pool.Model{},
		byFolded: map[string]*pool.Model{},
		given:    map[string]*pool.Model{},
	}
	for _, m := range o.Models {
		for _, name := range append([]string{m.ID}, m.Aliases...) {
			if other, taken := s.byName[name]; taken && other != m {
				return nil, fmt.Errorf("two models are named %q", name)
			}
			s.add(name, m)
		}
	}
	return s, nil
}

// Limits returns the limits of a model that is in memory.
func (s *Service) Limits(m *pool.Model) (engine.Limits, bool) {
	e, ok := s.opts.Pool.Loaded(m)
	if !ok {
		return engine.Limits{}, false
	}
	return e.Limits(), true
}

// Model loads a model if needed. The caller must release the lease.
func (s *Service) Model(ctx context.Context, name string) (*pool.Lease, *fault.Error) {
	m, e := s.Find(ctx, name)
	if e != nil {
		return nil, e
	}
	if CallOf(ctx).Yields && s.opts.Pool.Wanted(m) {
		return nil, Fault(pool.ErrLoading, "model")
	}
	l, err := s.opts.Pool.Acquire(ctx, m, CallOf(ctx).Tenant, s.opts.LoadWait)
	if err != nil {
		return nil, Fault(err, "model")
	}
	return l, nil
}

// Worker is Model for requests that will be queued. It refuses them early if the queue is full,
// before any work has been done.
func (s *Service) Worker(ctx context.Context, name string, t engine.Tier) (*pool.Lease, *fault.Error) {
	l, e := s.Model(ctx, name)
	if e != nil {
		return nil, e
	}
	if err := l.Engine.Admits(ctx, CallOf(ctx).caller(t)); err != nil {
		l.Release()
		return nil, Fault(err, "")
	}
	return l, nil
}

// Prompt builds the prompt of a conversation for a model.
func (s *Service) Prompt(ctx context.Context, model *pool.Lease, c *prompt.Conversation) (*prompt.Prompt, error) {
	if call := CallOf(ctx); call.Audit != nil {
		call.Audit.Reads(c)
	}
	b := prompt.Builder{Model: NewReader(ctx, model), Name: model.ID, Fetch: s.opts.Fetch, Templates: &s.templates}
	var p *prompt.Prompt
	err := s.Ask(ctx, model, func() (err error) {
		p, err = b.Build(ctx, c)
		return err
	})
	return p, err
}

// NewReader returns what has a model render and tokenize on behalf of the context's client, until
// the context ends.
func NewReader(ctx context.Context, model *pool.Lease) prompt.Reader {
	call := CallOf(ctx)
	if call.size > longText {
		ctx = engine.Late(ctx)
	}
	return prompt.Reader{Engine: model.Engine, Context: ctx, By: call.caller(engine.TierDefault)}
}

// Forget has the models in memory drop what a tenant's requests have left in them: what its clients have asked, and
// what is computed of it. Call it when the tenant's last key has been revoked, and its requests have been ended.
func (s *Service) Forget(tenant string) { s.opts.Pool.Forget(tenant) }

// Length counts the tokens of a conversation's prompt for a model, also if it has no room in the context. A prompt that
// is far longer is not split to its end: its count is then less than its length, but more than the context; with exact
// this is an error. Field is the name of the conversation in errors.
func (s *Service) Length(
	ctx context.Context, model *pool.Lease, c *prompt.Conversation, field string, exact bool,
) (int, *fault.Error) {
	p, err := s.Prompt(ctx, model, c)
	if err == nil {
		return len(p.Tokens), nil
	}
	e := Fault(err, field)
	if e.Length == nil || e.Length.AtLeast && exact {
		return 0, e
	}
	return e.Length.Tokens, nil
}

// Converse generates the next message of a conversation. The request contains the sampling
// parameters and the tier; field is the name of the conversation in errors. The caller must close
// the reply.
func (s *Service) Converse(
	ctx context.Context, name string, c *prompt.Conversation, r engine.Request, field string,
) (*Reply, *fault.Error) {
	model, e := s.Worker(ctx, name, r.Tier)
	if e != nil {
		return nil, e
	}
	if e := CheckBias(model, &r); e != nil {
		model.Release()
		return nil, e
	}
	reply := &Reply{Model: model, Verify: c.Verifier(r.Choices, len(r.Stop) > 0)}

	p, err := s.Prompt(ctx, model, c)
	if err != nil {
		reply.Close()
		return nil, Fault(err, field)
	}
	reply.Notes = p.Notes
	reply.NotEnforced = p.NotEnforced
	p.Ask(&r)
	if err := reply.Generate(ctx, r); err != nil {
		reply.Close()
		return nil, Fault(err, field)
	}
	return reply, nil
}

// CheckBias returns an error if a request has a bias for a token that the model does not have.
func CheckBias(model *pool.Lease, r *engine.Request) *fault.Error {
	tokens := len(model.Engine.Model().Pieces)
	for _, b := range r.Sampling.LogitBias {
		if int(b.Token) >= tokens {
			return fault.New(fault.InvalidValue, "logit_bias",
				"Invalid 'logit_bias': token %d is outside the vocabulary (size %d).", b.Token, tokens)
		}
	}
	return nil
}

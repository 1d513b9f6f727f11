// Package service is what can be asked of the models, in no API's words: whoever speaks an API
// finds a model here, has it work, and learns what an error means to a client.
package service

import (
	"context"
	"fmt"
	"strings"
	"time"

	"serve/engine"
	"serve/fault"
	"serve/pool"
	"serve/prompt"
)

// Options are what a Service is made of.
type Options struct {
	Pool     *pool.Pool
	Models   []*pool.Model
	LoadWait time.Duration // that a request waits for its model to be loaded
	Fetch    prompt.Fetch  // brings images that are elsewhere
}

// Service answers for some models.
type Service struct {
	opts   Options
	byName map[string]*pool.Model
}

// New returns a Service. It fails if two models have one name.
func New(o Options) (*Service, error) {
	s := &Service{opts: o, byName: map[string]*pool.Model{}}
	for _, m := range o.Models {
		for _, name := range append([]string{m.ID}, m.Aliases...) {
			if other, taken := s.byName[name]; taken && other != m {
				return nil, fmt.Errorf("two models are called %q", name)
			}
			s.byName[name] = m
		}
	}
	return s, nil
}

// Models are those served, in order.
func (s *Service) Models() []*pool.Model { return s.opts.Models }

// Named finds a model by a name that a request gives.
func (s *Service) Named(name string) (*pool.Model, *fault.Error) {
	if m, ok := s.byName[name]; ok {
		return m, nil
	}
	have := make([]string, len(s.opts.Models))
	for i, m := range s.opts.Models {
		have[i] = m.ID
	}
	return nil, fault.New(fault.ModelNotFound, "model",
		"The model '%s' does not exist here. Served: %s.", name, strings.Join(have, ", "))
}

// Model brings a model into memory. The caller releases it.
func (s *Service) Model(ctx context.Context, name string) (*pool.Lease, *fault.Error) {
	m, e := s.Named(name)
	if e != nil {
		return nil, e
	}
	l, err := s.opts.Pool.Acquire(ctx, m, s.opts.LoadWait)
	if err != nil {
		return nil, Fault(err, "model")
	}
	return l, nil
}

// Worker is Model for what is to be queued: what would be refused costs no more than this.
func (s *Service) Worker(ctx context.Context, name string, t engine.Tier) (*pool.Lease, *fault.Error) {
	l, e := s.Model(ctx, name)
	if e != nil {
		return nil, e
	}
	by := engine.Caller{Client: CallOf(ctx).Client, Tier: t}
	if err := l.Engine.Admits(ctx, by); err != nil {
		l.Release()
		return nil, Fault(err, "")
	}
	return l, nil
}

// Prompt makes a conversation's prompt for a model.
func (s *Service) Prompt(ctx context.Context, model *pool.Lease, c *prompt.Conversation) (*prompt.Prompt, error) {
	b := prompt.Builder{Model: model.Engine, Name: model.ID, Fetch: s.opts.Fetch}
	return b.Build(ctx, c)
}

// Converse has a model go on with a conversation. The request says how, and for which tier;
// field is what the conversation is called in errors. The caller closes the reply.
func (s *Service) Converse(
	ctx context.Context, name string, c *prompt.Conversation, r engine.Request, field string,
) (*Reply, *fault.Error) {
	model, e := s.Worker(ctx, name, r.Tier)
	if e != nil {
		return nil, e
	}
	reply := &Reply{Model: model, Verify: c.Verifier(r.Choices)}

	p, err := s.Prompt(ctx, model, c)
	if err != nil {
		reply.Close()
		return nil, Fault(err, field)
	}
	p.Ask(&r)
	if err := reply.Generate(ctx, r); err != nil {
		reply.Close()
		return nil, Fault(err, field)
	}
	return reply, nil
}

package service

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"serve/fault"
	"serve/pool"
)

// AnyName is the alias of the model that answers for every name that no other has.
const AnyName = "*"

// maxAliases bounds the names that clients give to models while the server runs.
const maxAliases = 1024

// fold returns the form of a name in which names are compared that are not the same: without case,
// without the tag latest and without the address of the Hub or of Ollama's registry, which clients write
// or leave out as they like.
func fold(name string) string {
	name = strings.ToLower(name)
	for _, prefix := range []string{"hf.co/", "huggingface.co/", "registry.ollama.ai/library/"} {
		name = strings.TrimPrefix(name, prefix)
	}
	return strings.TrimSuffix(name, ":latest")
}

// All returns all models: those that the server was started with, in order, and then those that clients have opened.
// Clients see Models.
func (s *Service) All() []*pool.Model {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.models)
}

// Models returns the models that the context's client may use, in the order of All.
func (s *Service) Models(ctx context.Context) []*pool.Model {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.visible(ctx)
}

func (s *Service) visible(ctx context.Context) []*pool.Model {
	return slices.DeleteFunc(slices.Clone(s.models), func(m *pool.Model) bool { return !s.may(ctx, m) })
}

// may reports whether the context's client may use a model, by whatever name: a key for some models is for those that
// have the names that it lists. The name for any other is none of them. The caller holds the mutex.
func (s *Service) may(ctx context.Context, m *pool.Model) bool {
	p := CallOf(ctx).Principal
	return p == nil || len(p.Models) == 0 ||
		slices.ContainsFunc(p.Models, func(name string) bool { return name != AnyName && s.lookUp(name) == m })
}

// mayOpen reports whether the context's client may use a model that is stored under a name, and not served.
func mayOpen(ctx context.Context, name string) bool {
	p := CallOf(ctx).Principal
	return p == nil || len(p.Models) == 0 ||
		slices.ContainsFunc(p.Models, func(known string) bool { return fold(known) == fold(name) })
}

// Named finds a model by its name or an alias. One that the context's client may not use is not there for it.
func (s *Service) Named(ctx context.Context, name string) (*pool.Model, *fault.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range []string{name, AnyName} {
		if m := s.lookUp(known); m != nil && s.may(ctx, m) {
			return m, nil
		}
	}

	var have []string
	for _, m := range s.visible(ctx) {
		served := m.ID
		if len(m.Aliases) > 0 {
			served += " (" + strings.Join(m.Aliases, ", ") + ")"
		}
		have = append(have, served)
	}
	if len(have) == 0 {
		return nil, fault.New(fault.ModelNotFound, "model", "The model '%s' is not served.", name)
	}
	return nil, fault.New(fault.ModelNotFound, "model",
		"The model '%s' is not served. Served models: %s.", name, strings.Join(have, ", "))
}

// lookUp returns the model of a name, or nil. The caller holds the mutex.
func (s *Service) lookUp(name string) *pool.Model {
	if m, ok := s.byName[name]; ok {
		return m
	}
	return s.byFolded[fold(name)]
}

// add adds a name of a model. The caller holds the mutex, or is New. A name that differs from another
// only as fold has it belongs to the first.
func (s *Service) add(name string, m *pool.Model) {
	s.byName[name] = m
	if _, taken := s.byFolded[fold(name)]; !taken {
		s.byFolded[fold(name)] = m
	}
}

// drop removes all names of which gone is true. The caller holds the mutex.
func (s *Service) drop(gone func(name string, m *pool.Model) bool) {
	for name, m := range s.byName {
		if gone(name, m) {
			delete(s.byName, name)
		}
	}
	clear(s.byFolded)
	for _, m := range s.models {
		s.byFolded[fold(m.ID)] = m
	}
	for _, name := range slices.Sorted(maps.Keys(s.byName)) {
		if _, taken := s.byFolded[fold(name)]; !taken {
			s.byFolded[fold(name)] = s.byName[name]
		}
	}
}

// Find is Named for requests: a client that manages models may use any that is stored on this machine, which is then
// served like the others.
func (s *Service) Find(ctx context.Context, name string) (*pool.Model, *fault.Error) {
	m, e := s.Named(ctx, name)
	if e == nil || s.opts.Library == nil || !CallOf(ctx).Manages || s.isServed(name) {
		return m, e
	}

	// One at a time, so that two requests do not open a model twice.
	s.opening.Lock()
	defer s.opening.Unlock()
	if m, e := s.Named(ctx, name); e == nil {
		return m, nil
	}
	stored, err := s.storedName(ctx, name)
	if err != nil {
		return nil, Fault(err, "model")
	}
	if !mayOpen(ctx, stored) {
		return nil, e
	}
	opened, err := s.opts.Library.Open(ctx, stored)
	if err != nil {
		if known := Fault(err, "model"); known.Kind != fault.ModelNotFound {
			return nil, known
		}
		return nil, e
	}
	return s.adopt(name, opened), nil
}

// isServed reports whether a name is that of a model, whoever may use it.
func (s *Service) isServed(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookUp(name) != nil
}

// storedName returns the spelling of a name under which a model is stored, or else the name itself.
func (s *Service) storedName(ctx context.Context, name string) (string, error) {
	stored, err := s.opts.Library.Stored(ctx)
	for _, facts := range stored {
		if fold(facts.Name) == fold(name) {
			return facts.Name, nil
		}
	}
	return name, err
}

// adopt serves an opened model, unless it is served already under its ID.
func (s *Service) adopt(name string, m *pool.Model) *pool.Model {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.lookUp(m.ID); known != nil {
		s.add(name, known)
		return known
	}
	s.models = append(s.models, m)
	s.add(m.ID, m)
	s.add(name, m)
	return m
}

// Names returns the names that clients have given to a model while the server runs.
func (s *Service) Names(m *pool.Model) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, target := range s.given {
		if target == m {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Name gives a model another name, until the server ends. It is the only copy of a model that there is. A name that
// was given to a model which the context's client may not use stays where it is.
func (s *Service) Name(ctx context.Context, m *pool.Model, name string) *fault.Error {
	return act(ctx, actNamed, m.ID, map[string]string{"name": name}, s.name(ctx, m, name))
}

func (s *Service) name(ctx context.Context, m *pool.Model, name string) *fault.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.lookUp(name); other != nil && other != m && (s.given[name] == nil || !s.may(ctx, other)) {
		return fault.New(fault.InvalidValue, "destination", "The name %q already belongs to another model.", name)
	}
	if len(s.given) >= maxAliases {
		return fault.New(fault.InvalidValue, "destination", "Too many names (maximum %d).", maxAliases)
	}
	if s.given[name] != nil {
		s.drop(func(other string, _ *pool.Model) bool { return other == name })
	}
	s.given[name] = m
	s.add(name, m)
	return nil
}

// unname removes a name that a client has given to a model, if it is one, and else returns the model of the name, if
// there is one. For a client that may not use the model there is none.
func (s *Service) unname(ctx context.Context, name string) (m *pool.Model, done bool, e *fault.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m = s.lookUp(name)
	if m != nil && !s.may(ctx, m) {
		return nil, false, notHere(name)
	}
	given := s.givenAs(name, m)
	if given == "" {
		return m, false, nil
	}
	delete(s.given, given)
	s.drop(func(other string, _ *pool.Model) bool { return other == given })
	return nil, true, nil
}

// givenAs returns how a client has spelled a name that it has given to a model, if it is one. The caller holds the
// mutex.
func (s *Service) givenAs(name string, m *pool.Model) string {
	if _, known := s.byName[name]; known {
		if s.given[name] == nil {
			return ""
		}
		return name
	}
	for _, given := range slices.Sorted(maps.Keys(s.given)) {
		if s.given[given] == m && fold(given) == fold(name) && fold(m.ID) != fold(name) {
			return given
		}
	}
	return ""
}

// notHere returns the fault for a model that is not stored, or is none for the client that asks.
func notHere(name string) *fault.Error {
	return fault.New(fault.ModelNotFound, "model", "model '%s' not found", name)
}

// Remove removes a name that a client has given to a model, or else deletes the files of a model, which
// is unloaded. A model that the server was started with stays.
func (s *Service) Remove(ctx context.Context, name string) *fault.Error {
	return act(ctx, actDeleted, name, nil, s.remove(ctx, name))
}

func (s *Service) remove(ctx context.Context, name string) *fault.Error {
	m, done, e := s.unname(ctx, name)
	if done || e != nil {
		return e
	}
	if m != nil && s.AtStart(m) {
		return fault.New(fault.InvalidValue, "model",
			"The model %q cannot be deleted while this server runs: it was started with it. Stop the server first.", name)
	}
	if s.opts.Library == nil {
		return notHere(name)
	}
	var err error
	if m != nil {
		name = m.ID
		s.opts.Pool.Unload(m)
	} else if name, err = s.storedName(ctx, name); err != nil {
		return Fault(err, "model")
	} else if !mayOpen(ctx, name) {
		return notHere(name)
	}
	if err := s.opts.Library.Remove(ctx, name); err != nil {
		return Fault(err, "model")
	}

	if m != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.models = slices.DeleteFunc(s.models, func(o *pool.Model) bool { return o == m })
		for given, target := range s.given {
			if target == m {
				delete(s.given, given)
			}
		}
		s.drop(func(_ string, o *pool.Model) bool { return o == m })
	}
	return nil
}

// AtStart reports whether the server was started with a model, which then cannot be removed.
func (s *Service) AtStart(m *pool.Model) bool { return slices.Contains(s.opts.Models, m) }

// Catalog lists the models that can be downloaded by a short name; nil if the server manages no models.
func (s *Service) Catalog() *Catalog {
	if s.opts.Library == nil {
		return nil
	}
	return s.opts.Library.Catalog()
}

// Facts describes a model.
func (s *Service) Facts(ctx context.Context, m *pool.Model) (*Facts, *fault.Error) {
	if s.opts.Library == nil {
		return &Facts{Name: m.ID, Modified: m.Created}, nil
	}
	facts, err := s.opts.Library.Facts(ctx, m.ID)
	if err != nil {
		return nil, Fault(err, "model")
	}
	return facts, nil
}

// Stored describes the models that the context's client may use: those that are served, and for one that manages
// models those that are stored on this machine.
func (s *Service) Stored(ctx context.Context) ([]*Facts, *fault.Error) {
	var list []*Facts
	for _, m := range s.Models(ctx) {
		facts, e := s.Facts(ctx, m)
		if e != nil {
			return nil, e
		}
		list = append(list, facts)
	}
	if s.opts.Library == nil || !CallOf(ctx).Manages {
		return list, nil
	}

	stored, err := s.opts.Library.Stored(ctx)
	if err != nil {
		return nil, Fault(err, "")
	}
	for _, facts := range stored {
		if _, e := s.Named(ctx, facts.Name); e != nil && !s.isServed(facts.Name) && mayOpen(ctx, facts.Name) {
			list = append(list, facts)
		}
	}
	return list, nil
}

// Pull downloads a model. A client that has left does not end it for others: they ask again.
func (s *Service) Pull(ctx context.Context, name string, report func(PullProgress)) *fault.Error {
	if s.opts.Library == nil {
		return fault.New(fault.Unsupported, "", "This server does not manage models.")
	}
	if !mayOpen(ctx, name) {
		return act(ctx, actPulled, name, nil, notHere(name))
	}
	err := s.opts.Library.Pull(ctx, name, report)
	var known *fault.Error
	if err != nil && !errors.As(err, &known) {
		known = Fault(err, "model")
	}
	return act(ctx, actPulled, name, nil, known)
}

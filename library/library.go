// Package library turns names that users type into models: it finds or downloads them, and
// reports what it found.
package library

import (
	"context"

	"serve/hub"
	"serve/loader"
	"serve/models"
	"serve/terminal"
)

// Resolver has the models on this machine, and those that it can download.
type Resolver struct {
	Store    *models.Store
	Terminal *terminal.Terminal
	Lookup   func(string) string // returns environment variables
}

// resolve parses a reference. If it is incomplete, resolve reports its meaning: the one that it had
// before on this machine or, with update, the current one.
func (l *Resolver) resolve(name string, update bool) (*models.Reference, error) {
	r, err := models.ParseReference(hub.ExpandHome(name, l.Lookup), models.FileExists)
	if err != nil || !r.Chosen {
		return r, err
	}
	today := r.Entry
	if !update {
		r = l.Store.Settle(r)
	}

	if r.Entry.Name == today.Name {
		l.Terminal.Note("%s stands for %s", name, today.Name)
		return r, nil
	}
	l.Terminal.Note("on this machine %s still stands for %s; the catalog now has %s, which serve pull --update downloads",
		name, r.Entry.Name, today.Name)
	return r, nil
}

// Find returns a model that is on this machine.
func (l *Resolver) Find(name string) (*models.Local, error) {
	r, err := l.resolve(name, false)
	if err != nil {
		return nil, err
	}
	return l.Store.Find(r)
}

// FindAll returns the named models, or all models on this machine if none are named.
func (l *Resolver) FindAll(names []string) ([]*models.Local, error) {
	if len(names) == 0 {
		return l.Store.List()
	}

	var locals []*models.Local
	for _, name := range names {
		local, err := l.Find(name)
		if err != nil {
			return nil, err
		}
		locals = append(locals, local)
	}
	return locals, nil
}

// Pull returns a model, downloading it if it is missing, and reports the file and its license. With
// update it looks for a newer revision of a model that is already on this machine.
func (l *Resolver) Pull(ctx context.Context, name string, update bool) (*models.Local, error) {
	r, err := l.resolve(name, update)
	if err != nil {
		return nil, err
	}
	local, downloaded, err := l.Store.Pull(ctx, r, update)
	if err != nil {
		return nil, err
	}
	if downloaded {
		l.Terminal.Fact("pulled", "%s: %s from %s", local.Name, local.Weights[0].Path, local.Repo)
		l.Terminal.Fact("license", "%s", license(local))
	}
	return local, nil
}

func license(l *models.Local) string {
	text := l.License
	if text == "" {
		text = "unknown: see the repository"
	}
	if l.Link != "" {
		text += " " + l.Link
	}
	return text
}

// ChooseProjector assigns a model its projector for images. Projectors given without a model's name
// are for the first model.
func (l *Resolver) ChooseProjector(p *loader.Projectors, local *models.Local, first bool) error {
	unusable, err := p.Choose(local, first)
	if unusable != nil {
		l.Terminal.Warn("%s cannot read images: %v", local.Name, unusable)
	}
	return err
}

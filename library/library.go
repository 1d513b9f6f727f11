// Package library turns the names that people type into models: it finds or downloads them, and
// says what it found.
package library

import (
	"context"

	"serve/hub"
	"serve/loader"
	"serve/models"
	"serve/terminal"
)

// Library is the models of this machine, and those that it can download.
type Library struct {
	Store    *models.Store
	Terminal *terminal.Terminal
	Lookup   func(string) string // returns environment variables
}

// resolve reads a reference, and says what it means if it leaves a choice to the catalog: what it
// meant before on this machine, or, with update, what it means today.
func (l *Library) resolve(name string, update bool) (*models.Reference, error) {
	r, err := models.ParseReference(hub.ExpandHome(name, l.Lookup), models.FileExists)
	if err != nil || !r.Chosen {
		return r, err
	}
	today := r.Entry
	if !update {
		r = l.Store.Settle(r)
	}

	if r.Entry.Name == today.Name {
		l.Terminal.Note("%s currently means %s", name, today.Name)
		return r, nil
	}
	l.Terminal.Note("%s still means %s on this machine; it now means %s, which serve pull --update downloads",
		name, r.Entry.Name, today.Name)
	return r, nil
}

// Find returns a model that is on this machine.
func (l *Library) Find(name string) (*models.Local, error) {
	r, err := l.resolve(name, false)
	if err != nil {
		return nil, err
	}
	return l.Store.Find(r)
}

// FindAll returns the models named, or all of this machine if none are.
func (l *Library) FindAll(names []string) ([]*models.Local, error) {
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

// Pull returns a model, downloading it if it is not here, and says what it is under which license.
// With update it looks for a newer revision of one that is here.
func (l *Library) Pull(ctx context.Context, name string, update bool) (*models.Local, error) {
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

// ChooseProjector gives a model the projector that it is to read images with. The first model is
// the one that projectors mean which name none.
func (l *Library) ChooseProjector(p *loader.Projectors, local *models.Local, first bool) error {
	unusable, err := p.Choose(local, first)
	if unusable != nil {
		l.Terminal.Warn("%s cannot read images: %v", local.Name, unusable)
	}
	return err
}

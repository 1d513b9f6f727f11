// Package provenance is serve sign, serve verify and serve licenses, and what decides which models may be served: it
// joins signatures, the policy and accepted licenses with the models on this machine.
package provenance

import (
	"context"
	"errors"
	"os"

	"golang.org/x/term"

	"serve/flagset"
	"serve/library"
	"serve/models"
	"serve/policy"
	"serve/terminal"
	"serve/terms"
)

// Rules say which models may be used. The zero value admits all that need no license to be accepted.
type Rules struct {
	Policy   string   // its file; "" for none
	Licenses []string // that are accepted
}

// Declare declares the flags of commands that download, import or load models.
func (r *Rules) Declare(f flagset.Set) {
	f.Text(&r.Policy, "policy", "",
		"JSON `file` that says which models may be used: by hash, signer, license or repository")
	f.List(&r.Licenses, "accept-license",
		"`license` of a model that you accept, such as gemma, if it restricts what the model may be used for")
}

// Admission returns what decides about models. Home is serve's own folder.
func (r Rules) Admission(home string, t *terminal.Terminal) (models.Admission, error) {
	gate := &terms.Gate{Book: terms.In(home), Accepted: r.Licenses}
	if in := os.Stdin; t.Interactive() && term.IsTerminal(int(in.Fd())) {
		gate.Ask = func(ctx context.Context, question string) (bool, error) { return t.Confirm(ctx, in, question) }
	}
	if r.Policy == "" {
		return gate.Admit, nil
	}
	p, err := policy.Read(r.Policy, home)
	if err != nil {
		return nil, usageError{err}
	}
	return func(ctx context.Context, c *models.Candidate) error {
		if err := p.Admit(ctx, c); err != nil {
			return err
		}
		return gate.Admit(ctx, c)
	}, nil
}

// Provenance is what all commands have.
type Provenance struct {
	Library  *library.Resolver
	Terminal *terminal.Terminal
	JSON     bool // print JSON
}

// Licenses prints which licenses were accepted, by whom and when.
func (c *Provenance) Licenses() error {
	list, err := terms.In(c.Library.Store.Home).List()
	if err != nil {
		return err
	}
	rows := [][]string{{"LICENSE", "ACCEPTED", "BY", "MODEL", "REPOSITORY"}}
	for _, a := range list {
		rows = append(rows, []string{a.License, a.Time.Format("2006-01-02 15:04:05Z"), a.By, a.Model, a.Repo})
	}
	switch {
	case c.JSON:
		return c.Terminal.PrintJSON(append([]terms.Acceptance{}, list...))
	case len(list) == 0:
		c.Terminal.Note("no license has been accepted; those that restrict a model's use are asked about when it is pulled")
		return nil
	}
	return c.Terminal.Table(rows)
}

// ErrUsage means that flags or arguments are wrong.
var ErrUsage = errors.New("invalid flags or arguments")

// usageError is an ErrUsage with the text of another error.
type usageError struct{ error }

// Is implements the interface of package errors.
func (usageError) Is(target error) bool { return target == ErrUsage }
func (e usageError) Unwrap() error      { return e.error }

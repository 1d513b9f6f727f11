package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"serve/access"
)

// scopePrefix is what the values of a claim begin with that are scopes: others are meant for other programs.
const scopePrefix = "serve:"

// allModels is the value of a claim of models that stands for all.
const allModels = "*"

// maxSubject is how long a subject may be, in bytes.
const maxSubject = 255

// claims are what a token says, by name.
type claims map[string]json.RawMessage

func parseClaims(text []byte) (claims, error) {
	var c claims
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, errors.New("its claims are not valid")
	}
	return c, nil
}

// find returns a claim: by its whole name, or else by a path in objects, such as realm_access.roles.
func (c claims) find(name string) json.RawMessage {
	if value, ok := c[name]; ok {
		return value
	}
	first, rest, nested := strings.Cut(name, ".")
	var inner claims
	if !nested || json.Unmarshal(c[first], &inner) != nil {
		return nil
	}
	return inner.find(rest)
}

// text returns a claim that is a text.
func (c claims) text(name string) (string, error) {
	var text *string
	if json.Unmarshal(c.find(name), &text) != nil || text == nil {
		return "", fmt.Errorf("its claim %s is no text, or is not there", name)
	}
	return *text, nil
}

// list returns a claim that is a list of texts, or one text.
func (c claims) list(name string) ([]string, error) {
	var list []string
	if one, err := c.text(name); err == nil {
		return []string{one}, nil
	}
	if json.Unmarshal(c.find(name), &list) != nil || list == nil {
		return nil, fmt.Errorf("its claim %s is no list of texts, or is not there", name)
	}
	return list, nil
}

// seconds returns a claim that is a time; there need be none.
func (c claims) seconds(name string) (at time.Time, found bool, err error) {
	value, found := c[name]
	if !found {
		return at, false, nil
	}
	var n *float64
	const most = 1 << 40 // far beyond any date
	if json.Unmarshal(value, &n) != nil || n == nil || *n < 0 || *n > most {
		return at, false, fmt.Errorf("its claim %s is no time", name)
	}
	return time.Unix(int64(*n), 0), true, nil
}

// checkClaims returns an error unless a token is of the issuer, for the audience, and for now.
func (o *Options) checkClaims(c claims, now time.Time) error {
	issuer, err := c.text("iss")
	if err != nil {
		return err
	}
	if issuer != o.Issuer {
		return errors.New("it is of another issuer")
	}
	audience, err := c.list("aud")
	if err != nil {
		return err
	}
	if !slices.Contains(audience, o.Audience) {
		return errors.New("it is for another audience")
	}

	expires, found, err := c.seconds("exp")
	if err != nil || !found {
		return errors.Join(errors.New("it has no end"), err)
	}
	if !now.Before(expires.Add(skew)) {
		return errors.New("it has expired")
	}
	for _, name := range []string{"nbf", "iat"} {
		begins, found, err := c.seconds(name)
		if err != nil {
			return err
		}
		if found && now.Add(skew).Before(begins) {
			return errors.New("it is not valid yet")
		}
	}
	return nil
}

// principal returns who a token is of, and what it may do.
func (o *Options) principal(c claims) (p access.Principal, err error) {
	subject, err := c.text("sub")
	if err != nil || subject == "" || len(subject) > maxSubject {
		return p, errors.New("it has no subject, or one that is too long")
	}
	expires, _, _ := c.seconds("exp") // checkClaims has checked it
	p = access.Principal{
		ID:      idOf(o.Issuer, subject),
		Name:    subject,
		Subject: subject,
		Scopes:  access.DefaultScope,
		Expires: expires.Add(skew),
	}
	p.Tenant = p.ID
	if access.CheckName(subject) != nil {
		p.Name = p.ID
	}

	if o.TenantClaim != "" {
		if p.Tenant, err = c.text(o.TenantClaim); err != nil {
			return p, err
		}
		if access.CheckName(p.Tenant) != nil {
			return p, errors.New("its tenant has a name that none can have")
		}
	}
	if o.ScopeClaim != "" {
		values, err := c.list(o.ScopeClaim)
		if err != nil {
			return p, err
		}
		p.Scopes = scopesOf(values)
	}
	if o.ModelsClaim != "" {
		p.Models, err = c.list(o.ModelsClaim)
		switch {
		case err != nil:
			return p, err
		case slices.Contains(p.Models, allModels):
			p.Models = nil
		case len(p.Models) == 0:
			return p, errors.New("it is for no model")
		}
	}
	return p, nil
}

// scopesOf returns the scopes in a claim, of which each value may have several with blanks between them, as scope has.
func scopesOf(values []string) (s access.Scope) {
	for _, value := range values {
		for _, one := range strings.Fields(value) {
			name, ours := strings.CutPrefix(one, scopePrefix)
			if !ours {
				continue
			}
			if scope, err := access.ParseScope([]string{name}); err == nil {
				s |= scope
			}
		}
	}
	return s
}

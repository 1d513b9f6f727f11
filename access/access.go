// Package access knows who may ask the server for what: API keys in a file, what each may be used for, how much, and
// what it has used. It knows no HTTP.
package access

import (
	"context"
	"errors"
	"time"
)

// Why a client has no principal, or no longer.
var (
	ErrUnknown = errors.New("the API key is not known")
	// ErrEnded is the cause of the end of a principal's context.
	ErrEnded = errors.New("the API key was revoked, has expired or was changed")
)

// Principal is who asks. It does not change; a new one takes its place.
type Principal struct {
	ID   string
	Name string
	// Subject is how an issuer or a certificate names the principal; "" for a key with a secret.
	Subject string
	Tenant  string // never empty
	Scopes  Scope
	Models  []string  // names of those that may be used; none for all
	Expires time.Time // zero for never

	hash        hash
	certificate string // that it is known by; "" for a secret
	session     *session
	account     *Account
	whole       bool // it has a tenant of its own, as every key that was not made for another one
}

// session lasts as long as a principal may do what it may.
type session struct {
	ctx context.Context
	end context.CancelCauseFunc
}

func newSession() *session {
	ctx, end := context.WithCancelCause(context.Background())
	return &session{ctx, end}
}

// Context ends, with ErrEnded as its cause, when the key is revoked, expires, or may do other things than before.
func (p *Principal) Context() context.Context { return p.session.ctx }

// Account counts what the principal uses.
func (p *Principal) Account() *Account { return p.account }

// May reports whether the principal has one of the scopes.
func (p *Principal) May(s Scope) bool { return p.Scopes&s != 0 }

// isExpired reports whether the principal's time is over.
func (p *Principal) isExpired(now time.Time) bool { return isOver(p.Expires, now) }

// Package oidc knows clients by the tokens of an OpenID Connect provider: JSON Web Tokens that its keys have signed. It
// knows no HTTP of clients, and sends nothing to the provider but requests for its keys.
package oidc

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"serve/access"
)

// algorithms are those by which a token may be signed. None of them has a secret that both sides know.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// skew is how much the clocks of the provider and of this machine may differ.
const skew = 30 * time.Second

// leastRSA is how long an RSA key has to be, in bits.
const leastRSA = 2048

// Options configure a Verifier. Issuer and Audience are required.
type Options struct {
	Issuer   string // the URL that tokens have as iss, and where its keys are found without KeyFile
	Audience string // one of those that tokens are for (aud)
	KeyFile  string // the provider's keys, a JSON Web Key Set; "" to fetch them from the provider

	// Names of claims; "" for none. A claim that is named has to be in every token.
	TenantClaim string
	ScopeClaim  string // with serve:inference, serve:models, …
	ModelsClaim string // names of models, or * for all

	Limits   access.Limits // of each subject
	Failures int           // wrong tokens from an address in a minute, access.DefaultFailures
	// Transport is how the provider is reached; not needed with a KeyFile.
	Transport http.RoundTripper
	UsageFile string       // as in access.GuestOptions
	Log       *slog.Logger // slog.Default()
}

// Check returns an error about what the user has given.
func (o *Options) Check() error {
	switch {
	case !o.IsSet():
		return nil
	case o.Issuer == "":
		return errors.New("--oidc-issuer is required: it says whose tokens are accepted")
	case o.Audience == "":
		return errors.New("--oidc-audience is required: tokens that are meant for others must not be accepted")
	case !isSafe(o.Issuer):
		return fmt.Errorf("--oidc-issuer %q must be an https URL without a query", o.Issuer)
	}
	return nil
}

// IsSet reports whether anything is configured.
func (o *Options) IsSet() bool {
	return o.Issuer != "" || o.Audience != "" || o.KeyFile != "" || o.TenantClaim != "" || o.ScopeClaim != "" ||
		o.ModelsClaim != "" || o.Limits != access.Limits{}
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	*access.Guests
	opts Options
	keys *keySet
}

// Open returns a verifier, which the caller closes. A provider that does not answer is asked again later; a file must
// have keys.
func Open(ctx context.Context, o Options) (*Verifier, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	v := &Verifier{opts: o}
	v.keys = newKeySet(&v.opts)
	if err := v.keys.refresh(ctx); err != nil {
		if o.KeyFile != "" {
			return nil, fmt.Errorf("--oidc-jwks: %w", err)
		}
		o.Log.Error("the keys of the OIDC issuer are not known yet", "error", err)
	}
	v.Guests = access.OpenGuests(access.GuestOptions{
		Limits:    o.Limits,
		Failures:  o.Failures,
		UsageFile: o.UsageFile,
		Log:       o.Log,
	})
	return v, nil
}

// Authenticate returns the principal of a token that has come from an address. The error is an access.ErrUnknown, which
// does not say what is wrong with the token, or after too many of these an access.FailuresError.
func (v *Verifier) Authenticate(ctx context.Context, token, address string) (*access.Principal, error) {
	who, err := v.verify(ctx, token)
	if err != nil {
		v.opts.Log.Debug("a token is not accepted", "error", err) // nothing of the token is in it
		return nil, v.Failure(address)
	}
	return v.Admit(token, who), nil
}

// verify returns who a token is of.
func (v *Verifier) verify(ctx context.Context, token string) (who access.Principal, err error) {
	if len(token) > access.MaxSecret*2 {
		return who, errors.New("it is too long")
	}
	signed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return who, errors.New("it is no token, or its algorithm is not accepted")
	}
	header := signed.Signatures[0].Protected
	if kind, _ := header.ExtraHeaders[jose.HeaderType].(string); !isTokenType(kind) {
		return who, errors.New("it is a token of another kind")
	}

	text, err := v.keys.verify(ctx, signed, header.KeyID, header.Algorithm)
	if err != nil {
		return who, err
	}
	c, err := parseClaims(text)
	if err != nil {
		return who, err
	}
	if err := v.opts.checkClaims(c, time.Now()); err != nil {
		return who, err
	}
	return v.opts.principal(c)
}

// isTokenType reports whether a token's type is that of ID tokens or of access tokens.
func isTokenType(kind string) bool {
	switch strings.TrimPrefix(strings.ToLower(kind), "application/") {
	case "", "jwt", "at+jwt":
		return true
	}
	return false
}

// isUsable reports whether a key may verify tokens.
func isUsable(k *jose.JSONWebKey) bool {
	if !k.Valid() || !k.IsPublic() || k.Use != "" && k.Use != "sig" {
		return false
	}
	if r, ok := k.Key.(*rsa.PublicKey); ok && r.N.BitLen() < leastRSA {
		return false
	}
	return true
}

// idOf returns the id of a subject. It is that of no key.
func idOf(issuer, subject string) string {
	sum := sha256.Sum256([]byte(issuer + "\x00" + subject))
	return "oidc_" + hex.EncodeToString(sum[:12])
}

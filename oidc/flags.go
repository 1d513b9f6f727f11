package oidc

import "serve/flagset"

// Declare declares the flags that configure a Verifier.
func (o *Options) Declare(f flagset.Set) {
	f.Text(&o.Issuer, "oidc-issuer", "",
		"`URL` of an OpenID Connect provider whose tokens clients may send as keys; its keys are fetched from there")
	f.Text(&o.Audience, "oidc-audience", "", "`name` of this server in such tokens (aud)")
	f.Text(&o.KeyFile, "oidc-jwks", "", "`file` with the provider's keys (JWKS), in place of fetching them")
	f.Text(&o.TenantClaim, "oidc-tenant-claim", "", "`claim` with a token's tenant; by default each subject is one")
	f.Text(&o.ScopeClaim, "oidc-scope-claim", "",
		"`claim` with a token's scopes, such as serve:admin; by default inference and models")
	f.Text(&o.ModelsClaim, "oidc-models-claim", "", "`claim` with the models that a token may use; by default all")
	o.Limits.Declare(f, "oidc-", " of each subject of such tokens")
}

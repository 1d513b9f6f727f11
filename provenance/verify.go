package provenance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"serve/flagset"
	"serve/models"
	"serve/oms"
	"serve/policy"
)

// VerifyOptions are the flags of serve verify.
type VerifyOptions struct {
	oms       bool
	signature string
	keys      []string
	roots     string
	identity  string
	lenient   bool
}

// Declare declares the flags.
func (o *VerifyOptions) Declare(f flagset.Set) {
	f.Toggle(&o.oms, "oms", false, "verify the signatures of models, files or folders, too (OpenSSF Model Signing)")
	f.Text(&o.signature, "signature", "", "`file` of the signature; by default model.sig in a folder, FILE.sig or "+
		"model.sig beside a file, and for a model the one that serve sign has made, or that of its repository")
	f.List(&o.keys, "public-key", "PEM `file` of a public key whose signatures hold: P-256, P-384 or P-521")
	f.Text(&o.roots, "cert-chain", "", "PEM `file` of the authorities of certificates whose signatures hold")
	f.Text(&o.identity, "identity", "",
		"`name` that must be in the signer's certificate: URI, DNS name, e-mail or common name")
	f.Toggle(&o.lenient, "ignore-unsigned-files", false, "accept files in a folder that are not signed")
}

// Verified is the result of verifying a model.
type Verified struct {
	Name     string   `json:"name"`
	OK       bool     `json:"ok"`
	Unknown  int      `json:"files_without_known_hash"`
	SignedBy string   `json:"signed_by,omitempty"` // the fingerprint of the key
	Names    []string `json:"signer_names,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// verification is a run of serve verify.
type verification struct {
	*Provenance
	VerifyOptions
	trust  oms.Trust
	list   []Verified
	failed error
	todo   string
}

// Verify checks models by name, or all on this machine, even if one is damaged, and fails at the end.
func (c *Provenance) Verify(ctx context.Context, o VerifyOptions, names []string) error {
	v := &verification{
		Provenance:    c,
		VerifyOptions: o,
		list:          []Verified{},
		todo:          "copy or download the damaged files again",
	}
	if err := v.readTrust(names); err != nil {
		return usageError{err}
	}
	if err := v.verifyAll(ctx, names); err != nil {
		return err
	}

	if c.JSON {
		if err := c.Terminal.PrintJSON(v.list); err != nil {
			return err
		}
	}
	if v.failed != nil {
		return &errVerify{v.failed, v.todo}
	}
	return nil
}

// readTrust reads whose signatures hold.
func (v *verification) readTrust(names []string) error {
	if !v.oms {
		if v.signature != "" || len(v.keys) > 0 || v.roots != "" || v.identity != "" || v.lenient {
			return errors.New("flags for signatures need --oms")
		}
		return nil
	}

	switch {
	case len(v.keys) == 0 && v.roots == "":
		return errors.New("--oms needs --public-key or --cert-chain: whose signatures hold")
	case v.identity != "" && (v.roots == "" || len(v.keys) > 0):
		return errors.New("--identity is for certificates: it needs --cert-chain, and no --public-key")
	case v.signature != "" && len(names) != 1:
		return errors.New("--signature is for one model")
	}

	for _, name := range v.keys {
		key, err := oms.ReadPublicKey(name)
		if err != nil {
			return fmt.Errorf("--public-key: %w", err)
		}
		v.trust.Keys = append(v.trust.Keys, key)
	}

	if v.roots != "" {
		var err error
		if v.trust.Roots, err = oms.ReadRoots(v.roots); err != nil {
			return fmt.Errorf("--cert-chain: %w", err)
		}
	}

	return nil
}

// verifyAll verifies models and folders.
func (v *verification) verifyAll(ctx context.Context, names []string) error {
	var folders, rest []string
	for _, name := range names {
		if v.oms && isFolder(name) {
			folders = append(folders, name)
		} else {
			rest = append(rest, name)
		}
	}
	for _, folder := range folders {
		signer, err := v.folder(ctx, folder)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v.report(Verified{Name: folder}, signer, byName(folder, err))
	}
	if len(folders) > 0 && len(rest) == 0 {
		return nil
	}

	locals, err := v.Library.FindAll(rest)
	if err != nil {
		return err
	}
	if len(locals) == 0 && !v.JSON {
		v.Terminal.Note("no models to verify")
	}
	for _, local := range locals {
		unknown, err := v.Library.Store.Examine(ctx, local)
		var signer *oms.Signer
		if err == nil && v.oms {
			signer, err = v.model(ctx, local)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && local.Repo != "" && !errors.Is(err, oms.ErrSignature) {
			v.todo = "remove damaged models with serve rm, and pull them again"
		}
		v.report(Verified{Name: local.Name, Unknown: unknown}, signer, err)
	}
	return nil
}

// folder verifies a folder as a whole.
func (v *verification) folder(ctx context.Context, name string) (*oms.Signer, error) {
	tree := oms.Tree{Root: name, Signature: v.signature}
	if tree.Signature == "" {
		tree.Signature = filepath.Join(name, "model.sig")
	}
	s, err := oms.ReadFile(tree.Signature)
	if err != nil {
		return nil, err
	}
	m, signer, err := s.Verify(v.trust)
	if err != nil {
		return nil, err
	}
	if err := signer.Is(v.identity); err != nil {
		return nil, err
	}
	return signer, m.CheckTree(ctx, tree, v.lenient)
}

// model verifies the signature of a model whose hashes were verified.
func (v *verification) model(ctx context.Context, local *models.Local) (*oms.Signer, error) {
	c, err := local.Candidate()
	if err != nil {
		return nil, err
	}
	return policy.SignedBy(ctx, c, v.Library.Store.Home, v.trust, v.identity, v.signature)
}

// report prints a result and keeps it.
func (v *verification) report(r Verified, signer *oms.Signer, err error) {
	r.OK = err == nil
	if err == nil && signer != nil {
		r.SignedBy = signer.Key
		r.Names = signer.Names
	}

	switch {
	case errors.Is(err, oms.ErrSignature):
		r.Error = err.Error()
		v.Terminal.Fact("unsigned", "%s: %v", r.Name, err)
		v.failed = errors.Join(v.failed, err)
		v.todo = "do not use it, or ask whoever publishes it for the right key or signature"
	case err != nil:
		r.Error = err.Error()
		v.Terminal.Fact("damaged", "%s: %v", r.Name, err)
		v.failed = errors.Join(v.failed, err)
	case signer != nil:
		by := "the key " + signer.Key
		if len(signer.Names) > 0 {
			by = strings.Join(signer.Names, ", ") + ", " + by
		}
		v.Terminal.Fact("signed", "%s: by %s", r.Name, by)
	case r.Unknown > 0:
		v.Terminal.Fact("readable", "%s: its hash is unknown", r.Name)
	default:
		v.Terminal.Fact("intact", "%s", r.Name)
	}

	v.list = append(v.list, r)
}

// errVerify has a short text, and the kinds of all errors that it wraps.
type errVerify struct {
	error
	todo string
}

func (e *errVerify) Error() string {
	if errors.Is(e.error, oms.ErrSignature) {
		return "some models are damaged, or not signed as they must be"
	}
	return "some models are damaged"
}
func (e *errVerify) Unwrap() error { return e.error }

// Hint says what to do about the error.
func (e *errVerify) Hint() string { return e.todo }

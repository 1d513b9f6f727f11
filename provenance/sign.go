package provenance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"serve/flagset"
	"serve/hub"
	"serve/models"
	"serve/oms"
	"serve/policy"
)

// SignOptions are the flags of serve sign.
type SignOptions struct {
	key     string
	chain   string
	output  string
	ignored []string
	links   bool
}

// Declare declares the flags.
func (o *SignOptions) Declare(f flagset.Set) {
	f.Text(&o.key, "key", "", "PEM `file` of the private key to sign with: P-256, P-384 or P-521")
	f.Text(&o.chain, "cert-chain", "",
		"PEM `file` with the certificate of the key, followed by those between it and the root")
	f.Text(&o.output, "output", "", "`file` to write; by default model.sig in a folder, FILE.sig beside a file, "+
		"and for a model its place in serve's own data folder")
	f.List(&o.ignored, "ignore-path", "`path` in a folder that is not part of the model")
	f.Toggle(&o.links, "allow-symlinks", false, "sign the files that symbolic links in a folder lead to")
}

// signed is what serve sign prints.
type signed struct {
	Model     string   `json:"model"`
	Files     []string `json:"files"`
	Signature string   `json:"signature"` // the file
	Key       string   `json:"key"`       // its fingerprint
}

// Sign signs a model by its name, a file or a folder.
func (c *Provenance) Sign(ctx context.Context, o SignOptions, name string) error {
	id, err := o.identity()
	if err != nil {
		return usageError{err}
	}
	m, place, err := c.manifest(ctx, o, name)
	if err != nil {
		return err
	}
	if err := mayReplace(place); err != nil {
		return err
	}
	text, err := id.Sign(m)
	if err != nil {
		return usageError{err}
	}
	if err := hub.WriteFile(place, text, 0o644); err != nil {
		return fmt.Errorf("write the signature: %w", err)
	}

	done := signed{Model: name, Files: m.Files(), Signature: place, Key: oms.Fingerprint(&id.Key.PublicKey)}
	if c.JSON {
		return c.Terminal.PrintJSON(done)
	}
	for _, file := range done.Files {
		c.Terminal.Fact("signed", "%s", file)
	}
	c.Terminal.Fact("written", "%s, by the key %s", place, done.Key)
	return nil
}

// identity reads what to sign with.
func (o *SignOptions) identity() (id oms.Identity, err error) {
	if o.key == "" {
		return id, errors.New("--key names the private key to sign with; openssl ecparam -name prime256v1 -genkey makes one")
	}
	if id.Key, err = oms.ReadPrivateKey(o.key); err != nil {
		return id, fmt.Errorf("--key: %w", err)
	}
	if o.chain != "" {
		if id.Chain, err = oms.ReadCertificates(o.chain); err != nil {
			return id, fmt.Errorf("--cert-chain: %w", err)
		}
	}
	return id, nil
}

// manifest hashes what is to be signed, and returns where the signature belongs.
func (c *Provenance) manifest(ctx context.Context, o SignOptions, name string) (*oms.Manifest, string, error) {
	if isFolder(name) {
		if err := oms.CheckIgnored(o.ignored); err != nil {
			return nil, "", usageError{fmt.Errorf("--ignore-path: %w", err)}
		}
		tree := oms.Tree{Root: name, Signature: o.output, IgnorePaths: o.ignored, AllowSymlinks: o.links}
		if tree.Signature == "" {
			tree.Signature = filepath.Join(name, "model.sig")
		}
		m, err := tree.Manifest(ctx, 0)
		return m, tree.Signature, byName(name, err)
	}
	if len(o.ignored) > 0 || o.links {
		return nil, "", usageError{errors.New("--ignore-path and --allow-symlinks are for folders")}
	}

	candidate, err := c.examine(ctx, name, true)
	if err != nil {
		return nil, "", err
	}
	var files []oms.Content
	for _, f := range candidate.Files {
		open := func() (io.ReadCloser, error) { return os.Open(f.Place) }
		files = append(files, oms.Content{Name: f.Path, SHA256: f.SHA256, Open: open})
	}
	m, err := oms.NewManifest(ctx, filepath.Base(name), oms.Serialization{}, files)
	if err != nil {
		return nil, "", err
	}

	first := candidate.Files[0]
	switch {
	case o.output != "":
		return m, o.output, nil
	case candidate.Repo == "" && first.SHA256 == "": // a file of one's own
		return m, first.Place + ".sig", nil
	}
	sum, _ := m.Digest(first.Path)
	return m, policy.SignatureFile(c.Library.Store.Home, sum), nil
}

// isFolder reports whether a name is one of a folder. One that exists takes precedence over a name in the catalog, as
// files do.
func isFolder(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// byName adds advice to an error about links.
func byName(folder string, err error) error {
	if !errors.Is(err, oms.ErrSignature) || !strings.Contains(filepath.ToSlash(folder), "/snapshots/") {
		return err
	}
	return &models.Error{
		Kind: oms.ErrSignature,
		Text: err.Error(),
		Todo: "in the cache of the Hub, files are links: give the model's name instead of its folder",
	}
}

// examine verifies the hashes of a model on this machine. With again, all bytes are read.
func (c *Provenance) examine(ctx context.Context, name string, again bool) (*models.Candidate, error) {
	local, err := c.Library.Find(name)
	if err != nil {
		return nil, err
	}
	if _, err := c.Library.Store.Verify(ctx, local, again); err != nil {
		return nil, err
	}
	return local.Candidate()
}

// mayReplace refuses to write over what is no signature.
func mayReplace(place string) error {
	_, err := oms.ReadFile(place)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return usageError{fmt.Errorf("%s is there and is no signature; --output names another file", place)}
}
